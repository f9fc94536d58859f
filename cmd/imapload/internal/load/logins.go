//go:build linux

package load

import (
	"context"
	"crypto/tls"
	"math/rand/v2"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"
)

// Logins is load by clients that connect, log in and log out.
type Logins struct {
	Workers  int
	WarmUp   time.Duration
	Duration time.Duration
	Resume   bool    // TLS sessions are resumed
	Rate     float64 // logins a second, whether the last ones are done or not; 0: as many as can be
}

// latencies are those of a worker's logins.
type latencies struct {
	login     []time.Duration // from the moment a login was due to its OK
	handshake []time.Duration // to the greeting
}

// Logins measures logins: per_s, cpu_ms, p50_ms and so on, handshake_p50_ms and so on, resumed.
func (l *Load) Logins(ctx context.Context, kind Logins) (*Result, error) {
	// Little lives long here; a generator that collects garbage all the time would be
	// the limit too early.
	defer debug.SetGCPercent(debug.SetGCPercent(800))
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		workers   sync.WaitGroup
		failed    failures
		measuring atomic.Bool
		resumed   atomic.Int64
		count     atomic.Int64
		mu        sync.Mutex
		all       latencies
		due       chan time.Time
		dropped   int
	)
	defer workers.Wait()
	defer cancel() // before that
	if kind.Rate > 0 {
		due = make(chan time.Time, 1<<16)
		workers.Go(func() { dropped = schedule(ctx, kind.Rate, due) })
	}
	for range kind.Workers {
		workers.Go(func() {
			conf := l.tlsConfig()
			if kind.Resume {
				conf.ClientSessionCache = tls.NewLRUClientSessionCache(4)
			}
			var mine latencies
			first := kind.Resume // there is nothing to resume yet
			for ctx.Err() == nil {
				begin := time.Now()
				if due != nil {
					select {
					case begin = <-due:
					case <-ctx.Done():
						continue
					}
				}
				greeted, done, again, err := l.visit(ctx, conf)
				switch {
				case ctx.Err() != nil:
				case err != nil:
					failed.add(err)
					_ = pause(ctx, time.Millisecond) // no storm against what is broken
				case first:
					first = false
				case measuring.Load():
					count.Add(1)
					mine.login = append(mine.login, done.Sub(begin))
					mine.handshake = append(mine.handshake, greeted.Sub(begin))
					if again {
						resumed.Add(1)
					}
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all.login = append(all.login, mine.login...)
			all.handshake = append(all.handshake, mine.handshake...)
		})
	}
	if err := pause(ctx, kind.WarmUp); err != nil {
		return nil, err
	}
	r := newResult()
	m := l.startMeter()
	measuring.Store(true)
	err := l.measure(ctx, kind.Duration, &count)
	measuring.Store(false)
	wall, cpu := m.stop(r)
	cancel()
	workers.Wait()
	if err != nil {
		return nil, err
	}
	n := float64(len(all.login))
	r.Figures["per_s"] = n / wall
	if n > 0 {
		r.Figures["cpu_ms"] = cpu * 1000 / n
		r.Figures["resumed"] = float64(resumed.Load()) / n
	}
	if kind.Rate > 0 {
		r.Figures["rate"] = kind.Rate
		r.Figures["dropped"] = float64(dropped)
	}
	r.latency("", all.login)
	r.latency("handshake_", all.handshake)
	failed.fill(r)
	return r, nil
}

// visit logs in and out. It returns when the greeting and the login's OK came, and
// whether the TLS session was resumed.
func (l *Load) visit(ctx context.Context, conf *tls.Config) (greeted, done time.Time, resumed bool, err error) {
	c, err := l.dial(ctx, conf, 512)
	if err != nil {
		return greeted, done, false, err
	}
	defer c.close()
	greeted = time.Now()
	resumed = c.tls.ConnectionState().DidResume
	if err := l.login(c); err != nil {
		return greeted, done, resumed, err
	}
	done = time.Now()
	return greeted, done, resumed, c.do("LOGOUT")
}

// schedule says when logins are due, at random moments, until ctx ends. It returns
// how many found the queue full.
func schedule(ctx context.Context, rate float64, due chan<- time.Time) (dropped int) {
	next := time.Now()
	for pause(ctx, time.Until(next)) == nil {
		for now := time.Now(); !next.After(now); {
			select {
			case due <- next:
			default:
				dropped++
			}
			next = next.Add(time.Duration(rand.ExpFloat64() / rate * float64(time.Second))) //nolint:gosec // no secret
		}
	}
	return dropped
}

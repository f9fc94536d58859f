//go:build linux

package load

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// Ping is load by clients that each send a NOOP as soon as the last one is answered.
type Ping struct {
	Connections int
	WarmUp      time.Duration
	Duration    time.Duration
}

// Ping measures round trips: per_s, cpu_us, p50_ms and so on.
func (l *Load) Ping(ctx context.Context, kind Ping) (*Result, error) {
	clients, err := l.openAll(ctx, kind.Connections, 512)
	if err != nil {
		return nil, err
	}
	var (
		group           sync.WaitGroup
		failed          failures
		measuring, stop atomic.Bool
		mu              sync.Mutex
		all             []time.Duration
		count           atomic.Int64
	)
	defer closeAll(clients)
	defer group.Wait()
	defer stop.Store(true)
	for _, c := range clients {
		group.Go(func() {
			var mine []time.Duration
			for !stop.Load() {
				begin := time.Now()
				if err := c.do("NOOP"); err != nil {
					failed.add(err)
					return
				}
				if measuring.Load() {
					count.Add(1)
					mine = append(mine, time.Since(begin))
				}
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
		})
	}
	if err := pause(ctx, kind.WarmUp); err != nil {
		return nil, err
	}
	r := newResult()
	m := l.startMeter()
	measuring.Store(true)
	err = l.measure(ctx, kind.Duration, &count)
	measuring.Store(false)
	wall, cpu := m.stop(r)
	stop.Store(true)
	group.Wait()
	failed.fill(r)
	if err != nil {
		return nil, err
	}
	if r.Errors > 0 {
		return nil, errors.New(r.FirstError)
	}
	r.Figures["per_s"] = float64(len(all)) / wall
	r.Figures["cpu_us"] = cpu * 1e6 / float64(max(1, len(all)))
	r.latency("", all)
	return r, nil
}

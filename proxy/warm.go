package proxy

import (
	"context"
	"errors"
	"math"
	"sync"
	"time"

	"go.uber.org/zap"
)

// warmAge is how long a warm connection may wait for its login. It is well below
// what servers give a client to log in (Dovecot: three minutes, RFC 9051, Section
// 5.4: thirty are for those who have), and a firewall forgets none by then.
const warmAge = time.Minute

// stock is the warm connections to one backend: TLS, greeting and capabilities are
// behind them, so that a login costs one round trip. It follows the logins: it
// holds as many connections as come in while one is being opened, and nothing once
// none has come for warmAge. The oldest goes first, so that none grows old while
// logins come. What has carried one login, or a part of one, never comes back.
type stock struct {
	b    *Backend
	wake chan struct{} // has room for one: there is something to do

	mu      sync.Mutex
	idle    []warmConn // oldest first
	opening int
	failed  time.Time // when one could not be opened
	logins  float64   // recent ones, as of last; see rate
	last    time.Time // when the last login came
	closed  bool      // nothing is added any more

	opens, answers movingAverage // how long opening one takes, and the login before that
}

type warmConn struct {
	bc    *backendConn
	since time.Time
}

// Results of logins at a backend that has a stock, for metrics.
const (
	warmHit   = "hit"   // went through a warm connection
	warmMiss  = "miss"  // there was none
	warmStale = "stale" // the backend had closed it without a sign of it
)

// rateWindow is over what time the rate of logins is taken: a storm that begins has
// its connections soon, and those that a short heap leaves behind are used up later.
const rateWindow = time.Second

// rate returns the logins a second, of which recent ones count more. mu is held.
func (st *stock) rate(now time.Time) float64 {
	return st.logins * math.Exp(-now.Sub(st.last).Seconds()/rateWindow.Seconds()) / rateWindow.Seconds()
}

// note counts a login. mu is held.
func (st *stock) note(now time.Time) {
	st.logins = st.rate(now)*rateWindow.Seconds() + 1
	st.last = now
}

// want returns how many connections there should be: as many as logins come until
// one that was taken is replaced, with room for logins that come in heaps, and one
// more. mu is held.
func (st *stock) want(now time.Time) int {
	if now.Sub(st.last) >= warmAge {
		return 0
	}
	meanwhile := st.rate(now) * (st.answers.value() + st.opens.value()).Seconds()
	return min(st.b.Warm, 1+int(meanwhile+2*math.Sqrt(meanwhile)))
}

// take returns the connection that has waited longest, nil when there is none. One
// on which something has come in meanwhile, be it its end, is of no use: nothing
// was asked.
func (st *stock) take() *backendConn {
	now, current := time.Now(), st.b.tlsConfig() // its files may have changed
	for first := true; ; first = false {
		st.mu.Lock()
		if first {
			st.note(now)
		}
		if len(st.idle) == 0 {
			st.mu.Unlock()
			return nil
		}
		w := st.idle[0]
		st.idle = st.idle[1:]
		st.mu.Unlock()
		if now.Sub(w.since) < warmAge && w.bc.config == current && quiet(w.bc.raw) {
			return w.bc
		}
		w.bc.close()
	}
}

// begin returns how many connections are to be opened now, and counts them as
// being opened.
func (st *stock) begin(now time.Time) int {
	st.mu.Lock()
	defer st.mu.Unlock()
	if now.Sub(st.failed) < retryPause {
		return 0 // a backend in trouble is not to be asked by every login twice
	}
	n := max(0, st.want(now)-len(st.idle)-st.opening)
	st.opening += n
	return n
}

// add ends the opening of a connection: bc is one that is ready, nil if there is
// none.
func (st *stock) add(bc *backendConn, took time.Duration) {
	now := time.Now()
	st.mu.Lock()
	st.opening--
	keep := bc != nil && !st.closed
	switch {
	case keep:
		st.opens.add(took)
		st.idle = append(st.idle, warmConn{bc, now})
	case bc == nil:
		st.failed = now
	}
	st.mu.Unlock()
	if bc != nil && !keep {
		bc.close()
	}
	st.poke() // it expires some day
}

// expire closes the connections that have waited for long, and returns how long the
// next one has, nil when there is none.
func (st *stock) expire(now time.Time) *time.Duration {
	st.mu.Lock()
	n := 0
	for n < len(st.idle) && now.Sub(st.idle[n].since) >= warmAge {
		n++
	}
	gone := st.idle[:n]
	st.idle = st.idle[n:]
	var next *time.Duration
	if len(st.idle) > 0 {
		next = new(warmAge - now.Sub(st.idle[0].since))
	}
	st.mu.Unlock()
	for _, w := range gone {
		w.bc.close()
	}
	return next
}

// clear closes all that wait.
func (st *stock) clear() {
	st.mu.Lock()
	gone := st.idle
	st.idle = nil
	st.mu.Unlock()
	for _, w := range gone {
		w.bc.close()
	}
}

// close closes all that wait, and lets nothing wait any more.
func (st *stock) close() {
	st.mu.Lock()
	st.closed = true
	st.mu.Unlock()
	st.clear()
}

func (st *stock) size() int {
	st.mu.Lock()
	defer st.mu.Unlock()
	return len(st.idle)
}

// poke asks the stock's keeper to look.
func (st *stock) poke() {
	select {
	case st.wake <- struct{}{}:
	default: // it has been asked
	}
}

// newStocks returns an empty stock for each backend that is to have one. A PROXY
// header names one client, so that no connection that begins with one can wait for
// another.
func newStocks(cfg *Config) map[*Backend]*stock {
	stocks := make(map[*Backend]*stock)
	for _, b := range cfg.Backends {
		if b.Warm > 0 && b.ProxyProtocol == 0 {
			stocks[b] = &stock{b: b, wake: make(chan struct{}, 1)}
		}
	}
	return stocks
}

// stock returns the stock of a backend, nil when there is none. A backend that is
// configured anew is another one, and has another stock.
func (s *Server) stock(b *Backend) *stock {
	if stocks := s.stocks.Load(); stocks != nil {
		return (*stocks)[b]
	}
	return nil
}

// WarmConnections returns how many connections wait for a login, by the names of
// the backends that may have some.
func (s *Server) WarmConnections() map[string]int {
	sizes := make(map[string]int)
	if stocks := s.stocks.Load(); stocks != nil {
		for b, st := range *stocks {
			sizes[b.Name] = st.size()
		}
	}
	return sizes
}

// keepStock looks after a stock until ctx ends, and closes it then.
func (s *Server) keepStock(ctx context.Context, cfg *Config, st *stock) {
	var opening sync.WaitGroup
	defer opening.Wait()
	defer st.close()
	for {
		now := time.Now()
		next := st.expire(now)
		if s.live.isDown(st.b.Name) {
			st.clear()
		} else {
			for range st.begin(now) {
				opening.Go(func() { s.openWarm(ctx, cfg, st) })
			}
		}
		if !s.pause(ctx, next, st.wake) {
			return
		}
	}
}

// openWarm opens one connection for a stock.
func (s *Server) openWarm(ctx context.Context, cfg *Config, st *stock) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, cfg.BackendTimeout)
	defer cancel()
	bc, fail := s.connect(ctx, cfg, st.b, nil)
	if fail == nil && (bc.in.Buffered() > 0 || !bc.release()) {
		bc.close()
		fail = unreached("login/greeting", errors.New("not quiet behind its greeting"))
	}
	if fail != nil {
		bc = nil
		if ctx.Err() == nil {
			s.metrics.BackendFailed(st.b.Name, fail.reason)
			s.log.Debug("warm connection not opened", zap.String("backend", st.b.Name), zap.String("state", fail.state), zap.Error(fail.err))
		}
	} else {
		bc.warm = true
		// A backend that died without a word is noticed in the time that
		// connecting to it would have taken, when a login is not acknowledged.
		setUserTimeout(bc.raw, cfg.ConnectTimeout)
	}
	st.add(bc, time.Since(began))
}

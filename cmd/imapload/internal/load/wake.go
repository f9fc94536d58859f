//go:build linux

package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"imapgate/cmd/imapload/internal/fake"
)

// Wake is load by sessions that idle while mail arrives at one after the other.
type Wake struct {
	Sessions int
	Workers  int           // open them
	Settle   time.Duration // from the last login on
	Rest     time.Duration // how long nothing happens, to see what that costs
	Rate     float64       // arrivals a second
	Duration time.Duration
	Control  string // the control port of the fake backend
}

// Wake measures arrivals: sent, received, cpu_s_10k, rest_use.
func (l *Load) Wake(ctx context.Context, kind Wake) (*Result, error) {
	r := newResult()
	clients := l.openIdle(ctx, kind.Sessions, kind.Workers, r)
	var readers sync.WaitGroup
	var got atomic.Int64
	defer readers.Wait()
	defer closeAll(clients)
	for _, c := range clients {
		readers.Go(func() {
			for {
				if _, err := c.in.ReadSlice('\n'); err != nil {
					return
				}
				got.Add(1)
			}
		})
	}
	if err := pause(ctx, kind.Settle); err != nil {
		return nil, err
	}
	rest := newResult()
	m := l.startMeter()
	err := pause(ctx, kind.Rest)
	m.stop(rest)
	if err != nil {
		return nil, err
	}
	m = l.startMeter()
	sent, err := fake.AskPush(ctx, kind.Control, kind.Rate, kind.Duration)
	if err != nil {
		return nil, fmt.Errorf("ask the backend for mail: %w", err)
	}
	for end := time.Now().Add(l.timeout()); got.Load() < sent && time.Now().Before(end); {
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return nil, err
		}
	}
	_, cpu := m.stop(r)
	r.Figures["open"] = float64(len(clients))
	r.Figures["sent"] = float64(sent)
	r.Figures["received"] = float64(got.Load())
	r.Figures["rest_use"] = rest.Figures["target_use"]
	if sent == 0 {
		return nil, fmt.Errorf("no session idled: %s", r.FirstError)
	}
	if missing := sent - got.Load(); missing > 0 {
		return nil, fmt.Errorf("%d of %d arrivals were not passed on", missing, sent)
	}
	r.Figures["cpu_s_10k"] = cpu / float64(sent) * 10_000
	return r, nil
}

//go:build linux

package load

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"imapgate/cmd/imapload/internal/procfs"
)

// Idle is load by clients that log in and idle.
type Idle struct {
	Sessions int
	Workers  int           // open them
	Settle   time.Duration // from the last login to the reading

	// If Uploaders is not 0, as many of the sessions then send a mail of this size,
	// idle again, and memory is read once more after Silence.
	Uploaders  int
	UploadSize int64
	Silence    time.Duration
}

// Idle measures memory: open, base_bytes, session_bytes (proportional set size, less
// that of the proxy without sessions, over the sessions), session_rss_bytes, and with
// uploads uploaded_session_bytes, from a second reading.
func (l *Load) Idle(ctx context.Context, kind Idle) (*Result, error) {
	r := newResult()
	base := procfs.ReadMemory(l.TargetPIDs)
	m := l.startMeter()
	clients := l.openIdle(ctx, kind.Sessions, kind.Workers, r)
	defer closeAll(clients)
	r.Figures["open_s"] = time.Since(m.began).Seconds()
	if err := pause(ctx, kind.Settle); err != nil {
		return nil, err
	}
	n := float64(len(clients))
	if n == 0 {
		return nil, fmt.Errorf("no session could be opened: %s", r.FirstError)
	}
	settled := procfs.ReadMemory(l.TargetPIDs)
	r.Figures["open"] = n
	r.Figures["base_bytes"] = float64(base.PSS)
	r.Figures["session_bytes"] = float64(settled.PSS-base.PSS) / n
	r.Figures["session_rss_bytes"] = float64(settled.RSS-base.RSS) / n
	if kind.Uploaders > 0 {
		mail := make([]byte, 64<<10)
		for _, c := range clients[:min(kind.Uploaders, len(clients))] {
			err := c.done()
			if err == nil {
				err = c.upload(kind.UploadSize, mail, func(int) {})
			}
			if err == nil {
				err = c.idle()
			}
			if err != nil {
				return nil, err
			}
		}
		if err := pause(ctx, kind.Silence); err != nil {
			return nil, err
		}
		r.Figures["uploaded_session_bytes"] = float64(procfs.ReadMemory(l.TargetPIDs).PSS-base.PSS) / n
	}
	m.stop(r)
	return r, nil
}

// openIdle opens sessions that idle. Those that fail are counted in r.
func (l *Load) openIdle(ctx context.Context, sessions, workers int, r *Result) []*client {
	var (
		group  sync.WaitGroup
		failed failures
		begun  atomic.Int64
		mu     sync.Mutex
		open   []*client
	)
	for range workers {
		group.Go(func() {
			for ctx.Err() == nil && begun.Add(1) <= int64(sessions) {
				c, err := l.open(ctx, 512, "SELECT INBOX")
				if err == nil {
					if err = c.idle(); err != nil {
						c.close()
					}
				}
				if err != nil {
					failed.add(err)
					continue
				}
				mu.Lock()
				open = append(open, c)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	failed.fill(r)
	return open
}

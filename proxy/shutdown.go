package proxy

import (
	"context"
	"slices"
	"time"
)

// Drain makes [Server.Draining] true, for load balancers to notice. All are served
// as before.
func (s *Server) Drain() { s.draining.Store(true) }

// Draining says whether the server has been told to drain or to shut down.
func (s *Server) Draining() bool { return s.draining.Load() || s.isClosed() }

// Shutdown stops accepting, says BYE to clients that have not logged in, and ends
// every spliced session with a BYE at a response boundary, the oldest first,
// spread over Config.CloseSpread or what the deadline of ctx leaves of it. It
// waits for all of them. When ctx ends first, what is left is closed without a
// word, and ctx.Err() is returned.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, c := range s.beginClose() {
		c.interrupt()
	}
	done := make(chan struct{})
	go func() {
		s.wg.Wait()
		close(done)
	}()
	s.endAll(ctx, done)
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		err := ctx.Err()
		_ = s.Close()
		<-done
		return err
	}
}

// endAll tells all sessions to end. It returns early when none is left, or ctx
// ends.
func (s *Server) endAll(ctx context.Context, done <-chan struct{}) {
	began := time.Now()
	spread := s.cfg.Load().CloseSpread
	if deadline, ok := ctx.Deadline(); ok {
		// The last one too may need its time to come to a boundary.
		spread = min(spread, deadline.Sub(began)-boundaryTimeout)
	}
	sessions := s.liveSessions()
	slices.SortFunc(sessions, func(a, b *session) int { return a.facts.since.Compare(b.facts.since) })
	for i, ss := range sessions {
		// By the clock, since pauses of microseconds would add up to something else.
		due := began.Add(time.Duration(float64(spread) * float64(i) / float64(len(sessions))))
		if wait := time.Until(due); wait > 0 {
			t := time.NewTimer(wait)
			select {
			case <-t.C:
			case <-done:
			case <-ctx.Done():
			}
			t.Stop()
			if ctx.Err() != nil {
				return
			}
		}
		ss.end(endShutdown)
	}
}

// Close ends everything at once, without a word to the clients, and waits.
func (s *Server) Close() error {
	s.mu.Lock()
	s.aborted = true
	s.mu.Unlock()
	for _, c := range s.beginClose() {
		c.abort()
	}
	for _, ss := range s.liveSessions() {
		ss.abort()
	}
	s.wg.Wait()
	return nil
}

// beginClose stops the listeners, and returns the clients that have not logged in.
func (s *Server) beginClose() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		close(s.closing)
		s.loops.wake() // those without sessions end
	}
	for l := range s.listeners {
		_ = l.Close()
	}
	conns := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		conns = append(conns, c)
	}
	return conns
}

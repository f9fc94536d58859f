package proxy

import "context"

// Probe looks at the backends before the first Serve, which then accepts at once,
// and returns when they were looked at once.
func (s *Server) Probe(ctx context.Context) {
	s.watch(context.WithoutCancel(ctx))
	s.awaitProbe(ctx)
}

// Idle returns a channel that is closed when there is no connection and no session
// any more: at once, if there is none now. It is meant for a server that has no
// listeners left.
func (s *Server) Idle() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle == nil {
		s.idle = make(chan struct{})
	}
	idle := s.idle
	s.noteIdle()
	return idle
}

// noteIdle tells who waits for Idle. mu is held.
func (s *Server) noteIdle() {
	if s.idle != nil && len(s.conns) == 0 && len(s.sessions) == 0 {
		close(s.idle)
		s.idle = nil
	}
}

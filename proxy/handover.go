package proxy

import (
	"context"
	"net/netip"
	"time"
)

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

// FailedLogins is how many logins of an address have failed.
type FailedLogins struct {
	Address netip.Prefix
	Count   int
	Last    time.Time
}

// FailedLogins returns what the delays of failed logins are counted from, for the
// server that takes over from this one.
func (s *Server) FailedLogins() []FailedLogins {
	f := &s.failures
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]FailedLogins, 0, len(f.entries))
	for from, e := range f.entries {
		list = append(list, FailedLogins{Address: from, Count: e.count, Last: e.last})
	}
	return list
}

// RestoreFailedLogins takes over what another server counted. Call it before Serve.
func (s *Server) RestoreFailedLogins(list []FailedLogins) {
	f := &s.failures
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.entries == nil {
		f.entries = make(map[netip.Prefix]failureEntry, len(list))
	}
	for _, l := range list {
		if len(f.entries) < maxFailureEntries {
			f.entries[l.Address] = failureEntry{count: l.Count, last: l.Last}
		}
	}
}

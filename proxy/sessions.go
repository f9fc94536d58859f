package proxy

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"
	"unique"
)

// SessionInfo is one spliced session as an operator sees it.
type SessionInfo struct {
	ID        string // the session id that the backend logs too
	User      string // normalised name
	Backend   string // its name
	Listener  string // its name
	Mechanism string
	TLS       string // version of the client's TLS, "" for none
	Remote    netip.AddrPort
	Since     time.Time
	// FromClient and FromBackend count bytes since the login.
	FromClient, FromBackend int64
	// Ending says why the session is being ended, "" while it is not.
	Ending string
	// PID is the process that has the session, 0 for this one.
	PID int
}

// facts are what never changes about a session.
type facts struct {
	id, user string
	how      unique.Handle[circumstances]
	remote   netip.AddrPort
	since    time.Time
}

// circumstances are those facts that many sessions have in common, and share.
type circumstances struct {
	backend, listener, mechanism, tls string
	master                            string // the master user who logged in
	unauthenticates                   bool   // the backend offers UNAUTHENTICATE
}

func (f *facts) info() SessionInfo {
	how := f.how.Value()
	return SessionInfo{
		ID: f.id, User: f.user, Backend: how.backend, Listener: how.listener, Mechanism: how.mechanism,
		TLS: how.tls, Remote: f.remote, Since: f.since,
	}
}

// Sessions returns the sessions there are, oldest first.
func (s *Server) Sessions() []SessionInfo {
	live := s.liveSessions()
	infos := make([]SessionInfo, 0, len(live))
	for _, ss := range live {
		infos = append(infos, ss.describe())
	}
	slices.SortFunc(infos, func(a, b SessionInfo) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	})
	return infos
}

func (s *Server) liveSessions() []*session {
	s.mu.Lock()
	defer s.mu.Unlock()
	live := make([]*session, 0, len(s.sessions))
	for ss := range s.sessions {
		live = append(live, ss)
	}
	return live
}

// entering is a login from just before its Commit until its session is there:
// whoever ends sessions meanwhile means this one too.
type entering struct {
	info  SessionInfo
	ended *ending // guarded by Server.mu; nil: nobody ended it
}

func (s *Server) enter(info SessionInfo) *entering {
	en := &entering{info: info}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.entering[en] = struct{}{}
	return en
}

func (s *Server) forget(en *entering) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.entering, en)
}

// liveAndEntering returns all sessions, and all that are about to be: each is one
// or the other at any time.
func (s *Server) liveAndEntering() (live []*session, coming []*entering) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ss := range s.sessions {
		live = append(live, ss)
	}
	for en := range s.entering {
		coming = append(coming, en)
	}
	return live, coming
}

// describe returns what is to be seen of the session.
func (s *session) describe() SessionInfo {
	info := s.facts.info()
	info.FromClient, info.FromBackend = s.fromClient.Load(), s.fromBackend.Load()
	if e := s.ending.Load(); e != nil {
		info.Ending = e.reason
	}
	return info
}

// KickOptions say how sessions are ended. The zero value ends all at once.
type KickOptions struct {
	Rate   float64       // sessions a second; 0: no limit
	Spread time.Duration // instead of Rate: all of them within this time
	Reason string        // for the log: "kick"
	Text   string        // for the client, behind BYE and its code
}

// Kick ends the sessions that match, oldest first, each with a BYE at a response
// boundary, and returns how many it told to end. It does not wait until they have ended. When
// ctx ends first, the rest live on, and ctx.Err() is returned.
func (s *Server) Kick(ctx context.Context, match func(SessionInfo) bool, o KickOptions) (int, error) {
	e := &ending{reason: cmp.Or(o.Reason, "kick"), text: "[UNAVAILABLE] " + cmp.Or(o.Text, "Disconnected by the operator.")}
	var chosen []*session
	live, coming := s.liveAndEntering()
	met := s.turnAway(coming, match, e)
	for _, ss := range live {
		if ss.ending.Load() == nil && match(ss.describe()) {
			chosen = append(chosen, ss)
		}
	}
	slices.SortFunc(chosen, func(a, b *session) int { return a.facts.since.Compare(b.facts.since) })
	var pause time.Duration
	switch {
	case o.Rate > 0:
		pause = time.Duration(float64(time.Second) / o.Rate)
	case len(chosen) > 1:
		pause = o.Spread / time.Duration(len(chosen))
	}
	for i, ss := range chosen {
		if i > 0 && pause > 0 && !s.wait(ctx, pause) {
			return met + i, ctx.Err()
		}
		if match(ss.describe()) { // the reason may have gone while we waited
			ss.end(e)
		}
	}
	return met + len(chosen), nil
}

// turnAway ends those that match of the sessions that are about to be, as soon as
// they are, and returns how many.
func (s *Server) turnAway(coming []*entering, match func(SessionInfo) bool, e *ending) int {
	coming = slices.DeleteFunc(coming, func(en *entering) bool { return !match(en.info) })
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, en := range coming {
		if en.ended == nil {
			en.ended = e
			n++
		}
	}
	return n
}

// Listening returns the names of the listeners, in order.
func (s *Server) Listening() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for l := range s.listeners {
		names = append(names, l.Name)
	}
	slices.Sort(names)
	return names
}

// Connections returns how many clients are connected and not logged in.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns)
}

// HandshakesWaiting returns how many TLS handshakes with clients wait for others.
func (s *Server) HandshakesWaiting() int { return s.handshakes.waiting() }

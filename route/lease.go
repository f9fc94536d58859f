package route

import (
	"context"
	"errors"
	"slices"
	"time"
)

// Lease is one login, and the session that comes of it:
//
//	Begin → (wait while Held) → Claim(b) → log in at b → Commit(b) → … → End
//
// A user's backend is the one that has sessions of the user, or logins between
// Claim and Commit: all others are refused to all other leases, and that is why
// a user never has sessions on two backends. A lease therefore has to cover the
// connection to the backend: Claim comes before it is opened, the next Claim or
// End after it is closed.
//
// Placement, Claim and Commit are for one goroutine at a time; the other methods
// are for all.
type Lease struct {
	state     *State
	user      string
	placement *Placement // nil after Commit: sessions are many, and last
	affinity  time.Duration
	held      <-chan struct{}

	// Guarded by state.mu.
	claimed   string // backend of a login under way, "" when there is none
	committed string // backend of the session, "" when there is none
	asking    bool   // a successor is being asked: it does not count the claim yet
	ended     bool
}

// login is the logins of one user between Claim and Commit.
type login struct {
	backend string
	n       int
}

// Begin starts a login. Its errors are those of [Table.Lookup], but that a user
// who is held is never unavailable: where they belong may change before they are
// released. A lease must be ended, whatever becomes of the login.
func (t *Table) Begin(key string) (*Lease, error) {
	q, err := t.ask(key)
	if err != nil {
		return nil, err
	}
	if err := q.place(); err != nil {
		if _, ok := errors.AsType[*UnavailableError](err); !ok || q.live.hold == nil {
			return nil, err
		}
	}
	place := q.placement
	l := &Lease{state: t.state, user: place.Key, placement: &place}
	if h := q.live.hold; h != nil {
		l.held = h.done
	}
	if q.placement.Pool != "" && q.roster.pools[q.placement.Pool].row.Shared {
		l.affinity = q.gen.affinity
		l.placement.Backends = t.state.follow(key, q.placement.Backends)
	}
	return l, nil
}

// follow puts the backend that other logins of the user are at first: all others
// would be refused.
func (s *State) follow(key string, backends []string) []string {
	s.mu.Lock()
	at, ok := s.logins[key]
	s.mu.Unlock()
	if !ok {
		return backends
	}
	if i := slices.Index(backends, at.backend); i > 0 {
		backends = slices.Insert(slices.Delete(slices.Clone(backends), i, i+1), 0, at.backend)
	}
	return backends
}

// Placement returns where the user lives, as of Begin. After Commit it has the key,
// and the backend that was committed, and nothing else.
func (l *Lease) Placement() Placement {
	if l.placement == nil {
		return Placement{Key: l.user, Backends: []string{l.committed}}
	}
	return *l.placement
}

// Held returns nil when the user is not held. Otherwise the channel is closed
// when the hold ends: the login is then to End this lease and Begin again.
func (l *Lease) Held() <-chan struct{} { return l.held }

// Claim announces a login at a backend of the placement, and takes back what this lease claimed
// before. The answer is false when the user must not log in there: because of
// sessions or logins elsewhere, a hold, a pin, or because the backend takes no
// such users any more. The login is then to End this lease and Begin again, if it
// is not sessions elsewhere that are in its way: see Evict. Where there is a successor
// to ask, the answer is false when ctx ends before that one has answered.
func (l *Lease) Claim(ctx context.Context, backend string) bool {
	ok, successor := l.claim(backend)
	if !ok || successor == nil {
		return ok
	}
	ok = successor.Claim(ctx, l.user, backend)
	s := l.state
	s.mu.Lock()
	defer s.mu.Unlock()
	l.asking = false
	switch {
	case l.claimed == backend && !ok:
		s.unclaim(l)
	case l.claimed != backend && ok: // ended meanwhile
		successor.End(l.user, backend)
		ok = false
	}
	return ok
}

// claim is Claim as far as this process is concerned. The claim is to be given up
// if the successor, if any, refuses it.
func (l *Lease) claim(backend string) (ok bool, ask Successor) {
	s := l.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.ended || l.committed != "" || !slices.Contains(l.placement.Backends, backend) {
		return false, nil
	}
	if l.claimed == backend {
		return s.admits(l, backend), nil
	}
	s.release(l)
	if !s.admits(l, backend) {
		return false, nil
	}
	at := s.logins[l.user]
	s.logins[l.user] = login{backend, at.n + 1}
	l.claimed, l.asking = backend, s.successor != nil
	return true, s.successor
}

// Commit makes a session of a login that succeeded. The answer is false when the
// user must not have a session there, because of what people changed after
// Claim: the login is then to close its connection to the backend, End this
// lease, and Begin again.
func (l *Lease) Commit(backend string) bool {
	s := l.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.ended || l.committed != "" || backend == "" || l.claimed != backend || !s.admits(l, backend) {
		return false
	}
	s.addSession(l.user, backend)
	s.unclaim(l)
	l.committed = backend
	l.placement = nil
	return true
}

// End ends the login or the session, and may be called more than once. After
// the last session the user stays with the backend for a while, if that is a
// member of a shared pool.
func (l *Lease) End() {
	s := l.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.ended {
		return
	}
	l.ended = true
	s.release(l)
	if l.committed != "" {
		if s.successor != nil {
			s.successor.End(l.user, l.committed)
		}
		s.endSession(l.user, l.affinity)
		s.notify(l.user)
	}
}

// Evict returns a channel that is closed when the user has no sessions, and no
// logins between Claim and Commit. After a false Claim a login can wait for it,
// while whoever serves the sessions ends them, and then End and Begin again.
func (l *Lease) Evict() <-chan struct{} { return l.state.Gone(l.user) }

// release takes the claim of a lease back, and tells a successor. mu is held.
func (s *State) release(l *Lease) {
	if l.claimed != "" && s.successor != nil && !l.asking {
		s.successor.End(l.user, l.claimed)
	}
	s.unclaim(l)
}

// unclaim takes the claim of a lease back. mu is held.
func (s *State) unclaim(l *Lease) {
	if l.claimed == "" {
		return
	}
	l.claimed = ""
	at := s.logins[l.user]
	if at.n--; at.n > 0 {
		s.logins[l.user] = at
		return
	}
	delete(s.logins, l.user)
	s.notify(l.user)
}

// admits says whether a lease may log in at a backend. It does not ask whether
// the backend works: the login will tell. mu is held.
func (s *State) admits(l *Lease, backend string) bool {
	u, err := s.user(l.user)
	if err != nil || u.hold != nil || u.pin != nil && u.pin.backend != backend {
		return false
	}
	if at, ok := s.logins[l.user]; ok && at.backend != backend {
		return false
	}
	sessions := u.assignment.sessions > 0
	if sessions && u.assignment.backend != backend {
		return false
	}
	switch s.condition(backend).adminState() {
	case AdminReady:
		return true
	case AdminDrain:
		return sessions || u.pin != nil
	case AdminMaint:
	}
	return false
}

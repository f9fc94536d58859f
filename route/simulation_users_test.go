package route_test

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"imapgate/route"
)

// evict is what proxies do when a backend does not serve its users any more:
// they end the sessions, and the users come again.
func (s *site) evict(i int) {
	s.t.Helper()
	if s.there[i] && s.up[i] && s.admin[i] != route.AdminMaint || s.sessions[i] == 0 {
		return
	}
	for u := range s.users {
		user := &s.users[u]
		if user.at != i {
			continue
		}
		s.sum.evicted++
		for len(user.leases) > 1 {
			s.end(u)
			s.refusedElsewhere(u)
		}
		s.end(u)
		s.login(u)
	}
}

// refusedElsewhere tries to log in while there are sessions where nobody is
// served any more.
func (s *site) refusedElsewhere(u int) {
	s.t.Helper()
	l, err := s.table.Begin(s.users[u].key)
	if err != nil {
		return // of a shard
	}
	defer l.End()
	for _, backend := range l.Placement().Backends {
		if backend == siteBackend(s.users[u].at) || l.Claim(context.Background(), backend) {
			s.t.Errorf("%s has sessions on %s and may log in at %s", s.users[u].key, siteBackend(s.users[u].at), backend)
		}
	}
}

// login is a login of a user, who may have sessions. One of ten is still under
// way when the next thing happens; one of fifty fails at the first backend.
func (s *site) login(u int) {
	s.t.Helper()
	user := &s.users[u]
	l, err := s.table.Begin(user.key)
	if _, ok := errors.AsType[*route.UnavailableError](err); ok {
		s.sum.unavailable++
		return
	}
	if err != nil {
		s.t.Fatal(err)
	}
	for k, backend := range l.Placement().Backends {
		if !l.Claim(context.Background(), backend) {
			if user.at < 0 && s.flying[u] == 0 {
				s.t.Errorf("%s may not log in at %s, and is nowhere", user.key, backend)
			}
			s.sum.refused++
			break
		}
		i := s.enter(u, backend)
		if k == 0 && s.random.IntN(50) == 0 {
			s.sum.failovers++
			continue
		}
		if s.random.IntN(10) == 0 {
			s.flight = append(s.flight, siteLogin{u, i, l})
			s.flying[u]++
			return
		}
		s.commit(u, i, l)
		return
	}
	l.End()
}

// enter checks that a login may be where it goes.
func (s *site) enter(u int, backend string) int {
	s.t.Helper()
	var i int
	if _, err := fmt.Sscanf(backend, "mail%d", &i); err != nil {
		s.t.Fatal(err)
	}
	if user := &s.users[u]; user.at >= 0 && user.at != i {
		s.t.Errorf("%s is on %s and comes to %s", user.key, siteBackend(user.at), backend)
	}
	for _, f := range s.flightOf(u) {
		if f.backend != i {
			s.t.Errorf("%s logs in at %s and at %s", s.users[u].key, siteBackend(f.backend), backend)
		}
	}
	if !s.up[i] || s.admin[i] == route.AdminMaint || s.admin[i] == route.AdminDrain && s.users[u].at < 0 {
		s.t.Errorf("%s comes to %s: up %t, %s", s.users[u].key, backend, s.up[i], s.admin[i])
	}
	return i
}

// flightOf returns the logins of a user that are under way.
func (s *site) flightOf(u int) []siteLogin {
	if s.flying[u] == 0 {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(s.flight), func(f siteLogin) bool { return f.user != u })
}

func (s *site) commit(u, i int, l *route.Lease) {
	s.t.Helper()
	if !l.Commit(siteBackend(i)) {
		if s.admin[i] == route.AdminReady {
			s.t.Errorf("%s may not stay on %s", s.users[u].key, siteBackend(i))
		}
		s.sum.late++
		l.End()
		return
	}
	user := &s.users[u]
	user.at = i
	user.leases = append(user.leases, l)
	s.sessions[i]++
	s.sum.logins++
}

// land ends the logins that were under way.
func (s *site) land() {
	s.t.Helper()
	flight := s.flight
	s.flight, s.flying = nil, make(map[int]int)
	for _, f := range flight {
		if s.random.IntN(10) == 0 || !s.up[f.backend] || !s.there[f.backend] {
			f.lease.End()
			continue
		}
		s.commit(f.user, f.backend, f.lease)
	}
}

// logout ends a session of a user who has one.
func (s *site) logout(u int) {
	if s.users[u].at >= 0 {
		s.end(u)
	}
}

func (s *site) end(u int) {
	user := &s.users[u]
	last := len(user.leases) - 1
	user.leases[last].End()
	user.leases = user.leases[:last]
	s.sessions[user.at]--
	s.sum.ended++
	if last == 0 {
		user.at = -1
	}
}

// move is what people do to move a user, and takes the pin back at once.
func (s *site) move(u int) {
	s.t.Helper()
	to := s.random.IntN(siteBackends)
	if !s.takes(to) || s.flying[u] > 0 {
		return
	}
	user, state := &s.users[u], s.table.State()
	if err := state.Hold(user.key, route.Change{}); err != nil {
		s.t.Fatal(err)
	}
	gone := state.Gone(user.key)
	for user.at >= 0 {
		if closed(gone) {
			s.t.Errorf("%s has %d sessions and is gone", user.key, len(user.leases))
		}
		s.end(u)
	}
	if !closed(gone) {
		s.t.Errorf("%s has no sessions and is not gone", user.key)
	}
	if err := state.Pin(user.key, siteBackend(to), route.Change{}); err != nil {
		s.t.Fatal(err)
	}
	state.Release(user.key)
	s.login(u)
	if user.at >= 0 && user.at != to {
		s.t.Errorf("%s is on %s, and was moved to %s", user.key, siteBackend(user.at), siteBackend(to))
	}
	for _, f := range s.flightOf(u) {
		if f.backend != to {
			s.t.Errorf("%s logs in at %s, and was moved to %s", user.key, siteBackend(f.backend), siteBackend(to))
		}
	}
	state.Unpin(user.key)
}

package route

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"
)

// Successor is another process that is to know, from some moment on, of everybody
// who logs in here. See [State.HandOver].
type Successor interface {
	// Claim says whether a user may log in at a backend here. The successor counts
	// the login as one of the user's sessions until End. It may take its time: when
	// ctx ends first the answer is false, and what the successor counts by then, or
	// later, is given back.
	Claim(ctx context.Context, user, backend string) bool

	// End says that a login or a session has ended which the successor counts. It
	// returns at once: locks are held.
	End(user, backend string)
}

// Residence is where a user is.
type Residence struct {
	User     string        `json:"user"` // key
	Backend  string        `json:"backend"`
	Sessions int           `json:"sessions,omitempty"` // logins between Claim and Commit among them
	Affinity time.Duration `json:"affinity,omitempty"` // without sessions: what is left of it
}

// HandOver makes the rest of this process's logins and sessions known to a
// successor: it asks there before each login, and tells of each end. It returns
// who is where as of that moment, which is what the successor has to count first.
func (s *State) HandOver(to Successor) []Residence {
	s.mu.Lock()
	s.successor = to
	now := s.now()
	logins := maps.Clone(s.logins)
	users := make([][]assigned, assignmentShards)
	for i := range users { // all of them as of now; a million takes a tenth of a second
		users[i] = s.assignments.copyShard(i)
	}
	s.mu.Unlock()

	var list []Residence
	for _, u := range slices.Concat(users...) {
		at := Residence{User: u.user, Backend: u.backend, Sessions: u.sessions}
		if under, ok := logins[at.User]; ok && (u.sessions > 0 || under.backend == u.backend) {
			at.Sessions += under.n
			delete(logins, at.User)
		}
		if at.Sessions == 0 {
			at.Affinity = u.until - now
		}
		if at.Sessions > 0 || at.Affinity > 0 && logins[at.User].n == 0 {
			list = append(list, at)
		}
	}
	for user, under := range logins {
		list = append(list, Residence{User: user, Backend: under.backend, Sessions: under.n})
	}
	slices.SortFunc(list, func(a, b Residence) int { return cmp.Compare(a.Affinity, b.Affinity) })
	return list
}

// TakeBack undoes HandOver, when nothing has come of it.
func (s *State) TakeBack() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.successor = nil
}

// Adopt counts what another process has: of a user with sessions it returns as many
// leases, each to be ended when that process says so. It asks neither rows nor
// people whether the user should be there.
func (t *Table) Adopt(r Residence) []*Lease {
	s := t.state
	like := Lease{state: s, user: r.User, committed: r.Backend}
	if l, err := t.Begin(r.User); err == nil {
		like.affinity = l.affinity
		l.End()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.Sessions == 0 {
		s.addAffinity(r.User, r.Backend, r.Affinity)
		return nil
	}
	leases := make([]*Lease, 0, r.Sessions)
	for range r.Sessions {
		s.addSession(r.User, r.Backend)
		leases = append(leases, new(like))
	}
	return leases
}

// addAffinity notes that a user was at a backend a moment ago. mu is held.
func (s *State) addAffinity(user, backend string, left time.Duration) {
	if s.assignments.get(user) != (assignment{}) || left <= 0 {
		return
	}
	row := assignment{backend: backend, until: s.now() + left}
	// Next to expire first: HandOver returns them in that order, so that the place
	// is at the end, or close to it.
	before := s.affinity.Back()
	for before != nil {
		if other, ok := before.Value.(string); !ok || s.assignments.get(other).until <= row.until {
			break
		}
		before = before.Prev()
	}
	if before == nil {
		row.place = s.affinity.PushFront(user)
	} else {
		row.place = s.affinity.InsertAfter(user, before)
	}
	s.assignments.set(user, row)
}

// Restore puts the overrides of another process in force, where there are none yet.
// Those that make no sense here are left out.
func (s *State) Restore(list []Override) {
	valid := make([]Override, 0, len(list))
	for i := range list {
		if list[i].check() == nil {
			valid = append(valid, list[i])
		}
	}
	s.merge(valid)
}

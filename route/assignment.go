package route

import (
	"container/list"
	"maps"
	"slices"
	"time"
)

// assignment says where a user has sessions, or had some a moment ago. The zero
// value is that of a user who is nowhere.
type assignment struct {
	backend  string
	sessions int
	until    time.Duration // without sessions: end of the affinity
	place    *list.Element // without sessions: in State.affinity
}

// assignmentShards is how many maps the assignments are in: with one, whoever walks
// over a million would hold up the logins, and so would giving its memory back.
const assignmentShards = 256

// assignments are the assignments of all users by key. They are not in go-memdb, where
// the rest is: each login and each logout changes one, and a transaction, which copies
// the way to what it changes, is dearer than all else that a login does in this package.
// The zero value has none. mu of the [State] guards them.
type assignments [assignmentShards]struct {
	users map[string]assignment
	most  int // users since the map was made
}

func shardOf(user string) int { return int(hashOf(user) % assignmentShards) }

func (a *assignments) get(user string) assignment { return a[shardOf(user)].users[user] }

// set changes a user's assignment; the zero value deletes it.
func (a *assignments) set(user string, row assignment) {
	shard := &a[shardOf(user)]
	if row != (assignment{}) {
		if shard.users == nil {
			shard.users = make(map[string]assignment)
		}
		shard.users[user] = row
		shard.most = max(shard.most, len(shard.users))
		return
	}
	delete(shard.users, user)
	if n := len(shard.users); n < shard.most/4 { // a map keeps the memory of the most that it ever had
		fewer := make(map[string]assignment, n)
		maps.Copy(fewer, shard.users)
		shard.users, shard.most = fewer, n
	}
}

// copyShard returns the users of one of the maps.
func (a *assignments) copyShard(i int) []assigned {
	users := make([]assigned, 0, len(a[i].users))
	for user, row := range a[i].users {
		users = append(users, assigned{user, row})
	}
	return users
}

// assigned is a user with an assignment.
type assigned struct {
	user string
	assignment
}

// eachAssigned calls f with all who have an assignment, without holding mu all the time:
// of those who log in or out meanwhile it may miss some.
func (s *State) eachAssigned(f func(assigned)) {
	for i := range assignmentShards {
		s.mu.Lock()
		users := s.assignments.copyShard(i)
		s.mu.Unlock()
		for _, u := range users {
			f(u)
		}
	}
}

// maxAged is how many assignments that have expired go with each session that
// begins or ends: more than can be made meanwhile, and never many at once.
const maxAged = 2

// addSession notes that a user has one more session at a backend. mu is held.
func (s *State) addSession(user, backend string) {
	old := s.assignments.get(user)
	if old.place != nil {
		s.affinity.Remove(old.place)
	}
	s.assignments.set(user, assignment{backend: backend, sessions: old.sessions + 1})
	carried := s.load[backend]
	carried.sessions++
	if old.sessions == 0 {
		carried.users++
	}
	s.load[backend] = carried
	s.age()
}

// endSession notes that a user has one session less. mu is held.
func (s *State) endSession(user string, affinity time.Duration) {
	row := s.assignments.get(user)
	if row.sessions == 0 {
		return // not after a Commit that succeeded
	}
	carried := s.load[row.backend]
	carried.sessions--
	if row.sessions == 1 {
		carried.users--
	}
	if s.load[row.backend] = carried; carried == (load{}) {
		delete(s.load, row.backend)
	}
	switch {
	case row.sessions > 1:
		row.sessions--
	case affinity > 0:
		row = assignment{backend: row.backend, until: s.now() + affinity, place: s.affinity.PushBack(user)}
	default:
		row = assignment{}
	}
	s.assignments.set(user, row)
	s.age()
}

// age deletes the next assignments that have expired. mu is held.
func (s *State) age() {
	now := s.now()
	for range maxAged {
		next := s.affinity.Front()
		if next == nil {
			return
		}
		// Who is in the list has no sessions: a user leaves it with the next one.
		user, ok := next.Value.(string)
		if !ok || s.assignments.get(user).until > now {
			return
		}
		s.affinity.Remove(next)
		s.assignments.set(user, assignment{})
	}
}

// Gone returns a channel that is closed when the user has no sessions, and no
// logins between Claim and Commit; at once, if that is so already.
func (s *State) Gone(key string) <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if done, ok := s.gone[key]; ok {
		return done
	}
	done := make(chan struct{})
	s.gone[key] = done
	s.notify(key)
	return done
}

// notify tells those who wait for a user to be gone, if that is so. mu is held.
func (s *State) notify(user string) {
	done, ok := s.gone[user]
	if !ok {
		return
	}
	if _, ok := s.logins[user]; ok || s.assignments.get(user).sessions > 0 {
		return
	}
	close(done)
	delete(s.gone, user)
}

// Assigned returns the users with sessions at a backend, in order.
func (s *State) Assigned(backend string) []string {
	var users []string
	s.eachAssigned(func(u assigned) {
		if u.sessions > 0 && u.backend == backend {
			users = append(users, u.user)
		}
	})
	slices.Sort(users)
	return users
}

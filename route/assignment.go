package route

import (
	"slices"
	"time"

	memdb "github.com/hashicorp/go-memdb"
)

// maxAged is how many assignments that have expired go with each session that
// begins or ends: more than can be made meanwhile, and never many at once.
const maxAged = 2

// addSession notes that a user has one more session at a backend. mu is held.
func (s *State) addSession(key []byte, backend string) bool {
	txn := s.db.Txn(true)
	defer txn.Abort() // does nothing after Commit
	old, err := liveRow[assignment](txn, tableAssignments, key)
	if err != nil {
		return false
	}
	row := &assignment{key: key, backend: backend, sessions: 1}
	carried := s.load[backend]
	if old != nil {
		row.key = old.key // that which the tree has
	}
	if old != nil && old.sessions > 0 {
		row.sessions = old.sessions + 1
	} else {
		carried.users++
	}
	if err := txn.Insert(tableAssignments, row); err != nil {
		return false
	}
	if old != nil && old.place != nil {
		s.affinity.Remove(old.place)
	}
	s.age(txn)
	txn.Commit()
	carried.sessions++
	s.load[backend] = carried
	return true
}

// endSession notes that a user has one session less. mu is held.
func (s *State) endSession(key []byte, affinity time.Duration) {
	txn := s.db.Txn(true)
	defer txn.Abort()
	old, err := liveRow[assignment](txn, tableAssignments, key)
	if err != nil || old == nil || old.sessions == 0 {
		return // not after a Commit that succeeded
	}
	carried := s.load[old.backend]
	carried.sessions--
	row := *old
	row.sessions--
	switch {
	case row.sessions > 0:
		err = txn.Insert(tableAssignments, &row)
	case affinity > 0:
		carried.users--
		row.until = s.now() + affinity
		row.place = s.affinity.PushBack(&row)
		err = txn.Insert(tableAssignments, &row)
	default:
		carried.users--
		err = txn.Delete(tableAssignments, old)
	}
	if err != nil {
		return
	}
	s.age(txn)
	txn.Commit()
	if s.load[old.backend] = carried; carried == (load{}) {
		delete(s.load, old.backend)
	}
}

// age deletes the next assignments that have expired. mu is held.
func (s *State) age(txn *memdb.Txn) {
	now := s.now()
	for range maxAged {
		next := s.affinity.Front()
		if next == nil {
			return
		}
		row, ok := next.Value.(*assignment)
		if !ok || row.until > now {
			return
		}
		s.affinity.Remove(next)
		// A row in the list is the user's present one: it leaves the list with
		// the user's next session.
		_ = txn.Delete(tableAssignments, row)
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
	s.notify(key, liveKey(key))
	return done
}

// notify tells those who wait for a user to be gone, if that is so. key is that
// of the user's rows. mu is held.
func (s *State) notify(user string, key []byte) {
	done, ok := s.gone[user]
	if !ok {
		return
	}
	if _, ok := s.logins[user]; ok {
		return
	}
	if row, err := liveRow[assignment](s.db.Txn(false), tableAssignments, key); err != nil || row != nil && row.sessions > 0 {
		return
	}
	close(done)
	delete(s.gone, user)
}

// Assigned returns the users with sessions at a backend, in order.
func (s *State) Assigned(backend string) []string {
	var users []string
	_ = each(s.db.Txn(false), tableAssignments, func(r *assignment) { // it exists
		if r.sessions > 0 && r.backend == backend {
			users = append(users, userOf(r.key))
		}
	})
	slices.Sort(users)
	return users
}

package route

import (
	"container/list"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	memdb "github.com/hashicorp/go-memdb"
)

// ErrUnknownBackend says that no backend has this name.
var ErrUnknownBackend = errors.New("unknown backend")

// Admin is what people decided about a backend.
type Admin string

// The admin states.
const (
	AdminReady Admin = "ready" // takes users
	AdminDrain Admin = "drain" // takes no new users; those with sessions there may open more
	AdminMaint Admin = "maint" // takes nobody
)

// Change says who changed something, why, and for how long.
type Change struct {
	By    string    `json:"by,omitempty"`
	Why   string    `json:"why,omitempty"`
	Since time.Time `json:"since"`          // zero: now
	Until time.Time `json:"until,omitzero"` // zero: for good; what has expired counts no more

	// Deadline of a drain is when it is to become maintenance; zero: never. See
	// [State.Overdue].
	Deadline time.Time `json:"deadline,omitzero"`
}

// State is what happens while a table is in force: health and admin states of
// backends, pins and holds of users, and who has sessions where. It outlives
// reloads: a table and its successors share one. All methods are safe for
// concurrent use.
//
// Checks set health, people set the rest, and neither overwrites the other.
// Names of users are keys, as [Names.Key] makes them.
type State struct {
	began time.Time    // what times of assignments are relative to
	db    *memdb.MemDB // pins and holds; written with mu held, read from snapshots

	conditions atomic.Pointer[conditions] // replaced as a whole, with mu held

	// mu makes each step of a login, and each change, one step for all others.
	// It is held for microseconds, by HandOver for longer, and never over I/O. Where a
	// table's mu is held too, that one is taken first.
	mu          sync.Mutex
	assignments assignments
	affinity    *list.List               // of string, users without sessions, next to expire first
	pins, holds int                      // rows of the tables: lookups skip one that is empty
	logins      map[string]login         // users with logins between Claim and Commit
	gone        map[string]chan struct{} // who waits for a user's sessions to end
	load        map[string]load          // by backend
	known       map[string]struct{}      // backends that were ever loaded
	expiries    expiries                 // of overrides
	timer       *time.Timer              // runs expire at the first of expiries; nil when there is none
	version     uint64                   // counts changes of overrides

	successor Successor // another process that has to know of logins here; nil: there is none

	file overridesFile
}

// condition is what is known of a backend beside its definition. Immutable; the
// zero value is that of a backend about which nobody said anything.
type condition struct {
	admin        Admin // "" is ready
	adminChange  *Change
	weight       int // 0 is the configured one
	weightChange *Change
	down         bool
	healthWhy    string
	healthSince  time.Time
}

// conditions are the conditions of backends by name. Immutable.
type conditions map[string]condition

func (c condition) adminState() Admin {
	if c.admin == "" {
		return AdminReady
	}
	return c.admin
}

// load is what a backend carries.
type load struct{ sessions, users int }

func newState() *State {
	db, err := newLiveDatabase()
	if err != nil {
		panic(err) // the schema is wrong, for everybody and always
	}
	s := &State{
		began:    time.Now(),
		db:       db,
		logins:   make(map[string]login),
		gone:     make(map[string]chan struct{}),
		load:     make(map[string]load),
		known:    make(map[string]struct{}),
		affinity: list.New(),
	}
	s.conditions.Store(new(conditions))
	return s
}

// State returns what happens while the table is in force. It is the same for a
// table and its successors.
func (t *Table) State() *State { return t.state }

// define notes which backends there are. None is forgotten: a table that is loaded
// need not be put in force.
func (s *State) define(r *roster) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range r.backends {
		s.known[name] = struct{}{}
	}
}

// checkBackend returns an error unless there is such a backend, or was when people
// changed something about it, which they may take back. mu is held.
func (s *State) checkBackend(name string) error {
	if len(s.known) == 0 {
		return nil // no table says what there is
	}
	c := s.condition(name)
	if _, ok := s.known[name]; !ok && c.adminChange == nil && c.weightChange == nil {
		return fmt.Errorf("%w %s", ErrUnknownBackend, quote(name))
	}
	return nil
}

// condition returns what is known of a backend.
func (s *State) condition(backend string) condition { return (*s.conditions.Load())[backend] }

// setCondition changes what is known of a backend. mu is held.
func (s *State) setCondition(backend string, set func(*condition)) {
	next := maps.Clone(*s.conditions.Load())
	if next == nil {
		next = make(conditions)
	}
	c := next[backend]
	set(&c)
	if c == (condition{}) {
		delete(next, backend)
	} else {
		next[backend] = c
	}
	s.conditions.Store(&next)
}

// SetHealth says whether a backend works, as checks found. A backend is up until
// somebody says otherwise. The reason and the time are those of the last change:
// nothing is noted, and the answer is false, when up is what was known already.
func (s *State) SetHealth(backend string, up bool, why string) (changed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.condition(backend).down == !up {
		return false
	}
	s.setCondition(backend, func(c *condition) {
		c.down, c.healthWhy, c.healthSince = !up, why, time.Now()
	})
	return true
}

// SetAdmin changes the admin state of a backend. It says nothing about sessions
// that are there: whoever drains decides what becomes of them. AdminReady takes
// an earlier change back.
func (s *State) SetAdmin(backend string, a Admin, c Change) error {
	switch a {
	case AdminReady, AdminDrain, AdminMaint:
	default:
		return fmt.Errorf("admin state %s is not ready, drain or maint", quote(string(a)))
	}
	return s.override(Override{Kind: OverrideAdmin, Name: backend, Value: string(a)}, c)
}

// Overdue makes maintenance of the drain of a backend whose deadline has come. The
// answer is false when that drain is not in force any more: then nothing changes.
// The error is that of the file, as with all changes.
func (s *State) Overdue(backend string, deadline time.Time) (bool, error) {
	version, ok := s.overdue(backend, deadline)
	if !ok {
		return false, nil
	}
	return true, s.save(version)
}

func (s *State) overdue(backend string, deadline time.Time) (version uint64, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.condition(backend)
	if c.admin != AdminDrain || c.adminChange.expired(time.Now()) || !c.adminChange.Deadline.Equal(deadline) {
		return 0, false
	}
	change := *c.adminChange
	change.Since, change.Deadline = time.Now().Round(0).UTC(), time.Time{}
	if err := s.apply(Override{OverrideAdmin, backend, string(AdminMaint), change}); err != nil {
		return 0, false // not for backends
	}
	s.version++
	return s.version, true
}

// SetWeight changes the weight of a backend in shared pools, where users with
// sessions or affinity stay where they are; 0 takes the configured weight back.
// Pools that are not shared keep the configured weights: which member has a
// user's mail does not change with a number.
func (s *State) SetWeight(backend string, weight int, c Change) error {
	if weight < 0 || weight > MaxWeight {
		return fmt.Errorf("weight %d is not between 1 and %d", weight, MaxWeight)
	}
	return s.override(Override{Kind: OverrideWeight, Name: backend, Value: weightValue(weight)}, c)
}

// Pin sends a user to one backend, whatever rows, weights and pools say. It ends
// no session: a user who has some elsewhere cannot log in before they are gone.
func (s *State) Pin(key, backend string, c Change) error {
	return s.override(Override{Kind: OverridePin, Name: key, Value: backend}, c)
}

// Unpin takes a pin back; false means that there was none.
func (s *State) Unpin(key string) bool { return s.drop(OverridePin, key) }

// Hold makes logins of a user wait. Sessions go on.
func (s *State) Hold(key string, c Change) error {
	return s.override(Override{Kind: OverrideHold, Name: key}, c)
}

// Release ends a hold; false means that there was none.
func (s *State) Release(key string) bool { return s.drop(OverrideHold, key) }

// now returns the time of assignments: monotonic, so that setting the clock
// neither prolongs nor ends an affinity.
func (s *State) now() time.Duration { return time.Since(s.began) }

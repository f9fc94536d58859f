package route

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	memdb "github.com/hashicorp/go-memdb"
)

// Table knows where every user lives. Use [New] to make one; it answers nothing
// before its first successful [Table.Load]. All methods are safe for concurrent
// use, and a lookup never waits for a load.
type Table struct {
	state *State // never nil

	current atomic.Pointer[generation] // nil before the first load

	mu     sync.Mutex  // one load at a time, so that the shrink guard compares with what is replaced
	former *generation // what the first load is compared with; nil after that, and for most tables before
}

// generation is what one load made. Lookups that began on it end on it.
type generation struct {
	db       *memdb.MemDB
	pageBits int           // of a key's hash, say on which page a row is
	affinity time.Duration // of users of shared pools
	stats    Stats

	roster atomic.Pointer[roster] // as of the conditions that the last lookup found
}

// Stats are figures of the table in force.
type Stats struct {
	Rows       int // users and domains
	Users      int
	Domains    int
	Backends   int
	Pools      int
	Generation uint64    // counts successful loads; 0 before the first
	LoadedAt   time.Time // when this generation came into force
}

// New returns a table without contents.
func New() *Table { return &Table{state: newState()} }

// Successor returns a table without contents that is to take the place of t: its
// first load is compared with what t has now, as if it were a load of t, and
// counts generations on. The two share their [State]. Whoever still has t keeps
// a table in which all backends are those that they know.
func (t *Table) Successor() *Table {
	t.mu.Lock()
	defer t.mu.Unlock()
	return &Table{state: t.state, former: t.inForce()}
}

// inForce returns what the next load would replace, or nil. mu is held.
func (t *Table) inForce() *generation {
	if gen := t.current.Load(); gen != nil {
		return gen
	}
	return t.former
}

// Load replaces the whole table with def and rows, in one step for lookups.
// When it returns an error, the table in force stays: a [*TableError] says what
// is wrong with def or rows, a [*ShrinkError] that too many rows would go, which
// force allows. Nothing keeps rows in memory afterwards.
//
// The new generation is a database of its own. Inserting a whole table into a
// full one would take longer than into an empty one, and this way the old one
// stays usable, and is released as a whole when its last lookup ends.
func (t *Table) Load(def Definition, rows *Rows, force bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	next, err := t.build(def, rows, force)
	if err != nil {
		return err
	}
	r, err := next.rosterFor(t.state.conditions.Load())
	if err != nil {
		return err
	}
	next.stats.LoadedAt = time.Now()
	t.current.Store(next)
	t.former = nil
	t.state.define(r)
	return nil
}

// Check returns the error that Load would return, and changes nothing. With
// force it costs much less, as the table in force is not looked at.
func (t *Table) Check(def Definition, rows *Rows, force bool) error {
	if force {
		_, err := compile(&def, rows)
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	_, err := t.build(def, rows, force)
	return err
}

// build makes the next generation. mu is held.
func (t *Table) build(def Definition, rows *Rows, force bool) (*generation, error) {
	c, err := compile(&def, rows)
	if err != nil {
		return nil, err
	}
	db, err := newDatabase()
	if err != nil {
		return nil, fmt.Errorf("make a database: %w", err)
	}
	if err := c.insert(db); err != nil {
		return nil, err
	}
	next := &generation{db: db, pageBits: c.pageBits, affinity: c.affinity, stats: Stats{
		Rows:       c.users.n + c.domains.n,
		Users:      c.users.n,
		Domains:    c.domains.n,
		Backends:   len(c.backends),
		Pools:      len(c.pools),
		Generation: 1,
	}}
	if old := t.inForce(); old != nil {
		next.stats.Generation = old.stats.Generation + 1
		if !force {
			if err := checkShrink(old, next, def.MaxShrink, c.pace); err != nil {
				return nil, err
			}
		}
	}
	return next, nil
}

// Stats returns figures of the table in force, the zero Stats before the first
// successful load.
func (t *Table) Stats() Stats {
	if gen := t.current.Load(); gen != nil {
		return gen.stats
	}
	return Stats{}
}

package route

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	memdb "github.com/hashicorp/go-memdb"
)

// Diff is what a table would change if it took the place of another.
type Diff struct {
	Added   int       `json:"added"`   // rows that the other lacks
	Removed int       `json:"removed"` // rows that only the other has
	Moved   int       `json:"moved"`   // rows with another target
	Changed int       `json:"changed"` // rows with another login name alone
	Rows    []DiffRow `json:"rows"`    // the first of all these, in order of keys

	// Users counts users whose backend would be another one, or none: of those
	// that have rows of their own, or sessions. Where sessions are, and what checks
	// and people said about backends and users, no table changes; this looks at
	// rows, pools and configured weights.
	Users int `json:"users"`

	// LiveSessions counts the sessions of such users. They stay where they are,
	// and the users with them until the last one ends.
	LiveSessions int `json:"live_sessions"`
}

// DiffRow is a row that would be added, removed or changed.
type DiffRow struct {
	Key       string `json:"key"`                  // a user, "@domain", or "*"
	From      string `json:"from,omitempty"`       // target, "" when the row is added
	To        string `json:"to,omitempty"`         // target, "" when the row is removed
	FromLogin string `json:"from_login,omitempty"` // login name
	ToLogin   string `json:"to_login,omitempty"`
	Source    string `json:"source,omitempty"` // place of the row, the new one if there is one
}

// Diff says what would change if next, which is loaded, took the place of t. It
// lists limit rows at the most. It walks both tables: a second for a million
// rows.
func (t *Table) Diff(next *Table, limit int) (Diff, error) {
	before, after := t.current.Load(), next.current.Load()
	if before == nil || after == nil {
		return Diff{}, ErrNotLoaded
	}
	d := differ{
		limit:  max(0, limit),
		before: &homes{gen: before, txn: before.db.Txn(false), pools: make(map[string]*homesOfPool)},
		after:  &homes{gen: after, txn: after.db.Txn(false), pools: make(map[string]*homesOfPool)},
	}
	for _, part := range []func() error{d.users, d.domains, d.fallback, func() error { return d.sessions(t.state) }} {
		if err := part(); err != nil {
			return Diff{}, fmt.Errorf("compare tables: %w", err)
		}
	}
	d.cut()
	return d.diff, nil
}

// differ compares two generations.
type differ struct {
	before, after *homes
	limit         int
	diff          Diff
}

// users compares the rows of users.
func (d *differ) users() error {
	return walkBoth(d.before.txn, d.after.txn, tableUsers, func(a, b *targetRow) error {
		key := cmp.Or(b, a).key
		d.row(key, a, b)
		moved, err := d.moves(key, a, b)
		if moved {
			d.diff.Users++
		}
		return err
	})
}

// domains compares the rows of domains.
func (d *differ) domains() error {
	return walkBoth(d.before.txn, d.after.txn, tableDomains, func(a, b *targetRow) error {
		d.row("@"+cmp.Or(b, a).key, a, b)
		return nil
	})
}

// fallback compares the defaults.
func (d *differ) fallback() error {
	a, err := first[targetRow](d.before.txn, tableDefault, defaultKey)
	if err != nil {
		return err
	}
	b, err := first[targetRow](d.after.txn, tableDefault, defaultKey)
	if err == nil && (a != nil || b != nil) {
		d.row(defaultKey, a, b)
	}
	return err
}

// row notes what becomes of a row. Either may be nil.
func (d *differ) row(key string, a, b *targetRow) {
	row := DiffRow{Key: key, Source: cmp.Or(b, a).source()}
	if a != nil {
		row.From, row.FromLogin = a.target.name, a.login
	}
	if b != nil {
		row.To, row.ToLogin = b.target.name, b.login
	}
	switch {
	case a == nil:
		d.diff.Added++
	case b == nil:
		d.diff.Removed++
	case row.From != row.To:
		d.diff.Moved++
	case row.FromLogin != row.ToLogin:
		d.diff.Changed++
	default:
		return
	}
	d.diff.Rows = append(d.diff.Rows, row)
	if len(d.diff.Rows) >= 2*d.limit+64 { // neither all of a million nor a sort for each
		d.cut()
	}
}

// cut leaves the first rows, in order of keys.
func (d *differ) cut() {
	slices.SortFunc(d.diff.Rows, func(a, b DiffRow) int { return cmp.Compare(a.Key, b.Key) })
	d.diff.Rows = d.diff.Rows[:min(len(d.diff.Rows), d.limit)]
}

// moves says whether a user's backend is another one. The user's own rows, of
// which there may be none, are at hand.
func (d *differ) moves(key string, a, b *targetRow) (bool, error) {
	from, err := d.before.of(key, a)
	if err != nil {
		return false, err
	}
	to, err := d.after.of(key, b)
	return from != to, err
}

// sessions counts users with sessions but no rows, and all sessions of users who
// move.
func (d *differ) sessions(s *State) error {
	var failed error
	s.eachAssigned(func(u assigned) {
		if u.sessions == 0 || failed != nil {
			return
		}
		a, err := d.before.row(u.user)
		if err != nil {
			failed = err
			return
		}
		b, err := d.after.row(u.user)
		if err != nil {
			failed = err
			return
		}
		moved, err := d.moves(u.user, a, b)
		failed = err
		if !moved {
			return
		}
		d.diff.LiveSessions += u.sessions
		if a == nil && b == nil {
			d.diff.Users++
		}
	})
	return failed
}

// homes answers where users live by one generation's rows alone.
type homes struct {
	gen   *generation
	txn   *memdb.Txn
	pools map[string]*homesOfPool
}

// homesOfPool are the members of a pool by slot, as far as somebody has asked.
type homesOfPool struct {
	members []member
	at      []int32 // from 1; 0 is not known yet
}

// row returns a user's own row, nil if there is none.
func (h *homes) row(key string) (*targetRow, error) {
	row, found, err := h.gen.find(h.txn, tableUsers, key)
	if !found {
		return nil, err
	}
	return &row, nil
}

// of returns a user's backend, "" when nobody knows the user. row is the user's
// own, or nil.
func (h *homes) of(key string, row *targetRow) (string, error) {
	if row == nil {
		found, _, err := h.gen.decide(h.txn, key)
		if errors.Is(err, ErrUnknownUser) {
			return "", nil
		}
		if err != nil {
			return "", err
		}
		row = &found
	}
	if !row.target.pool {
		return row.target.name, nil
	}
	pool := h.pools[row.target.name]
	if pool == nil {
		found, err := need[poolRow](h.txn, tablePools, row.target.name)
		if err != nil {
			return "", err
		}
		pool = &homesOfPool{members: found.members, at: make([]int32, slots)}
		h.pools[row.target.name] = pool
	}
	slot := slotOf(key)
	at := &pool.at[slot]
	if *at == 0 {
		home := best(pool.members, slot).name
		*at = 1 + int32(slices.IndexFunc(pool.members, func(m member) bool { return m.name == home })) //nolint:gosec // pools are small
	}
	return pool.members[*at-1].name, nil
}

// walkBoth calls f with the rows of users or domains of two generations, key by key.
// Where a generation lacks a key its row is nil. Rows last as long as the call.
func walkBoth(before, after *memdb.Txn, table string, f func(a, b *targetRow) error) error {
	oldRows, err := rowsOf(before, table)
	if err != nil {
		return err
	}
	newRows, err := rowsOf(after, table)
	if err != nil {
		return err
	}
	a, b := oldRows.next(), newRows.next()
	for a != nil || b != nil {
		var order int
		switch {
		case a == nil:
			order = 1
		case b == nil:
			order = -1
		default:
			order = a.compare(b)
		}
		switch {
		case order < 0:
			err = f(a, nil)
			a = oldRows.next()
		case order > 0:
			err = f(nil, b)
			b = newRows.next()
		default:
			err = f(a, b)
			a, b = oldRows.next(), newRows.next()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

package route

import (
	"fmt"
	"slices"
	"strings"

	memdb "github.com/hashicorp/go-memdb"
)

// Lookup says where the user with this key lives; [Names.Key] makes keys. It
// has no side effects. The error is ErrUnknownUser when nothing
// covers the user, an [*UnavailableError] when no backend may serve them now, and
// any other error means that the question cannot be answered.
func (t *Table) Lookup(key string) (Placement, error) {
	q, err := t.ask(key)
	if err != nil {
		return Placement{}, err
	}
	if err := q.place(); err != nil {
		return Placement{}, err
	}
	return q.placement, nil
}

// query is one question: what the answer follows from, each part of it from one
// snapshot, and the answer.
type query struct {
	gen    *generation
	roster *roster
	row    targetRow // without a target: nobody knows the user, who is pinned
	live   live
	slot   uint32

	placement Placement
}

// ask finds what is to be known about a user.
func (t *Table) ask(key string) (query, error) {
	gen := t.current.Load()
	if gen == nil {
		return query{}, ErrNotLoaded
	}
	r, err := gen.rosterFor(t.state.conditions.Load())
	if err != nil {
		return query{}, err
	}
	q := query{gen: gen, roster: r, slot: slotOf(key)}
	t.state.mu.Lock()
	q.live, err = t.state.user(key)
	t.state.mu.Unlock()
	if err != nil {
		return query{}, err
	}
	if a := q.live.assignment; a.backend != "" && a.sessions == 0 && a.until <= t.state.now() {
		q.live.assignment = assignment{}
	}
	q.placement = Placement{Key: key, Slot: int(q.slot), Held: q.live.hold != nil}
	row, reason, err := gen.decide(gen.db.Txn(false), key)
	switch {
	case err == nil:
		q.row = row
		q.placement.Login, q.placement.Reason, q.placement.Source = row.login, reason, row.source()
		if row.target.pool {
			q.placement.Pool = row.target.name
		}
	case q.live.pin == nil:
		return query{}, err
	}
	return q, nil
}

// decide takes the steps of a lookup that are about rows, in the order of the
// Reason constants, until one finds a row.
func (gen *generation) decide(txn *memdb.Txn, key string) (targetRow, Reason, error) {
	local, domain, hasDomain := cutLast(key)
	if local == "" {
		return targetRow{}, "", ErrUnknownUser // not even the default covers nobody
	}
	row, found, err := gen.find(txn, tableUsers, key)
	if found || err != nil {
		return row, ReasonUser, err
	}
	if hasDomain && gen.stats.Domains > 0 {
		for d, more := domain, true; more; _, d, more = strings.Cut(d, ".") {
			row, found, err := gen.find(txn, tableDomains, d)
			if found || err != nil {
				return row, ReasonDomain, err
			}
		}
	}
	fallback, err := first[targetRow](txn, tableDefault, defaultKey)
	switch {
	case err != nil:
		return targetRow{}, "", err
	case fallback == nil:
		return targetRow{}, "", ErrUnknownUser
	}
	return *fallback, ReasonDefault, nil
}

// place finds the backends for the user, and leaves in the placement what it
// found when it returns an error.
func (q *query) place() error {
	p := &q.placement
	if q.live.pin != nil {
		return q.placePinned(q.live.pin.backend)
	}
	// Sessions decide before rows do: wherever the user belongs by now, a session
	// there beside those here would be one too many.
	if a := q.live.assignment; a.sessions > 0 {
		if b := q.roster.backends[a.backend]; b != nil && b.serves() {
			p.Backends, p.Reason = b.row.self, ReasonAssignment
			return nil
		}
	}
	if !q.row.target.pool {
		b := q.roster.backends[q.row.target.name]
		if b == nil {
			return fmt.Errorf("%s is not in %s", quote(q.row.target.name), tableBackends)
		}
		p.Backends = b.row.self
		return b.refusal("")
	}
	pool := q.roster.pools[q.row.target.name]
	switch {
	case pool == nil:
		return fmt.Errorf("%s is not in %s", quote(q.row.target.name), tablePools)
	case !pool.row.Shared:
		m := best(pool.members, q.slot)
		p.Backends = m.self
		return q.roster.backends[m.name].refusal(pool.row.Name)
	case len(pool.usable) == 0:
		return &UnavailableError{Pool: pool.row.Name, Reason: UnavailableMembers}
	}
	stays := q.affine(pool)
	if stays != "" {
		p.Reason = ReasonAssignment
	}
	p.Backends = rank(pool.usable, q.slot, stays)
	return nil
}

// placePinned is place for a user who is pinned to a backend.
func (q *query) placePinned(backend string) error {
	p := &q.placement
	p.Reason, p.Source = ReasonPin, ""
	b := q.roster.backends[backend]
	if b == nil {
		p.Backends = []string{backend}
		return &UnavailableError{Backend: backend, Reason: UnavailableUnknown}
	}
	p.Backends = b.row.self
	if !b.serves() { // a pin says more about its user than a drain
		return b.refusal("")
	}
	return nil
}

// affine returns the usable member that a user without sessions had the last one
// with, and still belongs to.
func (q *query) affine(pool *lineup) string {
	a := q.live.assignment
	if a.sessions > 0 {
		return ""
	}
	if !slices.ContainsFunc(pool.usable, func(m member) bool { return m.name == a.backend }) {
		return ""
	}
	return a.backend
}

// refusal returns why a backend takes no users without sessions, nil if it does.
func (p *post) refusal(pool string) error {
	if why := p.why(); why != "" {
		return &UnavailableError{Backend: p.row.Name, Pool: pool, Reason: why}
	}
	return nil
}

// first returns the row with a key, or nil when there is none.
func first[T any](txn *memdb.Txn, table, key string) (*T, error) {
	obj, err := txn.First(table, indexID, key)
	if err != nil {
		return nil, fmt.Errorf("look up %s in %s: %w", quote(key), table, err)
	}
	if obj == nil {
		return nil, nil //nolint:nilnil // none is an answer
	}
	row, ok := obj.(*T)
	if !ok {
		return nil, fmt.Errorf("look up %s in %s: found a %T", quote(key), table, obj)
	}
	return row, nil
}

// need is first for a row that must exist.
func need[T any](txn *memdb.Txn, table, key string) (*T, error) {
	row, err := first[T](txn, table, key)
	if row == nil && err == nil {
		err = fmt.Errorf("%s is not in %s", quote(key), table)
	}
	return row, err
}

package route

import "slices"

// Explain is Lookup with all that was considered. With an [*UnavailableError]
// the placement says where the user lives all the same.
func (t *Table) Explain(key string) (Placement, error) {
	q, err := t.ask(key)
	if err != nil {
		return Placement{}, err
	}
	err = q.place()
	q.placement.Candidates = q.candidates()
	return q.placement, err
}

// candidates says of each backend of the target why it does not serve the user,
// and of the backend that does when it is none of them.
func (q *query) candidates() []Candidate {
	var names []string
	shared := false
	switch {
	case q.row.target == nil:
	case q.row.target.pool:
		if pool := q.roster.pools[q.row.target.name]; pool != nil {
			names, shared = rank(pool.members, q.slot, ""), pool.row.Shared
		}
	default:
		names = []string{q.row.target.name}
	}
	rest := len(names)
	for _, name := range q.placement.Backends {
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	list := make([]Candidate, 0, len(names))
	for i, name := range names {
		c := Candidate{Name: name, Rank: i + 1, Admin: AdminReady}
		if i >= rest {
			c.Rank = 0
		}
		if b := q.roster.backends[name]; b != nil {
			c.Weight, c.Admin, c.Up = b.weight, b.adminState(), !b.down
			if !shared {
				c.Weight = b.row.Weight
			}
		}
		c.Skipped = q.skipped(name, shared)
		list = append(list, c)
	}
	return list
}

// skipped says why a backend does not serve the user, "" if it would.
func (q *query) skipped(name string, shared bool) string {
	b := q.roster.backends[name]
	if q.live.pin != nil && q.live.pin.backend != name {
		return "pinned to " + q.live.pin.backend
	}
	if b == nil {
		return UnavailableUnknown
	}
	a := q.live.assignment
	chosen := slices.Contains(q.placement.Backends, name)
	switch {
	case chosen && (q.live.pin != nil || a.sessions > 0 && a.backend == name) && b.serves():
		return ""
	case b.why() != "":
		return b.why()
	case chosen:
		return ""
	case a.sessions > 0:
		return "sessions on " + a.backend
	case !shared:
		return "mail is on " + q.placement.Backends[0]
	}
	return ""
}

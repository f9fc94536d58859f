package route

import (
	"fmt"
	"maps"
	"slices"

	memdb "github.com/hashicorp/go-memdb"
)

// roster is what placement needs of a generation's backends and pools, as the
// conditions of the backends have them: a lookup takes it as it is, and whoever
// first finds that the conditions are others makes the next. Immutable.
type roster struct {
	conditions *conditions
	backends   map[string]*post
	pools      map[string]*lineup
}

// post is a backend of a roster.
type post struct {
	condition
	row    *backendRow
	weight int // in effect
}

// serves says whether users with sessions here may open more.
func (p *post) serves() bool { return !p.down && p.admin != AdminMaint }

// takes says whether it takes users who have no sessions.
func (p *post) takes() bool { return !p.down && p.adminState() == AdminReady }

// why says why the backend takes no users without sessions, "" if it does.
func (p *post) why() string {
	switch {
	case p.admin == AdminMaint:
		return UnavailableMaint
	case p.down:
		return UnavailableDown
	case p.admin == AdminDrain:
		return UnavailableDrain
	}
	return ""
}

// lineup is a pool of a roster.
type lineup struct {
	row     *poolRow
	members []member // all of them, by the weights that count here
	usable  []member // those that may get users: all of them, if not shared
}

// rosterFor returns the generation's roster for the present conditions.
func (gen *generation) rosterFor(c *conditions) (*roster, error) {
	if r := gen.roster.Load(); r != nil && r.conditions == c {
		return r, nil
	}
	r, err := makeRoster(gen.db.Txn(false), c)
	if err != nil {
		return nil, fmt.Errorf("read backends and pools: %w", err)
	}
	gen.roster.Store(r)
	return r, nil
}

func makeRoster(txn *memdb.Txn, c *conditions) (*roster, error) {
	r := &roster{conditions: c, backends: make(map[string]*post), pools: make(map[string]*lineup)}
	err := each(txn, tableBackends, func(row *backendRow) {
		p := &post{condition: (*c)[row.Name], row: row, weight: row.Weight}
		if p.condition.weight != 0 {
			p.weight = p.condition.weight
		}
		r.backends[row.Name] = p
	})
	if err != nil {
		return nil, err
	}
	err = each(txn, tablePools, func(row *poolRow) {
		l := &lineup{row: row, members: row.members, usable: row.members}
		if row.Shared {
			l.members, l.usable = nil, nil
			for _, m := range row.members {
				p := r.backends[m.name]
				m.weight = float64(p.weight)
				l.members = append(l.members, m)
				if p.takes() {
					l.usable = append(l.usable, m)
				}
			}
		}
		r.pools[row.Name] = l
	})
	if err != nil {
		return nil, err
	}
	return r, nil
}

// inOrder returns the backends and the pools in the order of the definition.
func (r *roster) inOrder() ([]*post, []*lineup) {
	return slices.SortedFunc(maps.Values(r.backends), func(a, b *post) int { return a.row.at - b.row.at }),
		slices.SortedFunc(maps.Values(r.pools), func(a, b *lineup) int { return a.row.at - b.row.at })
}

// shares returns each member's share of the pool's new users.
func (l *lineup) shares() map[string]float64 {
	shares := make(map[string]float64, len(l.members))
	for _, m := range l.members {
		shares[m.name] = 0
	}
	sum := 0.0
	for _, m := range l.usable {
		sum += m.weight
	}
	for _, m := range l.usable {
		shares[m.name] = m.weight / sum
	}
	return shares
}

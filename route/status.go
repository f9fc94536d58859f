package route

import (
	"slices"
	"time"
)

// BackendStatus is a backend as it is now.
type BackendStatus struct {
	Name             string    `json:"name"`
	Address          string    `json:"address,omitempty"`
	Weight           int       `json:"weight"` // in effect, in shared pools
	ConfiguredWeight int       `json:"configured_weight"`
	WeightChange     *Change   `json:"weight_change,omitempty"` // nil: the configured weight is in effect
	Admin            Admin     `json:"admin"`
	AdminChange      *Change   `json:"admin_change,omitempty"` // nil: nobody changed it
	Up               bool      `json:"up"`
	HealthWhy        string    `json:"health_why,omitempty"` // of the last change of health
	HealthSince      time.Time `json:"health_since"`         // start of the program if nothing changed
	Sessions         int       `json:"sessions"`
	Users            int       `json:"users"` // with sessions
	Pools            []string  `json:"pools"`
}

// Backends returns the backends of the table in force, in the order of its
// definition.
func (t *Table) Backends() []BackendStatus {
	gen := t.current.Load()
	if gen == nil {
		return nil
	}
	r, err := gen.rosterFor(t.state.conditions.Load())
	if err != nil {
		return nil
	}
	posts, lineups := r.inOrder()
	pools := make(map[string][]string)
	for _, l := range lineups {
		for _, name := range l.row.Backends {
			pools[name] = append(pools[name], l.row.Name)
		}
	}
	list := make([]BackendStatus, 0, len(posts))
	for _, p := range posts {
		b := BackendStatus{
			Name: p.row.Name, Address: p.row.Address,
			Weight: p.weight, ConfiguredWeight: p.row.Weight, WeightChange: clone(p.weightChange),
			Admin: p.adminState(), AdminChange: clone(p.adminChange),
			Up: !p.down, HealthWhy: p.healthWhy, HealthSince: p.healthSince,
			Pools: append([]string{}, pools[p.row.Name]...),
		}
		if b.HealthSince.IsZero() {
			b.HealthSince = t.state.began
		}
		list = append(list, b)
	}
	t.state.mu.Lock()
	defer t.state.mu.Unlock()
	for i := range list {
		carried := t.state.load[list[i].Name]
		list[i].Sessions, list[i].Users = carried.sessions, carried.users
	}
	return list
}

// PoolStatus is a pool as it is now.
type PoolStatus struct {
	Name    string   `json:"name"`
	Shared  bool     `json:"shared"`
	Members []string `json:"members"`

	// Shares says which part of the pool's new users each member gets, by name and
	// by weights: 0 in a shared pool for one that takes none.
	Shares map[string]float64 `json:"shares"`
}

// Pools returns the pools of the table in force, in the order of its definition.
func (t *Table) Pools() []PoolStatus {
	gen := t.current.Load()
	if gen == nil {
		return nil
	}
	r, err := gen.rosterFor(t.state.conditions.Load())
	if err != nil {
		return nil
	}
	_, lineups := r.inOrder()
	list := make([]PoolStatus, 0, len(lineups))
	for _, l := range lineups {
		list = append(list, PoolStatus{
			Name: l.row.Name, Shared: l.row.Shared, Members: slices.Clone(l.row.Backends),
			Shares: l.shares(),
		})
	}
	return list
}

// clone returns a copy that its receiver may change.
func clone(c *Change) *Change {
	if c == nil {
		return nil
	}
	return new(*c)
}

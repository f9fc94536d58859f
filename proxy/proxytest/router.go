package proxytest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"imapgate/proxy"
	"imapgate/route"
)

// NewTable returns a table that sends everybody to one target, and knows the
// backends and pools of def. The target must be one of them.
func NewTable(tb testing.TB, def route.Definition, target string) *route.Table {
	tb.Helper()
	def.Default = target
	t := route.New()
	if err := t.Load(def, nil, true); err != nil {
		tb.Fatal(err)
	}
	return t
}

// errTableDown is what a table says that cannot answer.
var errTableDown = errors.New("the table cannot answer")

// router is the [proxy.Router] of a transcript: a real table, made of its route
// and pool lines, and users for whom it cannot answer.
type router struct {
	table  *route.Table
	rows   map[string]route.Row
	pools  map[string]route.Pool
	ranked map[string]int // backends of "a,b" routes, with the weights that keep their order
	broken map[string]bool
	err    error // of the last load
}

func newRouter() *router {
	return &router{
		table: route.New(), rows: make(map[string]route.Row), pools: make(map[string]route.Pool),
		ranked: make(map[string]int), broken: make(map[string]bool),
	}
}

// add takes one route line: BACKEND, POOL, or "first,second" for a shared pool in
// which everybody's order is the one that is written.
func (r *router) add(key, value string) error {
	words := strings.Fields(value)
	if len(words) == 0 {
		return errors.New("route without a target")
	}
	delete(r.broken, key)
	delete(r.rows, key)
	row := route.Row{Key: key, Target: words[0]}
	if len(words) > 1 {
		login, ok := strings.CutPrefix(words[1], "login=")
		if !ok {
			return fmt.Errorf("route option %q", words[1])
		}
		row.Login = login
	}
	if row.Target == "error" {
		r.broken[key] = true
		return nil
	}
	if members := strings.Split(row.Target, ","); len(members) > 1 {
		row.Target = strings.Join(members, "+")
		r.pools[row.Target] = route.Pool{Name: row.Target, Backends: members, Shared: true}
		// The first ticks so much faster than the others that it always wins.
		for i, name := range members {
			r.ranked[name] = max(1, route.MaxWeight>>(10*i))
		}
	}
	r.rows[key] = row
	return nil
}

// load makes the table anew. What is assigned, held and pinned stays.
func (r *router) load(names route.Names, backends map[string]*proxy.Backend) {
	def := route.Definition{Names: names}
	known := make(map[string]string)
	for name, b := range backends {
		known[name] = b.Address
	}
	for _, row := range r.rows { // a route may name a backend that is not configured
		if _, pool := r.pools[row.Target]; !pool && known[row.Target] == "" {
			known[row.Target] = "192.0.2.250:143"
		}
	}
	for _, p := range r.pools {
		def.Pools = append(def.Pools, p)
		for _, name := range p.Backends {
			if known[name] == "" {
				known[name] = "192.0.2.250:143"
			}
		}
	}
	for name, address := range known {
		def.Backends = append(def.Backends, route.Backend{Name: name, Address: address, Weight: r.ranked[name]})
	}
	rows := slices.Collect(maps.Values(r.rows))
	next := r.table.Successor()
	if r.err = next.Load(def, rows, true); r.err == nil {
		r.table = next
	}
}

// Begin implements [proxy.Router].
func (r *router) Begin(key string) (*route.Lease, error) {
	if r.err != nil {
		return nil, r.err
	}
	_, domain, _ := strings.Cut(key, "@")
	for _, k := range []string{key, "@" + domain, "*"} {
		if r.broken[k] {
			return nil, errTableDown
		}
		if _, ok := r.rows[k]; ok {
			break
		}
	}
	return r.table.Begin(key)
}

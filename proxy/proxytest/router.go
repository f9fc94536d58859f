package proxytest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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

// nowhere is the address of backends that routes name and nothing configures.
const nowhere = "192.0.2.250:143"

// errTableDown is what a table says that cannot answer.
var errTableDown = errors.New("the table cannot answer")

// routing is what a transcript says about routing so far, and the table made of it.
type routing struct {
	table    *route.Table
	rows     map[string]string // values of route lines, by key
	pools    map[string]route.Pool
	affinity time.Duration
}

func newRouting() *routing {
	return &routing{
		table: route.New(), rows: make(map[string]string),
		pools: make(map[string]route.Pool),
	}
}

// addPool takes a pool line. The order in which the members are written becomes
// everybody's order, through weights of which each is a thousand times the next.
func (r *routing) addPool(name, value string) error {
	words := strings.Fields(value)
	if len(words) == 0 || len(words) > 2 || len(words) == 2 && words[1] != "shared" {
		return errors.New("want members, and perhaps: shared")
	}
	p := route.Pool{Name: name, Backends: strings.Split(words[0], ","), Shared: len(words) == 2}
	r.pools[name] = p
	return nil
}

// weight returns the weight of a backend, 0 for one in no pool.
func (r *routing) weight(name string) int {
	for _, pool := range slices.Sorted(maps.Keys(r.pools)) {
		if i := slices.Index(r.pools[pool].Backends, name); i >= 0 {
			return max(1, route.MaxWeight>>(10*i))
		}
	}
	return 0
}

// poolsOf returns the names of the pools that a backend is in.
func (r *routing) poolsOf(backend string) []string {
	var in []string
	for name, p := range r.pools {
		if slices.Contains(p.Backends, backend) {
			in = append(in, name)
		}
	}
	slices.Sort(in)
	return in
}

// row makes a row of a route line: TARGET login=NAME. "first,second" is a shared
// pool in few words.
func (r *routing) row(key, value string) (route.Row, error) {
	words := strings.Fields(value)
	if len(words) == 0 {
		return route.Row{}, errors.New("route without a target")
	}
	row := route.Row{Key: key, Target: words[0]}
	if len(words) > 1 {
		login, ok := strings.CutPrefix(words[1], "login=")
		if !ok {
			return row, fmt.Errorf("route option %q", words[1])
		}
		row.Login = login
	}
	if strings.Contains(row.Target, ",") {
		name := strings.ReplaceAll(row.Target, ",", "+")
		if err := r.addPool(name, row.Target+" shared"); err != nil {
			return row, err
		}
		row.Target = name
	}
	return row, nil
}

// load makes the table anew and returns a router to it. Who is assigned, held or
// pinned stays so; routers from before keep their tables.
func (r *routing) load(names route.Names, backends map[string]*proxy.Backend) (*router, error) {
	broken := make(map[string]bool)
	var rows []route.Row
	for key, value := range r.rows {
		switch value {
		case "none":
			continue
		case "error":
			broken[key] = true
			continue
		}
		row, err := r.row(key, value)
		if err != nil {
			return nil, fmt.Errorf("route %s: %w", key, err)
		}
		rows = append(rows, row)
	}
	known := make(map[string]string) // addresses by name
	for _, row := range rows {
		if _, ok := r.pools[row.Target]; !ok {
			known[row.Target] = nowhere
		}
	}
	def := route.Definition{Names: names, Affinity: r.affinity}
	for _, p := range r.pools {
		def.Pools = append(def.Pools, p)
		for _, name := range p.Backends {
			known[name] = nowhere
		}
	}
	for name, b := range backends {
		known[name] = b.Address
	}
	for name, address := range known {
		def.Backends = append(def.Backends, route.Backend{Name: name, Address: address, Weight: r.weight(name)})
	}
	next := r.table.Successor()
	if err := next.Load(def, route.NewRows(rows...), true); err != nil {
		return nil, err
	}
	r.table = next
	return &router{table: next, broken: broken, rows: maps.Clone(r.rows)}, nil
}

// router is the [proxy.Router] of a transcript: a real table, and the users for
// whom it cannot answer. It is immutable.
type router struct {
	table  *route.Table
	broken map[string]bool
	rows   map[string]string
}

// Begin implements [proxy.Router].
func (r *router) Begin(key string) (*route.Lease, error) {
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

// setCheck reads a check line: interval=10s timeout=2s rise=2 fall=3 user=NAME:PASSWORD.
func setCheck(ck *proxy.Check, value string) error {
	for word := range strings.FieldsSeq(value) {
		key, v, _ := strings.Cut(word, "=")
		var err error
		switch key {
		case "interval":
			ck.Interval, err = time.ParseDuration(v)
		case "timeout":
			ck.Timeout, err = time.ParseDuration(v)
		case "rise":
			ck.Rise, err = strconv.Atoi(v)
		case "fall":
			ck.Fall, err = strconv.Atoi(v)
		case "user":
			user, password, _ := strings.Cut(v, ":")
			ck.User, ck.Password = user, proxy.NewSecret([]byte(password))
		default:
			err = errors.New("no such setting")
		}
		if err != nil {
			return fmt.Errorf("%s: %w", word, err)
		}
	}
	return nil
}

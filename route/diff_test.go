package route_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"imapgate/route"
)

// anyTable is a table of random rows over few names, and its rows by key.
func anyTable(t *testing.T, random *rand.Rand, state *route.Table) (*route.Table, map[string]string) {
	t.Helper()
	def := route.Definition{Pools: []route.Pool{{Name: "disks"}}}
	for i := range 2 + random.IntN(3) {
		name := fmt.Sprintf("mail%d", i)
		def.Backends = append(def.Backends, route.Backend{Name: name, Weight: 100 * (1 + random.IntN(2))})
		def.Pools[0].Backends = append(def.Pools[0].Backends, name)
	}
	if random.IntN(2) == 0 {
		def.Default = "disks"
	}
	keys := []string{"@example.org", "@example.net", "@sub.example.org"}
	for i := range 40 {
		keys = append(keys, fmt.Sprintf("user%d@%s", i, []string{"example.org", "example.net", "sub.example.org", "else.example"}[i%4]))
	}
	rows, byKey := []route.Row{}, make(map[string]string)
	for _, key := range keys {
		if random.IntN(3) > 0 {
			target := []string{"mail0", "mail1", "disks"}[random.IntN(3)]
			rows = append(rows, route.Row{Key: key, Target: target})
			byKey[key] = target
		}
	}
	next := state.Successor()
	if err := next.Load(def, route.NewRows(rows...), true); err != nil {
		t.Fatal(err)
	}
	return next, byKey
}

// What Diff says of two tables is what lookups in both say.
func TestDiffAgreesWithLookups(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1))
		before, oldRows := anyTable(t, random, route.New())
		after, newRows := anyTable(t, random, route.New())
		got, err := before.Diff(after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		var want route.Diff
		known := make(map[string]bool)
		for key := range oldRows {
			known[key] = true
		}
		for key := range newRows {
			known[key] = true
		}
		var changed []string
		for key := range known {
			was, is := oldRows[key], newRows[key]
			switch {
			case was == is:
			case was == "":
				want.Added++
			case is == "":
				want.Removed++
			default:
				want.Moved++
			}
			if was != is {
				changed = append(changed, key)
			}
			if key[0] != '@' && home(t, before, key) != home(t, after, key) {
				want.Users++
			}
		}
		var listed []string
		for _, row := range got.Rows {
			listed = append(listed, row.Key)
			// The default of a definition is no row that anybody wrote.
			if row.Key != "*" && (row.From != oldRows[row.Key] || row.To != newRows[row.Key]) {
				t.Errorf("seed %d: %+v", seed, row)
			}
		}
		if i := slices.Index(listed, "*"); i >= 0 {
			listed = slices.Delete(listed, i, i+1)
			got.Added -= len(got.Rows[i].To) / len("disks")
			got.Removed -= len(got.Rows[i].From) / len("disks")
		}
		slices.Sort(changed)
		if !slices.Equal(listed, changed) {
			t.Errorf("seed %d: rows %v, want %v", seed, listed, changed)
		}
		got.Rows = nil
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("seed %d: %+v, want %+v", seed, got, want)
		}
	}
}

func home(t *testing.T, table *route.Table, key string) string {
	t.Helper()
	p, err := table.Lookup(key)
	if errors.Is(err, route.ErrUnknownUser) {
		return ""
	}
	if err != nil {
		t.Fatal(err)
	}
	return p.Backends[0]
}

func TestDiffListsTheFirstRowsOfMany(t *testing.T) {
	def := route.Definition{Backends: []route.Backend{{Name: "mail1"}, {Name: "mail2"}}}
	before, after := route.New(), route.New()
	var old, rows []route.Row
	for i := range 5000 {
		key := fmt.Sprintf("user%04d@example.org", i)
		old = append(old, route.Row{Key: key, Target: "mail1"})
		rows = append(rows, route.Row{Key: key, Target: "mail2"})
	}
	if _, err := before.Diff(after, 1); !errors.Is(err, route.ErrNotLoaded) {
		t.Error(err)
	}
	if err := errors.Join(before.Load(def, route.NewRows(old...), false), after.Load(def, route.NewRows(rows...), false)); err != nil {
		t.Fatal(err)
	}
	d, err := before.Diff(after, 10)
	if err != nil || d.Moved != 5000 || d.Users != 5000 || len(d.Rows) != 10 {
		t.Errorf("%+v, %v", d, err)
	}
	for i, row := range d.Rows {
		if row.Key != fmt.Sprintf("user%04d@example.org", i) {
			t.Errorf("row %d is %+v", i, row)
		}
	}
	if d, err := before.Diff(after, 0); err != nil || len(d.Rows) != 0 || d.Moved != 5000 {
		t.Errorf("%+v, %v", d, err)
	}
}

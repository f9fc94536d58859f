package route_test

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/route"
)

func TestTableAnswersNothingBeforeItsFirstLoad(t *testing.T) {
	table := route.New()
	if _, err := table.Lookup("alice@example.org"); !errors.Is(err, route.ErrNotLoaded) || errors.Is(err, route.ErrUnknownUser) {
		t.Errorf("got %v", err)
	}
	if s := table.Stats(); s != (route.Stats{}) {
		t.Errorf("got %+v", s)
	}
	if err := table.Load(route.Definition{Default: "mail1"}, nil, false); err == nil {
		t.Error("loaded an unknown default")
	}
	if _, err := table.Lookup("alice@example.org"); !errors.Is(err, route.ErrNotLoaded) {
		t.Errorf("after a failed load: %v", err)
	}
}

func TestStatsDescribeTheTableInForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		def := route.Definition{
			Backends: []route.Backend{{Name: "mail1"}, {Name: "mail2"}},
			Pools:    []route.Pool{{Name: "shared", Backends: []string{"mail1"}}},
		}
		table := route.New()
		load := func(text string, force bool) error {
			rows, err := route.Parse("users.map", strings.NewReader(text))
			if err != nil {
				t.Fatal(err)
			}
			return table.Load(def, rows, force)
		}
		if err := load("a mail1\nb mail1\n@x.example shared\n* shared\n", false); err != nil {
			t.Fatal(err)
		}
		want := route.Stats{Rows: 3, Users: 2, Domains: 1, Backends: 2, Pools: 1, Generation: 1, LoadedAt: time.Now()}
		if got := table.Stats(); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
		<-time.After(time.Hour)
		var shrink *route.ShrinkError
		if err := load("", false); !errors.As(err, &shrink) {
			t.Errorf("got %v", err)
		}
		if got := table.Stats(); got != want {
			t.Errorf("after a refused load: %+v, want %+v", got, want)
		}
		if err := load("", true); err != nil {
			t.Fatal(err)
		}
		want = route.Stats{Backends: 2, Pools: 1, Generation: 2, LoadedAt: time.Now()}
		if got := table.Stats(); got != want {
			t.Errorf("after a forced load: %+v, want %+v", got, want)
		}
	})
}

func TestSuccessorIsGuardedLikeTheTableItReplaces(t *testing.T) {
	def := route.Definition{Backends: []route.Backend{{Name: "mail1"}}}
	row := func(key string) route.Row { return route.Row{Key: key, Target: "mail1"} }
	old := route.New()
	if err := old.Load(def, route.NewRows([]route.Row{row("a"), row("b"), row("c")}...), false); err != nil {
		t.Fatal(err)
	}
	next := old.Successor()
	if _, err := next.Lookup("a"); !errors.Is(err, route.ErrNotLoaded) {
		t.Errorf("before its load: %v", err)
	}
	for _, table := range []*route.Table{next, next.Successor()} {
		if _, ok := errors.AsType[*route.ShrinkError](table.Load(def, route.NewRows([]route.Row{row("a")}...), false)); !ok {
			t.Error("a third of the rows was loaded")
		}
	}
	if err := next.Load(def, route.NewRows([]route.Row{row("a"), row("b")}...), false); err != nil {
		t.Fatal(err)
	}
	if got := next.Stats(); got.Generation != 2 || got.Rows != 2 || old.Stats().Rows != 3 {
		t.Errorf("successor has %+v, the old one %+v", got, old.Stats())
	}
	if err := next.Load(def, route.NewRows([]route.Row{row("a")}...), false); err != nil { // half of its own
		t.Error(err)
	}
}

func TestLoadKeepsNothingOfItsCallers(t *testing.T) {
	def := route.Definition{
		Backends: []route.Backend{{Name: "mail1"}},
		Pools:    []route.Pool{{Name: "shared", Backends: []string{"mail1"}, Shared: true}},
	}
	rows := []route.Row{{Key: "a@example.org", Target: "shared", Login: "x", Source: route.Position{File: "f", Line: 1}}}
	table := route.New()
	if err := table.Load(def, route.NewRows(rows...), false); err != nil {
		t.Fatal(err)
	}
	def.Backends[0].Name, def.Pools[0].Backends[0] = "overwritten", "overwritten"
	rows[0] = route.Row{Key: "overwritten", Target: "overwritten", Source: route.Position{File: "overwritten"}}
	p, err := table.Lookup("a@example.org")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprintf("%+v", p); got != "{Key:a@example.org Backends:[mail1] Pool:shared Login:x Reason:user Source:f:1 Slot:23968 Held:false Candidates:[]}" {
		t.Errorf("got %s", got)
	}
}

// Every generation names its backends, its pool and its source after itself: a
// lookup that saw two of them would mix the names.
func TestLookupsDuringReloadsSeeOneGeneration(t *testing.T) {
	const users, generations, readers = 300, 40, 4
	table := route.New()
	load := func(generation int) error {
		suffix := fmt.Sprintf("-%d", generation)
		def := route.Definition{
			Backends: []route.Backend{{Name: "mail" + suffix}, {Name: "nfs" + suffix}},
			Pools:    []route.Pool{{Name: "shared" + suffix, Backends: []string{"nfs" + suffix, "mail" + suffix}, Shared: true}},
			Default:  "mail" + suffix,
		}
		var rows []route.Row
		for i := range users {
			target := "mail" + suffix
			if i%2 == 1 {
				target = "shared" + suffix
			}
			rows = append(rows, route.Row{Key: fmt.Sprintf("user%d@example.org", i), Target: target, Source: route.Position{File: "file" + suffix}})
		}
		rows = append(rows, route.Row{Key: "@example.net", Target: "shared" + suffix, Source: route.Position{File: "file" + suffix}})
		return table.Load(def, route.NewRows(rows...), false)
	}
	if err := load(0); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for r := range readers {
		wg.Go(func() {
			for i := r; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				keys := []string{fmt.Sprintf("user%d@example.org", i%users), "x@sub.example.net", "x@example.com"}
				key := keys[i%3]
				p, err := table.Lookup(key)
				if err != nil {
					t.Errorf("lookup of %s: %v", key, err)
					return
				}
				_, suffix, _ := strings.Cut(p.Backends[0], "-")
				for _, name := range append([]string{p.Pool, p.Source}, p.Backends...) {
					if name != "" && !strings.HasSuffix(name, "-"+suffix) {
						t.Errorf("lookup of %s mixes generations: %+v", key, p)
						return
					}
				}
			}
		})
	}
	for g := 1; g <= generations; g++ {
		if err := load(g); err != nil {
			t.Errorf("load %d: %v", g, err)
		}
	}
	close(stop)
	wg.Wait()
	if got := table.Stats().Generation; got != generations+1 {
		t.Errorf("generation is %d", got)
	}
}

// A file that is cut anywhere is refused, or is a complete smaller table; never
// does half a line mean something else.
func TestTableCutAtEveryOctetNeverTakesTheLastGoodOneAway(t *testing.T) {
	def := route.Definition{
		Backends: []route.Backend{{Name: "mail1"}, {Name: "mail10"}},
		Pools:    []route.Pool{{Name: "shared", Backends: []string{"mail1", "mail10"}}, {Name: "sha", Backends: []string{"mail1"}}},
	}
	const text = "\ufeff# the users\n" +
		"alice@example.org mail10\r\n" +
		"bob@example.org mail10 login=bob.smith\n" +
		"@example.net shared\n" +
		"\n" +
		"carol@example.org.example mail10 # moved\n" +
		"ärzte@klinik.example shared\n" +
		"* shared\n"
	parse := func(text string) (*route.Rows, error) { return route.Parse("users.map", strings.NewReader(text)) }
	whole, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	keys := []string{"alice@example.org", "bob@example.org", "x@example.net", "carol@example.org.example", "ärzte@klinik.example", "other@example.com"}
	refused, shrunk, loaded := 0, 0, 0
	for cut := range len(text) {
		table := route.New()
		if err := table.Load(def, whole, false); err != nil {
			t.Fatal(err)
		}
		before := make(map[string]route.Placement)
		for _, key := range keys {
			if before[key], err = table.Lookup(key); err != nil {
				t.Fatal(err)
			}
		}
		rows, err := parse(text[:cut])
		if err == nil {
			err = table.Load(def, rows, false)
		} else {
			refused++
		}
		if _, ok := errors.AsType[*route.ShrinkError](err); ok {
			shrunk++
		}
		if err == nil {
			loaded++
			if text[cut-1] != '\n' {
				t.Errorf("cut at %d: half a line was loaded", cut)
			}
		}
		for _, key := range keys {
			p, lookupErr := table.Lookup(key)
			switch {
			case lookupErr != nil && (err != nil || !errors.Is(lookupErr, route.ErrUnknownUser)):
				t.Errorf("cut at %d: lookup of %s: %v", cut, key, lookupErr)
			case lookupErr == nil && p.Source != before[key].Source && (err != nil || p.Reason == before[key].Reason):
				t.Errorf("cut at %d: %s became %+v", cut, key, p)
			}
		}
	}
	lines := strings.Count(text, "\n")
	if refused != len(text)-lines || shrunk == 0 || loaded == 0 || shrunk+loaded != lines {
		t.Errorf("%d refused, %d shrunk, %d loaded of %d", refused, shrunk, loaded, len(text))
	}
}

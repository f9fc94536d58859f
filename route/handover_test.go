package route_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"imapgate/route"
)

// heir is a successor in the same process: a table that counts what the other has.
type heir struct {
	table   *route.Table
	leases  map[string][]*route.Lease // by user and backend
	refused int
	during  func() // runs while Claim waits for its answer
}

func key(user, backend string) string { return user + " " + backend }

func (h *heir) adopt(list []route.Residence) {
	for _, r := range list {
		h.leases[key(r.User, r.Backend)] = h.table.Adopt(r)
	}
}

func (h *heir) Claim(_ context.Context, user, backend string) bool {
	l, err := h.table.Begin(user)
	if h.during != nil {
		h.during()
	}
	if err != nil || !l.Claim(context.Background(), backend) || !l.Commit(backend) {
		h.refused++
		return false
	}
	h.leases[key(user, backend)] = append(h.leases[key(user, backend)], l)
	return true
}

func (h *heir) End(user, backend string) {
	k := key(user, backend)
	if len(h.leases[k]) == 0 {
		panic("an end that nobody has: " + k)
	}
	h.leases[k][0].End()
	h.leases[k] = h.leases[k][1:]
}

func sharedTable(t *testing.T) *route.Table {
	t.Helper()
	table := route.New()
	def := route.Definition{
		Backends: []route.Backend{{Name: "b1"}, {Name: "b2"}, {Name: "b3"}},
		Pools:    []route.Pool{{Name: "p", Backends: []string{"b1", "b2", "b3"}, Shared: true}},
		Default:  "p",
	}
	if err := table.Load(def, nil, true); err != nil {
		t.Fatal(err)
	}
	return table
}

func begin(t *testing.T, table *route.Table, user string) *route.Lease {
	t.Helper()
	l, err := table.Begin(user)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// enter logs a user in where the table says.
func enter(t *testing.T, table *route.Table, user string) *route.Lease {
	t.Helper()
	l := begin(t, table, user)
	b := l.Placement().Backends[0]
	if !l.Claim(context.Background(), b) || !l.Commit(b) {
		t.Fatalf("%s cannot log in at %s", user, b)
	}
	return l
}

func sessions(table *route.Table) (n int) {
	for _, b := range table.Backends() {
		n += b.Sessions
	}
	return n
}

func TestHandOverTellsWhoIsWhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		old, h := sharedTable(t), &heir{table: sharedTable(t), leases: make(map[string][]*route.Lease)}
		a1, a2 := enter(t, old, "a"), enter(t, old, "a")
		enter(t, old, "gone").End()
		time.Sleep(5 * time.Minute)
		enter(t, old, "later").End()
		under := begin(t, old, "u")
		where := under.Placement().Backends
		if !under.Claim(context.Background(), where[0]) {
			t.Fatal("no claim")
		}
		list := old.State().HandOver(h)
		h.adopt(list)
		home := func(user string) string { return begin(t, h.table, user).Placement().Backends[0] }
		want := []route.Residence{
			{User: "a", Backend: a1.Placement().Backends[0], Sessions: 2},
			{User: "u", Backend: where[0], Sessions: 1},
			{User: "gone", Backend: home("gone"), Affinity: 10 * time.Minute},
			{User: "later", Backend: home("later"), Affinity: 15 * time.Minute},
		}
		slices.SortStableFunc(list[:2], func(a, b route.Residence) int { return cmpString(a.User, b.User) })
		if diff := cmp.Diff(want, list); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if n := sessions(h.table); n != 3 {
			t.Errorf("the heir counts %d sessions", n)
		}

		// A user whom the heir has elsewhere cannot log in here.
		other := begin(t, h.table, "late")
		second := other.Placement().Backends[1]
		if !other.Claim(context.Background(), second) || !other.Commit(second) {
			t.Fatal("no session at the heir's")
		}
		l := begin(t, old, "late")
		if l.Claim(context.Background(), l.Placement().Backends[0]) {
			t.Error("a user with sessions elsewhere was let in")
		}
		if !l.Claim(context.Background(), second) || !l.Commit(second) {
			t.Error("a user was refused where his sessions are")
		}
		l.End()
		other.End()

		// All ends are told, each once.
		if !under.Commit(where[0]) {
			t.Error("a login that was under way cannot go on")
		}
		for _, l := range []*route.Lease{a1, a2, under} {
			l.End()
			l.End()
		}
		if n := sessions(h.table); n != 0 {
			t.Errorf("the heir still counts %d sessions", n)
		}
		if p := begin(t, h.table, "a").Placement(); p.Reason != route.ReasonAssignment || p.Backends[0] != list[0].Backend {
			t.Errorf("a, whose last session has ended in the old process: %+v", p)
		}
		time.Sleep(11 * time.Minute) // the affinity of gone is over
		if r := begin(t, h.table, "gone").Placement().Reason; r == route.ReasonAssignment {
			t.Errorf("gone: %s", r)
		}
	})
}

func cmpString(a, b string) int {
	if a < b {
		return -1
	}
	return 1
}

func TestTakeBackLeavesAllAsItWas(t *testing.T) {
	old, h := sharedTable(t), &heir{table: sharedTable(t), leases: make(map[string][]*route.Lease)}
	l := enter(t, old, "a")
	_ = old.State().HandOver(h)
	old.State().TakeBack()
	l.End() // not told: the heir, which adopted nothing, would panic
	enter(t, old, "b").End()
}

func TestALoginThatEndsWhileTheSuccessorIsAskedIsNotForgotten(t *testing.T) {
	old, h := sharedTable(t), &heir{table: sharedTable(t), leases: make(map[string][]*route.Lease)}
	h.adopt(old.State().HandOver(h))
	l := begin(t, old, "a")
	h.during = l.End
	if l.Claim(context.Background(), l.Placement().Backends[0]) {
		t.Error("a login that has ended goes on")
	}
	if n := sessions(h.table); n != 0 {
		t.Errorf("the heir counts %d sessions", n)
	}
}

// TestOneBackendPerUserAcrossAHandOver does what two processes do with a few
// users in all orders that chance brings, with different ideas of the weights: no
// user is ever on two backends, and the heir counts what there is.
func TestOneBackendPerUserAcrossAHandOver(t *testing.T) {
	refused := 0
	for seed := range uint64(50) {
		random := rand.New(rand.NewPCG(seed, 1))
		old, h := sharedTable(t), &heir{table: sharedTable(t), leases: make(map[string][]*route.Lease)}
		if err := h.table.State().SetWeight("b1", 1, route.Change{}); err != nil {
			t.Fatal(err)
		}
		type held struct {
			*route.Lease
			user, at string
			ended    bool
		}
		var all []*held
		handedOver := false
		for step := range 400 {
			table := old
			if handedOver && random.IntN(2) == 0 {
				table = h.table
			}
			if step == 100 {
				h.adopt(old.State().HandOver(h))
				handedOver = true
			}
			if random.IntN(3) == 0 && len(all) > 0 {
				l := all[random.IntN(len(all))]
				l.End()
				l.ended = true
				continue
			}
			user := fmt.Sprint(random.IntN(8))
			l := begin(t, table, user)
			at := l.Placement().Backends[random.IntN(len(l.Placement().Backends))]
			if !l.Claim(context.Background(), at) || random.IntN(4) == 0 || !l.Commit(at) {
				l.End()
				continue
			}
			all = append(all, &held{Lease: l, user: user, at: at})
			where, n := make(map[string]string), 0
			for _, l := range all {
				if l.ended {
					continue
				}
				n++
				if before, ok := where[l.user]; ok && before != l.at {
					t.Fatalf("seed %d, step %d: %s is on %s and on %s", seed, step, l.user, before, l.at)
				}
				where[l.user] = l.at
			}
			if handedOver && sessions(h.table) != n {
				t.Fatalf("seed %d, step %d: %d sessions, the heir counts %d", seed, step, n, sessions(h.table))
			}
		}
		refused += h.refused
	}
	if refused == 0 {
		t.Error("nobody was ever refused")
	}
}

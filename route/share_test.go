package route_test

import (
	"fmt"
	"math"
	"testing"

	"imapgate/route"
)

// poolOf returns a table of one shared pool whose members have these weights; a
// weight of 0 leaves the member out.
func poolOf(t *testing.T, before *route.Table, weights ...int) *route.Table {
	t.Helper()
	def := route.Definition{Pools: []route.Pool{{Name: "nfs", Shared: true}}, Default: "nfs"}
	for i, w := range weights {
		if w > 0 {
			name := fmt.Sprintf("mail%d", i)
			def.Backends = append(def.Backends, route.Backend{Name: name, Weight: w})
			def.Pools[0].Backends = append(def.Pools[0].Backends, name)
		}
	}
	table := before.Successor()
	if err := table.Load(def, nil, true); err != nil {
		t.Fatal(err)
	}
	return table
}

const manyUsers = 10_000

func homes(t *testing.T, table *route.Table) []string {
	t.Helper()
	list := make([]string, 0, manyUsers)
	for i := range manyUsers {
		list = append(list, home(t, table, userName(i)))
	}
	return list
}

// compareHomes returns the share of users who moved, and fails when one moved
// that did not move to or from the backend that something happened to.
func compareHomes(t *testing.T, before, after []string, backend string) float64 {
	t.Helper()
	moved := 0
	for i := range before {
		if before[i] == after[i] {
			continue
		}
		moved++
		if before[i] != backend && after[i] != backend {
			t.Errorf("%s moved from %s to %s because of %s", userName(i), before[i], after[i], backend)
		}
	}
	return float64(moved) / float64(len(before))
}

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 0.1*want {
		t.Errorf("%s: %.4f of the users moved, want %.4f", what, got, want)
	}
}

func TestBackendThatJoinsAPoolTakesItsShareAndNoOtherUserMoves(t *testing.T) {
	for _, tt := range []struct {
		name    string
		weights []int
		join    int
		share   float64
	}{
		{"the fifth of five", []int{100, 100, 100, 100, 100}, 4, 1.0 / 5},
		{"the first of ten", []int{100, 100, 100, 100, 100, 100, 100, 100, 100, 100}, 0, 1.0 / 10},
		{"a heavy one", []int{100, 50, 100, 250}, 3, 250.0 / 500},
		{"a light one", []int{100, 50, 300, 50}, 1, 50.0 / 500},
	} {
		t.Run(tt.name, func(t *testing.T) {
			less := append([]int{}, tt.weights...)
			less[tt.join] = 0
			table := poolOf(t, route.New(), less...)
			before := homes(t, table)
			table = poolOf(t, table, tt.weights...)
			near(t, "joining", compareHomes(t, before, homes(t, table), fmt.Sprintf("mail%d", tt.join)), tt.share)
		})
	}
}

func TestWeightMovesUsersToOrFromItsBackendAlone(t *testing.T) {
	table := poolOf(t, route.New(), 100, 100, 100, 100)
	configured := homes(t, table)
	if err := table.State().SetWeight("mail1", 300, route.Change{}); err != nil {
		t.Fatal(err)
	}
	heavy := homes(t, table)
	near(t, "three times the weight", compareHomes(t, configured, heavy, "mail1"), 3.0/6-1.0/4)
	// The same from the configuration.
	if moved := compareHomes(t, heavy, homes(t, poolOf(t, route.New(), 100, 300, 100, 100)), ""); moved != 0 {
		t.Errorf("%.4f of the users moved", moved)
	}
	if err := table.State().SetWeight("mail1", 0, route.Change{}); err != nil {
		t.Fatal(err)
	}
	if moved := compareHomes(t, configured, homes(t, table), ""); moved != 0 {
		t.Errorf("%.4f of the users did not come back", moved)
	}
}

// A backend goes, by any way there is, and comes back: it has its slots again,
// and no user who found another meanwhile is moved.
func TestBackendThatComesBackGetsItsSlotsAndNoLiveUser(t *testing.T) {
	const gone = "mail2"
	for _, tt := range []struct {
		name        string
		leave, come func(*testing.T, *route.Table) *route.Table
	}{
		{
			"health",
			func(_ *testing.T, table *route.Table) *route.Table {
				table.State().SetHealth(gone, false, "connection refused")
				return table
			},
			func(_ *testing.T, table *route.Table) *route.Table {
				table.State().SetHealth(gone, true, "greeting")
				return table
			},
		},
		{
			"maintenance",
			func(t *testing.T, table *route.Table) *route.Table {
				t.Helper()
				return setAdmin(t, table, gone, route.AdminMaint)
			},
			func(t *testing.T, table *route.Table) *route.Table {
				t.Helper()
				return setAdmin(t, table, gone, route.AdminReady)
			},
		},
		{
			"reload",
			func(t *testing.T, table *route.Table) *route.Table {
				t.Helper()
				return poolOf(t, table, 100, 200, 0, 50)
			},
			func(t *testing.T, table *route.Table) *route.Table {
				t.Helper()
				return poolOf(t, table, 100, 200, 100, 50)
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			table := poolOf(t, route.New(), 100, 200, 100, 50)
			before, shares := homes(t, table), table.Pools()[0].Shares
			table = tt.leave(t, table)
			near(t, "going", compareHomes(t, before, homes(t, table), gone), 100.0/450)
			if share := table.Pools()[0].Shares[gone]; share != 0 {
				t.Errorf("the share of a backend that is away is %v", share)
			}
			// Half of some users have sessions, half had one a moment ago.
			const live = 3000
			for i := range live {
				l := session(table, userName(i))
				if l == nil {
					t.Fatal("no session")
				}
				if i%2 == 0 {
					l.End()
				}
			}
			away := homes(t, table)
			table = tt.come(t, table)
			after := homes(t, table)
			for i := range live {
				if after[i] != away[i] {
					t.Errorf("%s moved from %s to %s", userName(i), away[i], after[i])
				}
			}
			if moved := compareHomes(t, before[live:], after[live:], ""); moved != 0 {
				t.Errorf("%.4f of the other users did not come back", moved)
			}
			if got := fmt.Sprint(table.Pools()[0].Shares); got != fmt.Sprint(shares) {
				t.Errorf("shares are %s, and were %v", got, shares)
			}
		})
	}
}

func setAdmin(t *testing.T, table *route.Table, backend string, a route.Admin) *route.Table {
	t.Helper()
	if err := table.State().SetAdmin(backend, a, route.Change{}); err != nil {
		t.Fatal(err)
	}
	return table
}

// The slots of each member are within 5 % of its share by weight, in pools of up to
// 50 members. Which slots are whose is a matter of chance, and fixed: what holds
// here holds everywhere.
func TestSlotsFollowWeights(t *testing.T) {
	for _, tt := range []struct {
		members int
		weights []int
	}{
		{3, []int{100}},
		{10, []int{100}},
		{50, []int{100}},
		{50, []int{50, 100, 150, 200}},
	} {
		t.Run(fmt.Sprintf("%d members of weights %v", tt.members, tt.weights), func(t *testing.T) {
			t.Parallel()
			weights, sum := make([]int, tt.members), 0
			for i := range weights {
				weights[i] = tt.weights[i%len(tt.weights)]
				sum += weights[i]
			}
			table := poolOf(t, route.New(), weights...)
			slots, shares, all := table.CountSlots("nfs"), table.Pools()[0].Shares, 0
			worst, least := 0.0, 1.0
			for i, w := range weights {
				name := fmt.Sprintf("mail%d", i)
				share := float64(w) / float64(sum)
				if math.Abs(shares[name]-share) > 1e-9 {
					t.Errorf("%s is told to have %v, want %v", name, shares[name], share)
				}
				worst, least = max(worst, math.Abs(float64(slots[name])/(share*route.Slots)-1)), min(least, share)
				all += slots[name]
			}
			t.Logf("the worst is %.1f %% off its share; of the least, of %.2f %%, the standard deviation is %.1f %%",
				100*worst, 100*least, 100*math.Sqrt((1-least)/(least*route.Slots)))
			if worst > 0.05 || all != route.Slots {
				t.Errorf("%v", slots)
			}
		})
	}
}

package route_test

import (
	"flag"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/route"
)

var simulated = flag.Int("users", 10_000, "how many users TestSimulation has; figures for readers are those of 1000000")

// TestSimulation is an hour of a site with 50 backends in virtual time: users
// come and go, backends fail and return, people drain, weigh, pin and move, and
// the table is reloaded with backends more or less. After every step, nobody is
// on two backends, and the table knows where everybody is.
//
// It runs with 10,000 users, and with 5,000 in short mode; -users 1000000 is the
// site of full size, which takes minutes.
func TestSimulation(t *testing.T) {
	n, steps := *simulated, 60
	if testing.Short() {
		n, steps = min(n, 5000), 20
	}
	synctest.Test(t, func(t *testing.T) {
		s := newSite(t, n)
		for range steps {
			s.step()
		}
		s.report()
	})
}

const siteBackends = 50

// site is the truth that the table is compared with.
type site struct {
	t      *testing.T
	random *rand.Rand
	table  *route.Table
	users  []siteUser
	flight []siteLogin // logins between Claim and Commit, while other things happen
	flying map[int]int // how many of them each user has

	there    []bool // backends of the configuration
	weight   []int  // configured
	override []int  // weights that people set
	up       []bool
	admin    []route.Admin
	sessions []int
	fresh    []string // users who never log in: where new ones would go
	places   []string // where they would go now

	events int
	moves  map[string]*moved
	sum    struct{ logins, ended, evicted, late, refused, unavailable, failovers, slotChecks int }
	worst  struct{ relative, points, sigma float64 }
}

// siteUser has all sessions on one backend: at.
type siteUser struct {
	key    string
	at     int // -1 without sessions
	leases []*route.Lease
}

type siteLogin struct {
	user, backend int
	lease         *route.Lease
}

// moved is what one kind of event does to users without sessions.
type moved struct {
	events        int
	changed, fair float64 // shares of all users
}

func newSite(t *testing.T, users int) *site {
	t.Helper()
	s := &site{t: t, random: rand.New(rand.NewPCG(3, uint64(users))), table: route.New(), flying: make(map[int]int), moves: make(map[string]*moved)}
	for i := range siteBackends {
		s.there = append(s.there, i%10 != 9)
		s.weight = append(s.weight, 50+50*s.random.IntN(4))
		s.up = append(s.up, true)
		s.admin = append(s.admin, route.AdminReady)
	}
	s.override, s.sessions = make([]int, siteBackends), make([]int, siteBackends)
	for i := range users {
		s.users = append(s.users, siteUser{key: userName(i), at: -1})
	}
	for i := range max(1000, users/50) {
		s.fresh = append(s.fresh, fmt.Sprintf("new%d@example.net", i))
	}
	s.reload()
	for i := range s.users {
		s.login(i)
	}
	s.places = s.lookups()
	return s
}

func siteBackend(i int) string { return fmt.Sprintf("mail%d", i) }

// reload puts the configuration in force. Some users have rows, the others are in
// the pool of all backends.
func (s *site) reload() {
	s.t.Helper()
	def := route.Definition{Pools: []route.Pool{{Name: "nfs", Shared: true}, {Name: "disks"}}, Default: "nfs"}
	for i, there := range s.there {
		if there {
			def.Backends = append(def.Backends, route.Backend{Name: siteBackend(i), Weight: s.weight[i]})
			def.Pools[0].Backends = append(def.Pools[0].Backends, siteBackend(i))
		}
	}
	def.Pools[1].Backends = []string{"mail0", "mail1", "mail2"}
	var rows []route.Row
	for i := 0; i < len(s.users); i += 20 {
		rows = append(rows, route.Row{Key: s.users[i].key, Target: "disks"})
		if i+1 < len(s.users) {
			rows = append(rows, route.Row{Key: s.users[i+1].key, Target: siteBackend(i / 20 % 5)})
		}
	}
	next := s.table.Successor()
	if err := next.Load(def, route.NewRows(rows...), true); err != nil {
		s.t.Fatal(err)
	}
	s.table = next
}

// step is a minute.
func (s *site) step() {
	s.t.Helper()
	for range 1 + s.random.IntN(2) {
		s.event()
	}
	s.land()
	for range 1 + len(s.users)/100 {
		s.logout(s.random.IntN(len(s.users)))
		s.login(s.random.IntN(len(s.users)))
	}
	for range 1 + len(s.users)/5000 {
		s.move(s.random.IntN(len(s.users)))
	}
	s.check()
	<-time.After(time.Minute)
}

// event is one thing that happens to a backend, and its effect on new users.
func (s *site) event() {
	s.t.Helper()
	i := s.random.IntN(siteBackends)
	shares := s.shares()
	var kind string
	state := s.table.State()
	c := route.Change{By: "op", Why: "simulation"}
	var err error
	switch what := s.random.IntN(8); {
	case what == 0 && i >= 5: // shards stay in the configuration
		s.there[i] = !s.there[i]
		kind = "reload: a backend less"
		if s.there[i] {
			kind = "reload: a backend more"
		}
		s.reload()
	case !s.there[i]:
		return
	case what <= 3 && s.up[i]:
		kind, s.up[i] = "failure", false
		state.SetHealth(siteBackend(i), false, "connection refused")
	case what <= 3 || !s.up[i]:
		kind, s.up[i] = "recovery", true
		state.SetHealth(siteBackend(i), true, "greeting")
	case what <= 5 && s.admin[i] == route.AdminReady:
		kind, s.admin[i] = "drain", route.AdminDrain
		if what == 5 {
			kind, s.admin[i] = "maint", route.AdminMaint
		}
		err = state.SetAdmin(siteBackend(i), s.admin[i], c)
	case what <= 5:
		kind, s.admin[i] = "ready", route.AdminReady
		err = state.SetAdmin(siteBackend(i), s.admin[i], c)
	default:
		kind, s.override[i] = "weight", 25*s.random.IntN(12)
		err = state.SetWeight(siteBackend(i), s.override[i], c)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	s.measure(kind, i, shares)
	s.evict(i)
}

// takes says whether a backend gets users of the pool.
func (s *site) takes(i int) bool {
	return s.there[i] && s.up[i] && s.admin[i] == route.AdminReady
}

// shares are the backends' shares of new users of the pool by their weights.
func (s *site) shares() []float64 {
	shares := make([]float64, siteBackends)
	sum := 0.0
	for i := range shares {
		if s.takes(i) {
			shares[i] = float64(s.weight[i])
			if s.override[i] > 0 {
				shares[i] = float64(s.override[i])
			}
			sum += shares[i]
		}
	}
	for i := range shares {
		shares[i] /= sum
	}
	return shares
}

// lookups says where users would go who have never been here.
func (s *site) lookups() []string {
	s.t.Helper()
	places := make([]string, 0, len(s.fresh))
	for _, key := range s.fresh {
		p, err := s.table.Lookup(key)
		if err != nil {
			s.t.Fatal(err)
		}
		places = append(places, p.Backends[0])
	}
	return places
}

// measure compares where new users go before and after something happened to a
// backend: they may move to it or from it, and not otherwise.
func (s *site) measure(kind string, i int, shares []float64) {
	s.t.Helper()
	m := s.moves[kind]
	if m == nil {
		m = new(moved)
		s.moves[kind] = m
	}
	before, after := s.places, s.lookups()
	s.places = after
	m.events++
	m.fair += math.Abs(s.shares()[i] - shares[i])
	for k := range after {
		if before[k] == after[k] {
			continue
		}
		m.changed += 1 / float64(len(after))
		if before[k] != siteBackend(i) && after[k] != siteBackend(i) {
			s.t.Errorf("%s of %s: %s moved from %s to %s", kind, siteBackend(i), s.fresh[k], before[k], after[k])
		}
	}
	s.checkPlaces()
	if s.events++; s.events%20 == 0 { // counting slots takes a while
		s.checkSlots()
	}
}

// checkPlaces compares where new users go with the weights.
func (s *site) checkPlaces() {
	s.t.Helper()
	got := make(map[string]int)
	for _, place := range s.places {
		got[place]++
	}
	for i, want := range s.shares() {
		name := siteBackend(i)
		if share := float64(got[name]) / float64(len(s.places)); math.Abs(share-want) > 0.05 || want == 0 && share > 0 {
			s.t.Errorf("%s gets %.4f of the new users, its weight is %.4f", name, share, want)
		}
	}
}

// checkSlots compares the slots of the backends with the weights: 5 % of each
// share, or what the chance of so many draws makes of a small one.
func (s *site) checkSlots() {
	s.t.Helper()
	slots := s.table.CountSlots("nfs")
	for i, want := range s.shares() {
		name := siteBackend(i)
		if want == 0 {
			if slots[name] > 0 {
				s.t.Errorf("%s takes no users, and has %d slots", name, slots[name])
			}
			continue
		}
		off := math.Abs(float64(slots[name])/route.Slots - want)
		deviation := math.Sqrt(want * (1 - want) / route.Slots)
		// A share of a percent is a matter of chance to more than 1 % of itself.
		if off > max(0.05*want, 4*deviation) {
			s.t.Errorf("%s has %d slots, its weight is %.4f: %.1f %% off, %.1f standard deviations", name, slots[name], want, 100*off/want, off/deviation)
		}
		s.worst.relative = max(s.worst.relative, off/want)
		s.worst.points = max(s.worst.points, off)
		s.worst.sigma = max(s.worst.sigma, off/deviation)
	}
	s.sum.slotChecks++
}

// check compares what the table knows with the truth.
func (s *site) check() {
	s.t.Helper()
	for _, b := range s.table.Backends() {
		var i int
		if _, err := fmt.Sscanf(b.Name, "mail%d", &i); err != nil {
			s.t.Fatal(err)
		}
		if b.Sessions != s.sessions[i] || b.Up != s.up[i] || b.Admin != s.admin[i] {
			s.t.Errorf("%+v, want %d sessions", b, s.sessions[i])
		}
	}
	for range min(len(s.users), 5000) {
		user := &s.users[s.random.IntN(len(s.users))]
		if user.at < 0 || !s.there[user.at] {
			continue
		}
		p, err := s.table.Lookup(user.key)
		if err != nil || len(p.Backends) != 1 || p.Backends[0] != siteBackend(user.at) {
			s.t.Errorf("%s is on %s, the table says %v, %v", user.key, siteBackend(user.at), p.Backends, err)
		}
	}
}

func (s *site) report() {
	s.t.Helper()
	// All at once: who is where.
	for i := range siteBackends {
		want := 0
		for u := range s.users {
			if s.users[u].at == i {
				want++
			}
		}
		if got := len(s.table.State().Assigned(siteBackend(i))); got != want {
			s.t.Errorf("%d users are on %s, the table says %d", want, siteBackend(i), got)
		}
	}
	s.t.Logf("%d users, %d logins, %d sessions ended, %d users evicted", len(s.users), s.sum.logins, s.sum.ended, s.sum.evicted)
	s.t.Logf("%d logins unavailable, %d claims refused, %d commits refused, %d failed over", s.sum.unavailable, s.sum.refused, s.sum.late, s.sum.failovers)
	s.t.Logf("slots, in %d checks of up to 50 members: at worst %.2f points or %.1f %% of a member's share off its weight, %.1f standard deviations of %d slots",
		s.sum.slotChecks, 100*s.worst.points, 100*s.worst.relative, s.worst.sigma, route.Slots)
	for _, kind := range slices.Sorted(maps.Keys(s.moves)) {
		m := s.moves[kind]
		n := float64(m.events)
		s.t.Logf("%-24s %3d events: %.2f %% of new users go elsewhere, by weight %.2f %%, others 0", kind, m.events, 100*m.changed/n, 100*m.fair/n)
	}
}

package route_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"imapgate/route"
)

// mailStore is what the backends see: who is logged in where, from the moment
// before a connection is opened to the moment after it is closed.
type mailStore struct {
	mu    sync.Mutex
	users map[string]presence
	bad   []string
}

type presence struct {
	backend string
	n       int
}

func (m *mailStore) enter(user, backend string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.users[user]
	if at.n > 0 && at.backend != backend {
		m.bad = append(m.bad, fmt.Sprintf("%s is on %s and comes to %s", user, at.backend, backend))
	}
	m.users[user] = presence{backend, at.n + 1}
}

func (m *mailStore) leave(user string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	at := m.users[user]
	at.n--
	m.users[user] = at
}

func (m *mailStore) on(user string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.users[user].n
}

// chaosDefinition has shards and both kinds of pools over the same backends; odd
// generations lack a backend, and have other targets for the same users.
func chaosDefinition(generation, users int) (route.Definition, []route.Row) {
	def := route.Definition{
		Pools:   []route.Pool{{Name: "nfs", Shared: true}, {Name: "disks"}},
		Default: "nfs",
	}
	for i := range 6 - generation%2 {
		name := fmt.Sprintf("mail%d", i)
		def.Backends = append(def.Backends, route.Backend{Name: name, Weight: 50 + 50*i})
		def.Pools[0].Backends = append(def.Pools[0].Backends, name)
		if i%2 == 0 {
			def.Pools[1].Backends = append(def.Pools[1].Backends, name)
		}
	}
	var rows []route.Row
	for i := range users {
		switch (i + generation) % 5 {
		case 0:
			rows = append(rows, route.Row{Key: chaosUser(i), Target: fmt.Sprintf("mail%d", i%5)})
		case 1:
			rows = append(rows, route.Row{Key: chaosUser(i), Target: "disks"})
		}
	}
	return def, rows
}

func chaosUser(i int) string { return fmt.Sprintf("user%d@example.org", i) }

// Whatever happens at the same time, no user is on two backends.
func TestUserIsNeverOnTwoBackends(t *testing.T) {
	const users = 24
	clients, logins := 64, 200
	if testing.Short() {
		logins = 100
	}
	c := &chaos{t: t, store: mailStore{users: make(map[string]presence)}}
	first := route.New()
	def, rows := chaosDefinition(0, users)
	if err := first.Load(def, route.NewRows(rows...), true); err != nil {
		t.Fatal(err)
	}
	c.table.Store(first)
	path := filepath.Join(t.TempDir(), "overrides.json")
	if err := first.State().Persist(path); err != nil {
		t.Fatal(err)
	}

	var clientsDone, operatorsDone sync.WaitGroup
	stop := make(chan struct{})
	for i := range clients {
		clientsDone.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(i)))
			for range logins {
				c.login(random, chaosUser(random.IntN(users)))
			}
		})
	}
	for i, act := range []func(*rand.Rand){c.setHealth, c.setAdmin, c.setUsers, c.reload, c.watch} {
		operatorsDone.Go(func() {
			random := rand.New(rand.NewPCG(2, uint64(i)))
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				act(random)
				runtime.Gosched()
			}
		})
	}
	clientsDone.Wait()
	close(stop)
	operatorsDone.Wait()

	for _, bad := range c.store.bad {
		t.Error(bad)
	}
	t.Logf("%d sessions, %d refused claims, %d refused commits, %d unavailable, %d held, %d given up; %d reloads",
		c.sessions.Load(), c.refused.Load(), c.dropped.Load(), c.unavailable.Load(), c.waited.Load(), c.gaveUp.Load(), c.reloads.Load())
	for name, n := range map[string]int64{"sessions": c.sessions.Load(), "refused claims": c.refused.Load(), "refused commits": c.dropped.Load()} {
		if n == 0 {
			t.Errorf("no %s: nothing was tried", name)
		}
	}
	c.checkNothingIsLeft(users, path)
}

type chaos struct {
	t       *testing.T
	table   atomic.Pointer[route.Table]
	store   mailStore
	reloads atomic.Int64

	sessions, refused, dropped, unavailable, waited, gaveUp atomic.Int64
}

// login is what a proxy does for one connection.
func (c *chaos) login(random *rand.Rand, user string) {
	for range 200 {
		l, err := c.table.Load().Begin(user)
		if err != nil {
			if _, ok := errors.AsType[*route.UnavailableError](err); !ok {
				c.t.Errorf("begin: %v", err)
			}
			c.unavailable.Add(1)
			runtime.Gosched()
			continue
		}
		if held := l.Held(); held != nil {
			c.waited.Add(1)
			l.End()
			for range 100 {
				if closed(held) {
					break
				}
				runtime.Gosched()
			}
			continue
		}
		if c.try(random, l, user) {
			return
		}
		l.End()
		runtime.Gosched()
	}
	c.gaveUp.Add(1)
}

// try logs in at one backend after the other, and has a session. False: to begin
// anew.
func (c *chaos) try(random *rand.Rand, l *route.Lease, user string) bool {
	for _, backend := range l.Placement().Backends {
		if !l.Claim(context.Background(), backend) {
			c.refused.Add(1)
			if random.IntN(4) == 0 {
				l.Evict()
			}
			return false
		}
		c.store.enter(user, backend)
		pause(random)
		if random.IntN(4) == 0 { // this one does not answer
			c.store.leave(user)
			continue
		}
		if !l.Commit(backend) {
			c.dropped.Add(1)
			pause(random)
			c.store.leave(user)
			return false
		}
		c.sessions.Add(1)
		pause(random)
		c.store.leave(user)
		l.End()
		if random.IntN(10) == 0 {
			l.End()
		}
		return true
	}
	l.End()
	return true
}

func pause(random *rand.Rand) {
	for range random.IntN(6) {
		runtime.Gosched()
	}
}

func (c *chaos) state() *route.State { return c.table.Load().State() }

func chaosBackend(random *rand.Rand) string { return fmt.Sprintf("mail%d", random.IntN(6)) }

func (c *chaos) setHealth(random *rand.Rand) {
	c.state().SetHealth(chaosBackend(random), random.IntN(8) > 0, "check")
}

// accept fails unless err is nil, or about a backend that a reload took away.
func (c *chaos) accept(err error) {
	if err != nil && !errors.Is(err, route.ErrUnknownBackend) {
		c.t.Error(err)
	}
}

func (c *chaos) setAdmin(random *rand.Rand) {
	admin := route.AdminReady
	switch random.IntN(8) {
	case 0:
		admin = route.AdminDrain
	case 1:
		admin = route.AdminMaint
	}
	c.accept(c.state().SetAdmin(chaosBackend(random), admin, route.Change{By: "a"}))
	c.accept(c.state().SetWeight(chaosBackend(random), random.IntN(300), route.Change{By: "a"}))
}

// setUsers pins, holds and moves users.
func (c *chaos) setUsers(random *rand.Rand) {
	state, user, to := c.state(), chaosUser(random.IntN(24)), chaosBackend(random)
	switch random.IntN(3) {
	case 0:
		c.accept(state.Pin(user, to, route.Change{By: "b"}))
		pause(random)
		state.Unpin(user)
	case 1:
		c.accept(state.Hold(user, route.Change{By: "b"}))
		pause(random)
		state.Release(user)
	case 2: // a move
		c.accept(state.Hold(user, route.Change{By: "b"}))
		gone := state.Gone(user)
		for range 1000 {
			if closed(gone) {
				// Nothing came in between: logins that began before the hold are
				// refused.
				if n := c.store.on(user); n > 0 {
					c.t.Errorf("%s is gone and has %d connections", user, n)
				}
				c.accept(state.Pin(user, to, route.Change{By: "b"}))
				break
			}
			runtime.Gosched()
		}
		state.Release(user)
		pause(random)
		state.Unpin(user)
	}
}

func (c *chaos) reload(*rand.Rand) {
	next := c.table.Load().Successor()
	def, rows := chaosDefinition(int(c.reloads.Add(1)), 24)
	if err := next.Load(def, route.NewRows(rows...), true); err != nil {
		c.t.Error(err)
	}
	c.table.Store(next)
}

// watch calls what only reads, and looks for nonsense.
func (c *chaos) watch(random *rand.Rand) {
	table := c.table.Load()
	sum := 0
	for _, b := range table.Backends() {
		if b.Sessions < b.Users || b.Users < 0 {
			c.t.Errorf("%+v", b)
		}
		sum += b.Users
	}
	if sum > 24 {
		c.t.Errorf("%d users have sessions", sum)
	}
	for range 20 {
		user := chaosUser(random.IntN(24))
		p, err := table.Lookup(user)
		if err == nil && (len(p.Backends) == 0 || p.Key != user) {
			c.t.Errorf("%+v", p)
		}
		if e, err := table.Explain(user); err == nil && len(e.Candidates) == 0 {
			c.t.Errorf("%+v", e)
		}
	}
	table.State().Overrides()
	table.State().Assigned(chaosBackend(random))
}

// checkNothingIsLeft looks for what was not given back, after all logins ended.
func (c *chaos) checkNothingIsLeft(users int, path string) {
	table := c.table.Load()
	for i := range users {
		user := chaosUser(i)
		if n := c.store.on(user); n != 0 {
			c.t.Errorf("%s has %d connections", user, n)
		}
		if !closed(table.State().Gone(user)) {
			c.t.Errorf("%s is not gone", user)
		}
	}
	for _, b := range table.Backends() {
		if b.Sessions != 0 || b.Users != 0 {
			c.t.Errorf("%s has %d sessions of %d users", b.Name, b.Sessions, b.Users)
		}
	}
	for i := range 6 {
		if left := table.State().Assigned(fmt.Sprintf("mail%d", i)); len(left) > 0 {
			c.t.Errorf("%v are assigned", left)
		}
	}
	// What is in the file is what is in force.
	again := route.New().State()
	if err := again.Persist(path); err != nil {
		c.t.Error(err)
	}
	if d := cmp.Diff(table.State().Overrides(), again.Overrides()); d != "" {
		c.t.Errorf("file (-in force +in file):\n%s", d)
	}
	if slices.ContainsFunc(again.Overrides(), func(o route.Override) bool { return o.Kind == route.OverrideHold }) {
		c.t.Error("somebody is held")
	}
}

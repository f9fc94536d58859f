package main_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// balance is imapgate with three Dovecots that serve one mail store, and a crowd
// of idling users: most of them in a pool whose members serve everybody, the rest
// in a pool of shards.
type balance struct {
	*realGate
	dovecots map[string]*realDovecot
	socket   string // of the admin API

	users  []*crowdUser // all who have logged in
	fresh  []*crowdUser // who never have
	shards map[*crowdUser]bool
	killed map[string]time.Time // when, by backend
}

const (
	balanceLook    = 500 * time.Millisecond // between looks at a backend
	balanceConnect = 2 * time.Second        // how long imapgate waits for a greeting
	balanceFresh   = 12                     // users who are new, at each occasion
	balanceLogins  = 6                      // under way at a backend at the same time
)

const balanceDovecot = `
mail_location = maildir:%s/%%u
mmap_disable = yes
shutdown_clients = no
log_timestamp = "%%Y-%%m-%%dT%%H:%%M:%%S.%%{usecs} "
service imap-login {
  service_count = 0
}
`

// TestRealBalance takes one Dovecot after the other away, each in another way, and
// brings it back. What users see is one thing; where they were is in the Dovecots'
// own logs, which the end of the test looks through: nobody was on two at once.
func TestRealBalance(t *testing.T) {
	w := startBalance(t)
	_ = t.Run("a crowd logs in", w.arrive) &&
		t.Run("a backend is killed", w.kill) &&
		t.Run("a backend is stopped", w.stop) &&
		t.Run("a backend refuses connections", w.refuse)
	t.Run("nobody was on two backends at once", w.review)
}

func startBalance(t *testing.T) *balance {
	t.Helper()
	shared, shards := 240, 60
	if testing.Short() {
		shared, shards = 60, 15
	}
	w := &balance{
		socket: filepath.Join(t.TempDir(), "admin.sock"), dovecots: make(map[string]*realDovecot), shards: make(map[*crowdUser]bool), killed: make(map[string]time.Time),
	}
	ca := newRealCA(t, "test")
	var accounts []realAccount
	var table strings.Builder
	table.WriteString("* all\n")
	for i := range shared + shards + 6*balanceFresh {
		u := &crowdUser{
			name: fmt.Sprintf("u%03d@example.org", i), number: i,
			source: fmt.Sprintf("127.0.%d.%d", 1+i/200, 1+i%200),
		}
		switch {
		case i >= shared+shards:
			w.fresh = append(w.fresh, u)
		case i >= shared:
			w.shards[u] = true
			table.WriteString(u.name + " shards\n")
			fallthrough
		default:
			w.users = append(w.users, u)
		}
		accounts = append(accounts, realAccount{Name: u.name, Password: crowdPassword})
	}
	store, err := os.MkdirTemp("", "mail") //nolint:usetesting // its parents are for all users
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(store) })
	if err := os.Chmod(store, 0o777); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mail1", "mail2", "mail3"} {
		w.dovecots[name] = startRealDovecot(t, realDovecotConfig{
			CA: ca, Accounts: accounts, Extra: fmt.Sprintf(balanceDovecot, store), Group: true,
		})
	}
	members := []string{"mail1", "mail2", "mail3"}
	w.realGate = startRealGate(t, realGateConfig{
		CA: ca,
		Backends: realMap{
			"mail1": realBackend(ca, realMap{"address": w.dovecots["mail1"].IMAPS, "tls": "implicit", "max_logins": balanceLogins}),
			// It is the one that is stopped. A warm connection to it would take a login,
			// which it would make once it runs again: a session that nobody has.
			"mail2": realBackend(ca, realMap{"address": w.dovecots["mail2"].IMAP, "tls": "starttls", "warm": 0, "max_logins": balanceLogins}),
			"mail3": realBackend(ca, realMap{"address": w.dovecots["mail3"].IMAPS, "tls": "implicit", "max_logins": balanceLogins}),
		},
		Table: table.String(),
		Login: realMap{"connect_timeout": balanceConnect.String(), "backend_timeout": "15s"},
		More: realMap{
			"pools": realMap{
				"all":    realMap{"backends": members, "shared": true},
				"shards": realMap{"backends": members},
			},
			"health": realMap{"interval": balanceLook.String(), "fall": 3, "rise": 2},
			"admin":  realMap{"socket": w.socket},
		},
		Secrets: []string{crowdPassword},
	})
	return w
}

// arrive logs everybody in.
func (w *balance) arrive(t *testing.T) {
	w.enter(t, w.users)
	shares := make(map[string]int)
	for _, name := range w.homes(t) {
		shares[name]++
	}
	t.Logf("sessions: %v", shares)
	for name := range w.dovecots {
		if shares[name] < len(w.users)/5 {
			t.Errorf("%s has %d of %d users", name, shares[name], len(w.users))
		}
	}
}

// outage is what one backend's fault means for whom.
type outage struct {
	name                 string
	d                    *realDovecot
	shared, shards, rest []*crowdUser
	began                time.Time
}

func (w *balance) outage(t *testing.T, name string) *outage {
	t.Helper()
	o := &outage{name: name, d: w.dovecots[name], began: time.Now()}
	homes := w.homes(t)
	for _, u := range w.users {
		switch {
		case homes[u.name] != name:
			o.rest = append(o.rest, u)
		case w.shards[u]:
			o.shards = append(o.shards, u)
		default:
			o.shared = append(o.shared, u)
		}
	}
	t.Logf("%s serves %d users of the shared pool and %d of the shards", name, len(o.shared), len(o.shards))
	if len(o.shared) < 6 || len(o.shards) < 3 {
		t.Fatal("too few to show anything")
	}
	return o
}

// kill ends all processes of a Dovecot at once.
func (w *balance) kill(t *testing.T) {
	o := w.outage(t, "mail1")
	w.killed[o.name] = time.Now()
	o.d.Kill(t)
	var others sync.WaitGroup
	others.Go(func() { w.bystand(t, o) })
	each(t, append(o.shared, o.shards...), func(ctx context.Context, u *crowdUser) error {
		if err := u.conn.dismissed(); err != nil {
			return err
		}
		// Not every client closes a connection that was closed by the server.
		if old := u.conn; u.number%3 == 0 {
			t.Cleanup(func() { old.Close() })
		} else {
			old.Close()
		}
		if w.shards[u] {
			u.conn = nil
			return nil
		}
		_, err := u.enter(ctx, w.realGate)
		return err
	})
	others.Wait()
	w.awaitHealth(t, o, "backend down")
	w.unavailable(t, o)
	w.newcomers(t)

	back := time.Now()
	o.d.Start(t)
	w.returned(t, o, back)
}

// stop lets a Dovecot's processes be, but not run: connections are still accepted,
// by the system, and nothing is ever said on them.
func (w *balance) stop(t *testing.T) {
	o := w.outage(t, "mail2")
	o.d.Signal(t, syscall.SIGSTOP)
	resume := sync.OnceFunc(func() { o.d.Signal(t, syscall.SIGCONT) })
	defer resume()
	early, late := o.shared[:len(o.shared)/3], o.shared[len(o.shared)/3:2*len(o.shared)/3]
	var others sync.WaitGroup
	others.Go(func() { w.bystand(t, o) })
	// Some hang up and come back before anybody knows.
	each(t, early, func(ctx context.Context, u *crowdUser) error {
		u.conn.Close()
		_, err := u.enter(ctx, w.realGate)
		return err
	})
	others.Wait()
	w.awaitHealth(t, o, "backend down")
	// Others come back later, and it is their new session that ends the old one.
	w.supersede(t, late)
	w.unavailable(t, o)
	w.newcomers(t)
	// All others are patient.
	back := time.Now()
	resume()
	w.returned(t, o, back)
}

// refuse ends a Dovecot whose sessions live on.
func (w *balance) refuse(t *testing.T) {
	o := w.outage(t, "mail3")
	o.d.Stop(t)
	if !realEventually(t, func() bool { return refuses(o.d.IMAPS) }) {
		t.Fatal("it still listens")
	}
	early, late := o.shared[:len(o.shared)/3], o.shared[len(o.shared)/3:2*len(o.shared)/3]
	var others sync.WaitGroup
	others.Go(func() { w.bystand(t, o) })
	others.Go(func() { w.alive(t, append(o.shared[len(early)+len(late):], o.shards...)) })
	each(t, early, func(ctx context.Context, u *crowdUser) error {
		if err := u.conn.logout(); err != nil {
			return err
		}
		_, err := u.enter(ctx, w.realGate)
		return err
	})
	w.supersede(t, late)
	others.Wait()
	w.awaitHealth(t, o, "backend down")
	w.unavailable(t, o)
	w.newcomers(t)

	back := time.Now()
	o.d.Start(t)
	w.returned(t, o, back)
}

// supersede opens new sessions of users who have one at a backend that is down.
func (w *balance) supersede(t *testing.T, users []*crowdUser) {
	t.Helper()
	each(t, users, func(ctx context.Context, u *crowdUser) error {
		old, err := u.enter(ctx, w.realGate)
		if err != nil {
			return err
		}
		defer old.Close()
		return old.dismissed()
	})
}

// bystand shows that an outage is none for the users of other backends: their
// sessions live on, and they can open more.
func (w *balance) bystand(t *testing.T, o *outage) {
	t.Helper()
	w.alive(t, o.rest)
	each(t, everyEighth(o.rest), func(ctx context.Context, u *crowdUser) error { return u.visit(ctx, w.realGate) })
}

func everyEighth(users []*crowdUser) []*crowdUser {
	var some []*crowdUser
	for u := range slices.Chunk(users, 8) {
		some = append(some, u[0])
	}
	return some
}

func (w *balance) alive(t *testing.T, users []*crowdUser) {
	t.Helper()
	each(t, users, func(_ context.Context, u *crowdUser) error { return u.alive() })
}

func (w *balance) enter(t *testing.T, users []*crowdUser) {
	t.Helper()
	each(t, users, func(ctx context.Context, u *crowdUser) error {
		_, err := u.enter(ctx, w.realGate)
		return err
	})
}

// newcomers logs users in who never were here.
func (w *balance) newcomers(t *testing.T) (at map[string]int) {
	t.Helper()
	users := w.fresh[:balanceFresh]
	w.fresh = w.fresh[balanceFresh:]
	w.enter(t, users)
	w.users = append(w.users, users...)
	homes := w.homes(t)
	at = make(map[string]int)
	for _, u := range users {
		at[homes[u.name]]++
	}
	t.Logf("%d new users: %v", len(users), at)
	return at
}

// unavailable shows that users of a shard that is known to be down hear so, at
// once and without a connection to it.
func (w *balance) unavailable(t *testing.T, o *outage) {
	t.Helper()
	var mu sync.Mutex
	var took []time.Duration
	began := time.Now()
	each(t, o.shards, func(ctx context.Context, u *crowdUser) error {
		c, err := u.dial(ctx, w.realGate)
		if err != nil {
			return err
		}
		defer c.Close()
		for range 2 {
			sent := time.Now()
			var refused refusedError
			err := c.command("l", "LOGIN "+u.name+" "+crowdPassword)
			if !errors.As(err, &refused) || !strings.HasPrefix(string(refused), "NO [UNAVAILABLE] ") {
				return fmt.Errorf("the backend is down, and the answer: %v", err) //nolint:errorlint // there may be none
			}
			mu.Lock()
			took = append(took, time.Since(sent))
			mu.Unlock()
		}
		return nil
	})
	if len(took) == 0 {
		return // it was said why
	}
	slices.Sort(took)
	t.Logf("unavailable within %v, half of it within %v", took[len(took)-1], took[len(took)/2])
	if median := took[len(took)/2]; median > time.Second {
		t.Errorf("it takes %v to say that a backend is known to be down", median)
	}
	for _, l := range w.lines(t, "backend failed") {
		if l.Backend == o.name && l.Time.After(began) {
			t.Errorf("%s was sent to a backend that is known to be down", l.User)
		}
	}
}

// returned shows what happens when a backend works again, from the moment on that
// it could.
func (w *balance) returned(t *testing.T, o *outage, back time.Time) {
	t.Helper()
	w.awaitHealth(t, o, "backend up")
	// Nobody moves: sessions live on wherever they are, and attract others.
	sessions := slices.DeleteFunc(slices.Clone(w.users), func(u *crowdUser) bool { return u.conn == nil })
	w.alive(t, sessions)
	w.calm(t, o, back)
	before := w.homes(t)
	some := everyEighth(sessions)
	each(t, some, func(ctx context.Context, u *crowdUser) error { return u.visit(ctx, w.realGate) })
	w.rush(t, o)
	after := w.homes(t)
	for _, u := range some {
		if before[u.name] != after[u.name] {
			t.Errorf("%s moved from %s to %s", u.name, before[u.name], after[u.name])
		}
	}
	// Those whose mail is nowhere else come back, and some of those who are new.
	each(t, o.shards, func(ctx context.Context, u *crowdUser) error {
		if u.conn != nil {
			return u.visit(ctx, w.realGate)
		}
		_, err := u.enter(ctx, w.realGate)
		return err
	})
	after = w.homes(t)
	for _, u := range o.shards {
		if after[u.name] != o.name {
			t.Errorf("%s, whose mail is on %s, came to %s", u.name, o.name, after[u.name])
		}
	}
	if w.newcomers(t)[o.name] == 0 {
		t.Errorf("no new user comes to %s", o.name)
	}
}

// refuses says whether nobody listens at addr.
func refuses(addr string) bool {
	conn, err := net.DialTimeout("tcp", addr, time.Second)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

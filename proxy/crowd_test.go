package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
	"imapgate/route"
)

// crowd is many clients of few users, on three backends of one shared pool, while
// backends fail and an operator interferes.
type crowd struct {
	t     *testing.T
	gate  *gate
	table *route.Table
	cfg   *proxy.Config

	mu    sync.Mutex
	modes map[string]mode
	open  map[*watched]string // user, "" before the login
	ends  time.Time           // of the trouble

	logins, refusals int
}

// mode is how a backend behaves.
type mode int

const (
	well mode = iota
	refusing
	silent // accepts and says nothing
	busy   // greets and says that it is unavailable
	modes
)

// watched is a connection to a backend that is told when the proxy closes it.
type watched struct {
	*proxytest.Conn
	backend string
	closed  func()
}

func (w *watched) Close() error {
	err := w.Conn.Close()
	w.closed()
	return err
}

func users() []string {
	var all []string
	for i := range 12 {
		all = append(all, fmt.Sprintf("user%d", i))
	}
	return all
}

// TestOneUserIsOnOneBackend lets a crowd log in and out through all kinds of
// trouble, and asks two things: at no time is a user logged in on two backends, and
// when the trouble has ended everybody can log in.
func TestOneUserIsOnOneBackend(t *testing.T) {
	t.Parallel()
	for seed := range uint64(2) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { runCrowd(t, seed) })
		})
	}
}

func runCrowd(t *testing.T, seed uint64) {
	t.Helper()
	def := route.Definition{Affinity: 5 * time.Second, Pools: []route.Pool{{Name: "all", Shared: true, Backends: []string{"mail1", "mail2", "mail3"}}}}
	cfg := oneBackend(t)
	cfg.Checks = make(map[string]proxy.Check)
	for i, name := range def.Pools[0].Backends {
		address := fmt.Sprintf("10.0.0.%d:143", i+1)
		def.Backends = append(def.Backends, route.Backend{Name: name, Address: address})
		cfg.Backends[name] = &proxy.Backend{Name: name, Address: address, TLS: proxy.TLSNone}
		cfg.Checks[name] = proxy.Check{Interval: 3 * time.Second, Fall: 2, Pools: []string{"all"}}
	}
	c := &crowd{
		t: t, cfg: cfg, table: proxytest.NewTable(t, def, "all"), ends: time.Now().Add(2 * time.Minute),
		modes: make(map[string]mode), open: make(map[*watched]string),
	}
	cfg.Router, cfg.Health = c.table, c.table.State()
	cfg.ConnectTimeout, cfg.BackendTimeout, cfg.CloseSpread = 2*time.Second, 10*time.Second, 5*time.Second
	c.gate = &gate{network: new(proxytest.Network), logs: new(bytes.Buffer)}
	for _, name := range def.Pools[0].Backends {
		c.gate.network.Add(name, &proxytest.Backend{Serve: func(b *proxytest.BackendConn) { c.serve(name, b) }})
	}
	c.gate.start(t, cfg, proxy.Listener{TLS: proxy.TLSNone}, c.dial)

	var clients sync.WaitGroup
	for i := range 40 {
		clients.Go(func() { c.client(rand.New(rand.NewPCG(seed, uint64(i))), i) })
	}
	c.trouble(rand.New(rand.NewPCG(seed, 1000)))
	clients.Wait()
	c.calm()
	t.Logf("%d logins, %d refusals", c.logins, c.refusals)
	if c.logins < 100 {
		t.Errorf("%d logins: that is no crowd", c.logins)
	}
}

// dial is the server's DialFunc.
func (c *crowd) dial(ctx context.Context, b *proxy.Backend) (net.Conn, error) {
	c.mu.Lock()
	m := c.modes[b.Name]
	c.mu.Unlock()
	if m == refusing {
		return nil, errors.New("refused")
	}
	nc, err := c.gate.network.Dial(ctx, b)
	if err != nil {
		return nil, err
	}
	conn, ok := nc.(*proxytest.Conn)
	if !ok {
		return nil, errors.New("not of this network")
	}
	w := &watched{Conn: conn, backend: b.Name}
	w.closed = func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.open, w)
	}
	c.mu.Lock()
	c.open[w] = ""
	c.mu.Unlock()
	return w, nil
}

// enter notes that a backend lets a user in, over the connection that comes from
// an address.
func (c *crowd) enter(user, backend string, from net.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w, other := range c.open {
		if other == user && w.backend != backend {
			c.t.Errorf("%s logs in on %s, and is logged in on %s", user, backend, w.backend)
		}
	}
	for w := range c.open {
		if w.backend == backend && w.LocalAddr().String() == from.String() {
			c.open[w] = user
		}
	}
}

// leave notes that a backend has ended a connection of its own accord.
func (c *crowd) leave(backend string, from net.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for w := range c.open {
		if w.backend == backend && w.LocalAddr().String() == from.String() {
			c.open[w] = ""
		}
	}
}

// serve is a backend.
func (c *crowd) serve(name string, b *proxytest.BackendConn) {
	defer c.leave(name, b.Raw.RemoteAddr())
	c.mu.Lock()
	m := c.modes[name]
	c.mu.Unlock()
	if m == silent {
		_, _ = b.ReadLine() // until the proxy gives up
		return
	}
	_ = b.Say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] Hello.")
	for {
		tag, line, err := b.ReadTag()
		if err != nil {
			return
		}
		message, isLogin := strings.CutPrefix(line, tag+" AUTHENTICATE PLAIN ")
		switch {
		case isLogin && m == busy:
			_ = b.Say(tag + " NO [UNAVAILABLE] Not now.")
		case isLogin:
			plain, _ := base64.StdEncoding.DecodeString(message)
			c.enter(strings.Split(string(plain), "\x00")[1], name, b.Raw.RemoteAddr())
			_ = b.Say(tag + " OK [CAPABILITY IMAP4rev1 IDLE] Logged in.")
		case strings.HasSuffix(line, " LOGOUT"):
			_ = b.Say("* BYE Bye.", tag+" OK Done.")
			return
		default:
			_ = b.Say(tag + " OK Done.")
		}
	}
}

// client is a client that logs in and out until the trouble has ended.
func (c *crowd) client(r *rand.Rand, number int) {
	all := users()
	for time.Now().Before(c.ends) {
		user := all[r.IntN(len(all))]
		from := netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(number)}), 40000)
		nc, err := c.gate.listener.Connect(from)
		if err != nil {
			c.t.Error(err)
			return
		}
		if c.login(nc, user) {
			c.stay(nc, r)
		}
		switch r.IntN(3) {
		case 0:
			_ = nc.CloseWrite()
			<-time.After(time.Second)
		case 1:
			nc.Abort()
		}
		_ = nc.Close()
		<-time.After(time.Duration(r.IntN(3000)) * time.Millisecond)
	}
}

// login logs a user in. All that may go wrong is that it is not possible now.
func (c *crowd) login(nc net.Conn, user string) bool {
	_ = nc.SetReadDeadline(time.Now().Add(time.Minute))
	in := bufio.NewReader(nc)
	_, _ = in.ReadString('\n')
	_, _ = fmt.Fprintf(nc, "a1 LOGIN %s secret\r\n", user)
	line, err := in.ReadString('\n')
	ok := strings.HasPrefix(line, "a1 OK ")
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case ok:
		c.logins++
	case strings.HasPrefix(line, "a1 NO [UNAVAILABLE] "):
		c.refusals++
	default:
		c.t.Errorf("%s was told %q: %v", user, line, err)
	}
	return ok
}

// stay is a session, until it is over.
func (c *crowd) stay(nc net.Conn, r *rand.Rand) {
	in := bufio.NewReader(nc)
	for range r.IntN(10) {
		<-time.After(time.Duration(r.IntN(4000)) * time.Millisecond)
		_, _ = fmt.Fprintf(nc, "a2 NOOP\r\n")
		_ = nc.SetReadDeadline(time.Now().Add(time.Minute))
		line, err := in.ReadString('\n')
		if err != nil || strings.HasPrefix(line, "* BYE [UNAVAILABLE] ") {
			return
		}
		if line != "a2 OK Done.\r\n" {
			c.t.Errorf("told %q", line)
		}
	}
	if r.IntN(2) == 0 {
		_, _ = fmt.Fprintf(nc, "a3 LOGOUT\r\n")
		_, _ = in.ReadString('\n')
	}
}

// trouble interferes until it is over, and then takes all of it back.
func (c *crowd) trouble(r *rand.Rand) {
	state, all := c.table.State(), users()
	by := route.Change{By: "test", Until: c.ends}
	for time.Now().Before(c.ends) {
		<-time.After(time.Duration(r.IntN(2000)) * time.Millisecond)
		user, backend := all[r.IntN(len(all))], fmt.Sprintf("mail%d", 1+r.IntN(3))
		var err error
		switch r.IntN(9) {
		case 0, 1:
			c.mu.Lock()
			c.modes[backend] = mode(r.IntN(int(modes)))
			c.mu.Unlock()
		case 2:
			c.mu.Lock()
			for w := range c.open {
				if w.backend == backend {
					w.Abort()
				}
			}
			c.mu.Unlock()
		case 3:
			admins := []route.Admin{route.AdminReady, route.AdminReady, route.AdminDrain, route.AdminMaint}
			err = state.SetAdmin(backend, admins[r.IntN(len(admins))], by)
		case 4:
			if err = state.Pin(user, backend, by); err == nil && r.IntN(2) == 0 {
				state.Unpin(user)
			}
		case 5:
			err = state.Hold(user, route.Change{By: "test", Until: time.Now().Add(time.Duration(1+r.IntN(5)) * time.Second)})
		case 6:
			_, err = c.gate.server.Kick(c.t.Context(), func(i proxy.SessionInfo) bool { return i.User == user }, proxy.KickOptions{})
		case 7:
			err = state.SetWeight(backend, 1+r.IntN(200), by)
		case 8:
			again := *c.cfg
			err = c.gate.server.SetConfig(&again)
		}
		if err != nil && time.Now().Before(c.ends) {
			c.t.Error(err)
		}
	}
	c.mu.Lock()
	clear(c.modes)
	c.mu.Unlock()
}

// calm asks, a while after the trouble, that everybody can log in, and that nothing
// is left of those who have gone.
func (c *crowd) calm() {
	<-time.After(time.Minute)
	synctest.Wait()
	c.mu.Lock()
	left := len(c.open)
	c.mu.Unlock()
	if sessions := c.gate.server.Sessions(); left != 0 || len(sessions) != 0 {
		c.t.Errorf("%d connections and %d sessions are left of clients that have gone", left, len(sessions))
	}
	for _, b := range c.table.Backends() {
		if b.Sessions != 0 || !b.Up || b.Admin != route.AdminReady {
			c.t.Errorf("%+v", b)
		}
	}
	for _, user := range users() {
		nc, err := c.gate.listener.Connect(netip.MustParseAddrPort("192.0.2.250:40000"))
		if err != nil {
			c.t.Fatal(err)
		}
		began := time.Now()
		if !c.login(nc, user) || time.Since(began) > time.Second {
			c.t.Errorf("%s cannot log in, or only after %v", user, time.Since(began))
		}
		_ = nc.Close()
	}
}

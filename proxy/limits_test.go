package proxy_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// counted counts what limits kept out. Whatever else a server tells, it ignores.
type counted struct {
	proxy.Metrics
	mu    sync.Mutex
	kinds map[string]int
}

func (c *counted) Limited(limit string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kinds == nil {
		c.kinds = make(map[string]int)
	}
	c.kinds[limit]++
}

func (c *counted) Accepted(string)                                 {}
func (c *counted) Handshake(string, string, string, time.Duration) {}
func (c *counted) WarmLogin(string, string)                        {}
func (c *counted) Authenticated(string, string, time.Duration)     {}
func (c *counted) Routed(string)                                   {}
func (c *counted) BackendConnected(string, time.Duration)          {}
func (c *counted) BackendFailed(string, string)                    {}
func (c *counted) SessionStarted(string)                           {}
func (c *counted) SessionEnded(string, int64, int64)               {}

// newLimitedGate starts a server with more options than a gate has.
func newLimitedGate(t *testing.T, cfg *proxy.Config, o proxy.Options, l proxy.Listener) *gate {
	t.Helper()
	g := &gate{network: new(proxytest.Network), logs: new(bytes.Buffer)}
	g.network.Add("mail1", new(proxytest.Backend))
	o.Logger = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewDevelopmentEncoderConfig()), zapcore.Lock(zapcore.AddSync(g.logs)), zapcore.DebugLevel))
	o.Dial = g.network.Dial
	g.serve(t, cfg, o, l)
	return g
}

// greeted says whether a connection from an address is greeted.
func (g *gate) greeted(t *testing.T, from string) (*client, bool) {
	t.Helper()
	nc, err := g.listener.Connect(netip.MustParseAddrPort(from))
	if err != nil {
		t.Fatal(err)
	}
	c := newClient(t, nc)
	return c, strings.HasPrefix(c.line(), "* OK ")
}

func expectLimited(t *testing.T, c *counted, want map[string]int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if diff := cmp.Diff(want, c.kinds); diff != "" {
		t.Errorf("what limits kept out (-want +got):\n%s", diff)
	}
}

// TestPlacesAreGivenBack lets clients come and go in every way there is, and then
// asks whether exactly as many are let in as the limits say: one that was not given
// back would be missing, and one given back twice would be one too many.
func TestPlacesAreGivenBack(t *testing.T) {
	t.Parallel()
	for seed := range uint64(4) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { comeAndGo(t, rand.New(rand.NewPCG(seed, 6))) })
		})
	}
}

func comeAndGo(t *testing.T, r *rand.Rand) {
	t.Helper()
	cfg := oneBackend(t)
	cfg.ExemptNetworks, cfg.FailureDelay, cfg.FailureDelayMax = nil, time.Millisecond, time.Millisecond
	cfg.TrustedNetworks = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	cfg.Limits = proxy.Limits{Connections: 12, ConnectionsPerAddress: 8, UnauthenticatedPerAddress: 6, SessionsPerUser: 5, SessionsPerUserAddress: 4}
	metrics := new(counted)
	g := newLimitedGate(t, cfg, proxy.Options{Metrics: metrics}, proxy.Listener{TLS: proxy.TLSNone})
	g.network.Add("mail1", &proxytest.Backend{Login: func(l proxytest.Login) string {
		if l.Secret != "secret" {
			return "NO [AUTHENTICATIONFAILED] No."
		}
		return ""
	}})
	var open []net.Conn
	for range 400 {
		from := fmt.Sprintf("192.0.2.%d:4000", 1+r.IntN(3))
		if r.IntN(4) == 0 {
			from = "203.0.113.1:4000"
		}
		nc, err := g.listener.Connect(netip.MustParseAddrPort(from))
		if err != nil {
			t.Fatal(err)
		}
		_, _ = nc.Write([]byte([]string{
			"a1 LOGIN alice secret\r\n", "a1 LOGIN bob secret\r\na2 NOOP\r\n", "a1 LOGIN alice wrong\r\n", "a1 LOGOUT\r\n",
			"a1 LOGIN alice {9}\r\n", "x\r\ny\r\nz\r\n", "a1 AUTHENTICATE PLAIN\r\n", "", "GET / HTTP/1.1\r\n",
			"a1 ID (\"x-originating-ip\" \"192.0.2.1\")\r\na2 ID (\"x-originating-ip\" \"192.0.2.2\")\r\na3 LOGIN alice secret\r\n",
		}[r.IntN(10)]))
		open = append(open, nc)
		if r.IntN(2) == 0 {
			synctest.Wait()
		}
		switch i := r.IntN(len(open)); r.IntN(8) {
		case 0, 1:
			_ = open[i].Close()
		case 2:
			if c, ok := open[i].(*proxytest.Conn); ok {
				c.Abort()
			}
		case 3:
			_, _ = g.server.Kick(t.Context(), func(i proxy.SessionInfo) bool { return i.User == "bob" }, proxy.KickOptions{})
		case 4:
			again := *cfg
			if err := g.server.SetConfig(&again); err != nil {
				t.Fatal(err)
			}
		case 5:
			<-time.After(time.Duration(r.IntN(20)) * time.Second)
		}
	}
	for _, nc := range open {
		_ = nc.Close()
	}
	<-time.After(2 * time.Minute)
	synctest.Wait()
	metrics.mu.Lock()
	t.Log(metrics.kinds)
	metrics.kinds = nil
	metrics.mu.Unlock()

	// Four sessions of alice from one address, one more from another, and no more.
	for i := range 6 {
		c, ok := g.greeted(t, []string{"192.0.2.1:1", "192.0.2.1:1", "192.0.2.1:1", "192.0.2.1:1", "192.0.2.2:1", "192.0.2.3:1"}[i])
		if reply, _ := c.command("LOGIN alice secret"); !ok || strings.HasPrefix(reply, "OK") != (i < 5) {
			t.Errorf("session %d of alice: %q", i+1, reply)
		}
		if i == 3 {
			c, _ := g.greeted(t, "192.0.2.1:2")
			if reply, _ := c.command("LOGIN alice secret"); reply != "NO [LIMIT] Too many sessions." {
				t.Errorf("a fifth session from one address: %q", reply)
			}
			_ = c.nc.Close()
			synctest.Wait()
		}
	}
	// 192.0.2.1 has four, and 192.0.2.3 one that has not logged in.
	var first *client
	for i := range 5 {
		c, ok := g.greeted(t, "192.0.2.1:3")
		if first == nil {
			first = c
		}
		synctest.Wait()
		if gone := g.server.Connections() == 1+i; !ok || gone != (i == 4) {
			t.Errorf("connection %d of one address: %t, makes another one go: %t", 5+i, ok, gone)
		}
	}
	if line := first.line(); line != "* BYE [UNAVAILABLE] Server is busy." {
		t.Errorf("who makes room is told %q", line)
	}
	for i := range 3 {
		if _, ok := g.greeted(t, "192.0.2.9:3"); !ok {
			t.Errorf("connection %d of another address is not let in", i+1)
		}
	}
	expectLimited(t, metrics, map[string]int{"sessions_per_user": 1, "sessions_per_user_and_address": 1, "connections_per_address": 1, "connections": 1})
}

// TestOverloadEndsWhoWaitsAndNoSession has the process short of memory while some
// are logged in and others are not.
func TestOverloadEndsWhoWaitsAndNoSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lacks atomic.Pointer[[]string]
		lacks.Store(new([]string))
		metrics := new(counted)
		g := newLimitedGate(t, oneBackend(t), proxy.Options{Metrics: metrics, Strain: func() []string { return *lacks.Load() }}, proxy.Listener{TLS: proxy.TLSNone})
		session, _ := g.greeted(t, "192.0.2.1:1")
		session.command("LOGIN alice secret")
		var waiting []*client
		for range 40 {
			<-time.After(100 * time.Millisecond)
			c, _ := g.greeted(t, "192.0.2.2:1")
			waiting = append(waiting, c)
		}
		lacks.Store(&[]string{proxy.LackMemory})
		<-time.After(260 * time.Millisecond)
		synctest.Wait()
		if diff := cmp.Diff([]string{proxy.LackMemory}, g.server.Overload()); diff != "" {
			t.Errorf("lacks (-want +got):\n%s", diff)
		}
		for i, c := range waiting[:2] { // a twentieth
			if line := c.line(); line != "* BYE [UNAVAILABLE] Server is busy." {
				t.Errorf("client %d was told %q", i, line)
			}
		}
		if n := g.server.Connections(); n != 38 {
			t.Errorf("%d connections wait", n)
		}
		<-time.After(30 * time.Second)
		if n := g.server.Connections(); n != 0 {
			t.Errorf("%d connections wait still", n)
		}
		if reply, _ := session.command("NOOP"); !strings.HasPrefix(reply, "OK") {
			t.Errorf("the session was told %q", reply)
		}
		lacks.Store(new([]string))
		<-time.After(10 * time.Second)
		if c, ok := g.greeted(t, "192.0.2.3:1"); !ok || len(g.server.Overload()) != 0 {
			t.Errorf("it has not recovered: %s", c.seen)
		}
		expectLimited(t, metrics, map[string]int{"overload": 40})
		if n := strings.Count(g.logs.String(), `"overloaded"`); n != 1 {
			t.Errorf("%d lines say that it is overloaded", n)
		}
	})
}

// TestSlownessIsFirstOfAllAnsweredWithPatience lacks a processor: accepts are slowed
// down at once, and connections go only after a while.
func TestSlownessIsFirstOfAllAnsweredWithPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := new(counted)
		g := newLimitedGate(t, oneBackend(t), proxy.Options{Metrics: metrics, Strain: func() []string { return []string{proxy.LackCPU} }}, proxy.Listener{TLS: proxy.TLSNone})
		<-time.After(1010 * time.Millisecond) // four looks
		began := time.Now()
		var all []*client
		for range 3 {
			c, _ := g.greeted(t, "192.0.2.2:1")
			all = append(all, c)
		}
		if took := time.Since(began); took != 80*time.Millisecond {
			t.Errorf("three accepts took %v", took)
		}
		if n := g.server.Connections(); n != 3 {
			t.Errorf("%d of 3 connections are left", n)
		}
		<-time.After(200 * time.Millisecond)
		synctest.Wait()
		if line := all[0].line(); line != "* BYE [UNAVAILABLE] Server is busy." || g.server.Connections() != 2 {
			t.Errorf("the oldest was told %q", line)
		}
	})
}

// TestAcceptSurvivesWantOfDescriptors has the system refuse descriptors for a while.
// Neither does the loop spin, nor does it end, nor does a session.
func TestAcceptSurvivesWantOfDescriptors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := new(counted)
		g := newLimitedGate(t, oneBackend(t), proxy.Options{Metrics: metrics}, proxy.Listener{TLS: proxy.TLSNone})
		session, _ := g.greeted(t, "192.0.2.1:1")
		session.command("LOGIN alice secret")
		waiting, _ := g.greeted(t, "192.0.2.2:1")
		began := time.Now()
		refused := &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
		for range 30 {
			if err := g.listener.Fail(refused); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if diff := cmp.Diff([]string{proxy.LackDescriptors}, g.server.Overload()); diff != "" {
			t.Errorf("lacks (-want +got):\n%s", diff)
		}
		if line := waiting.line(); line != "* BYE [UNAVAILABLE] Server is busy." {
			t.Errorf("who waited was told %q", line)
		}
		if _, ok := g.greeted(t, "192.0.2.3:1"); !ok {
			t.Error("nobody is let in any more")
		}
		// 5 ms, 10 ms and so on, then a second each: no more than one try a second.
		if took := time.Since(began); took < 22*time.Second || took > 26*time.Second {
			t.Errorf("30 failures took %v", took)
		}
		if reply, _ := session.command("NOOP"); !strings.HasPrefix(reply, "OK") {
			t.Errorf("the session was told %q", reply)
		}
		if n := strings.Count(g.logs.String(), `"accept failed"`); n < 1 || n > 4 {
			t.Errorf("%d lines say that accepts fail", n)
		}
		<-time.After(6 * time.Second)
		if lacks := g.server.Overload(); len(lacks) != 0 {
			t.Errorf("it still lacks %v", lacks)
		}
	})
}

// TestWhoIsLetInWithoutDescriptorsHasTimeForALogin has every other accept fail: each lets
// one in for one who goes.
func TestWhoIsLetInWithoutDescriptorsHasTimeForALogin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newLimitedGate(t, oneBackend(t), proxy.Options{}, proxy.Listener{TLS: proxy.TLSNone})
		refused := &net.OpError{Op: "accept", Net: "tcp", Err: os.NewSyscallError("accept4", syscall.EMFILE)}
		for i, ms := range []int64{5, 10, 20, 40, 80, 160, 160, 160} {
			began := time.Now()
			if err := g.listener.Fail(refused); err != nil {
				t.Fatal(err)
			}
			g.greeted(t, "192.0.2.1:1")
			if took := time.Since(began); took.Milliseconds() != ms {
				t.Errorf("the next after failure %d is let in after %v, want %d ms", i+1, took, ms)
			}
		}
		<-time.After(6 * time.Second)
		g.greeted(t, "192.0.2.1:1")
		began := time.Now()
		if err := g.listener.Fail(refused); err != nil {
			t.Fatal(err)
		}
		g.greeted(t, "192.0.2.1:1")
		if took := time.Since(began); took != 5*time.Millisecond {
			t.Errorf("long after the last failure one more costs %v", took)
		}
	})
}

// TestDescriptorsBoundConnections gives a server a few, and opens as many
// connections as it can.
func TestDescriptorsBoundConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		metrics := new(counted)
		g := newLimitedGate(t, oneBackend(t), proxy.Options{Metrics: metrics, Descriptors: 70}, proxy.Listener{TLS: proxy.TLSNone})
		for i := range 3 { // (70 - 64) / 2
			c, _ := g.greeted(t, "192.0.2.1:1")
			if reply, _ := c.command("LOGIN alice secret"); !strings.HasPrefix(reply, "OK") {
				t.Fatalf("session %d: %q", i, reply)
			}
		}
		if lacks := g.server.Overload(); !slices.Contains(lacks, proxy.LackConnections) {
			t.Errorf("it lacks %v", lacks)
		}
		if c, ok := g.greeted(t, "192.0.2.1:1"); ok || c.seen.String() != "* BYE [UNAVAILABLE] Too many connections.\r\n" {
			t.Errorf("one more is told %q", c.seen)
		}
		if n := len(g.server.Sessions()); n != 3 {
			t.Errorf("%d sessions are left", n)
		}
	})
}

// TestShutdownWhileOverloaded ends a server while it holds connections back.
func TestShutdownWhileOverloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := oneBackend(t)
		cfg.Limits.AcceptRate = 1
		g := newLimitedGate(t, cfg, proxy.Options{Metrics: new(counted), Strain: func() []string { return []string{proxy.LackCPU} }}, proxy.Listener{TLS: proxy.TLSNone})
		g.greeted(t, "192.0.2.1:1")
		g.greeted(t, "192.0.2.1:1")
		synctest.Wait()
		if err := g.server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

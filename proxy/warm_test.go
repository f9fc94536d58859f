package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// roundTrip is how long the way to a backend and back takes.
const roundTrip = 20 * time.Millisecond

// longWay is a network whose backends are half a round trip away.
type longWay struct {
	proxytest.Network
	wg sync.WaitGroup
}

// dial is a [proxy.DialFunc]: a connection is there after one round trip.
func (n *longWay) dial(ctx context.Context, b *proxy.Backend) (net.Conn, error) {
	select {
	case <-time.After(roundTrip):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	far, err := n.Dial(ctx, b)
	if err != nil {
		return nil, err
	}
	near, relay := proxytest.Pipe(proxytest.PipeOptions{B: netip.MustParseAddrPort("10.0.0.1:993")})
	accepted := time.Now().Add(roundTrip / 2) // when the last segment of TCP's handshake is there
	n.carry(relay, far, time.Now())
	n.carry(far, relay, accepted)
	return near, nil
}

// carry takes what comes out of one connection to another, each piece in half a
// round trip, however many are under way; nothing leaves before start.
func (n *longWay) carry(from, to net.Conn, start time.Time) {
	type piece struct {
		b  []byte
		at time.Time
	}
	way := make(chan piece, 1000)
	n.wg.Go(func() {
		defer close(way)
		for {
			b := make([]byte, 64<<10)
			k, err := from.Read(b)
			if err != nil {
				return
			}
			at := time.Now()
			if at.Before(start) {
				at = start
			}
			way <- piece{b[:k], at.Add(roundTrip / 2)}
		}
	})
	n.wg.Go(func() {
		for p := range way {
			<-time.After(time.Until(p.at))
			_, _ = to.Write(p.b)
		}
		_ = to.Close()
		_ = from.Close()
	})
}

// farGate is a gate whose backend mail1 is a long way off.
func farGate(t *testing.T, b *proxy.Backend, server *proxytest.Backend) (*gate, *longWay) {
	t.Helper()
	n := new(longWay)
	n.Add("mail1", server)
	t.Cleanup(n.wg.Wait) // once the network is closed
	cfg := oneBackend(t)
	b.Name, b.Address = "mail1", "10.0.0.1:993"
	cfg.Backends["mail1"] = b
	g := &gate{network: &n.Network, logs: new(bytes.Buffer)}
	g.start(t, cfg, proxy.Listener{TLS: proxy.TLSNone}, n.dial)
	return g, n
}

// login logs in, and returns how long that took.
func (g *gate) login(t *testing.T, user string) time.Duration {
	t.Helper()
	c := g.connect(t)
	c.line()
	began := time.Now()
	if reply, _ := c.command("LOGIN " + user + " secret"); reply == "" {
		t.Fatal("no answer to the login")
	}
	took := time.Since(began)
	_ = c.nc.Close()
	return took
}

// TestWarmConnectionMakesALoginOneRoundTrip logs in over a long way: a connection of
// its own costs a login four round trips (TCP, TLS 1.3, the greeting, the login), fewer
// in clear text and more with STARTTLS; a warm one costs exactly one.
func TestWarmConnectionMakesALoginOneRoundTrip(t *testing.T) {
	t.Parallel()
	ca := proxytest.NewCA(t)
	cert := ca.Issue(t, proxytest.CertOptions{Hosts: []string{"mail1.internal"}})
	for name, tc := range map[string]struct {
		mode proxy.TLSMode
		caps string
		cold int // round trips
	}{
		"clear text":   {proxy.TLSNone, "", 3},
		"implicit TLS": {proxy.TLSImplicit, "", 4},
		"STARTTLS":     {proxy.TLSStartTLS, "STARTTLS " + proxytest.DefaultCapabilities, 6},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := &proxytest.Backend{Capabilities: tc.caps, ImplicitTLS: tc.mode == proxy.TLSImplicit}
				b := &proxy.Backend{TLS: tc.mode, Warm: 4}
				if tc.mode != proxy.TLSNone {
					server.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS13}
					b.TLSConfig = &tls.Config{RootCAs: ca.Pool(), ServerName: "mail1.internal", MinVersion: tls.VersionTLS13}
				}
				g, _ := farGate(t, b, server)
				if got, want := g.login(t, "alice"), time.Duration(tc.cold)*roundTrip; got != want {
					t.Errorf("the first login took %v, not %v", got, want)
				}
				for i := range 20 {
					<-time.After(time.Duration(i+1) * time.Second)
					if got := g.login(t, fmt.Sprintf("user%d", i)); got != roundTrip {
						t.Errorf("login %d took %v, not one round trip", i, got)
					}
				}
			})
		})
	}
}

// TestStockFollowsTheLogins has many logins a second, and then none.
func TestStockFollowsTheLogins(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const most = 8
		g, n := farGate(t, &proxy.Backend{TLS: proxy.TLSNone, Warm: most}, new(proxytest.Backend))
		size := func() int { return g.server.WarmConnections()["mail1"] }

		// logins returns how many found no connection.
		logins := func(count int, every time.Duration) int32 {
			var clients sync.WaitGroup
			var missed atomic.Int32
			for i := range count {
				clients.Go(func() {
					if g.login(t, fmt.Sprintf("user%d", i)) > roundTrip {
						missed.Add(1)
					}
				})
				<-time.After(every)
				if size() > most {
					t.Errorf("%d connections wait, %d may", size(), most)
				}
			}
			clients.Wait()
			return missed.Load()
		}
		if missed := logins(1, time.Second); missed != 1 || size() != 1 {
			t.Errorf("after one login %d have missed and %d connections wait, want 1 and 1", missed, size())
		}
		logins(200, 10*time.Millisecond)
		if size() < 4 {
			t.Errorf("%d connections wait while 100 logins a second come", size())
		}
		if missed := logins(200, 10*time.Millisecond); missed > 0 {
			t.Errorf("%d logins found none, though nothing has changed", missed)
		}
		<-time.After(2 * time.Minute)
		dialled := n.Dialled("mail1")
		if size() != 0 {
			t.Errorf("%d connections wait and nobody logs in", size())
		}
		<-time.After(time.Hour)
		if got := n.Dialled("mail1"); got != dialled {
			t.Errorf("%d connections were opened for nobody", got-dialled)
		}
	})
}

// TestWarmConnectionsGoWithTheFilesOfTheirTLS changes the TLS configuration of a
// backend as its files do: what was verified by the old one is not used any more.
func TestWarmConnectionsGoWithTheFilesOfTheirTLS(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var current atomic.Pointer[tls.Config]
		current.Store(&tls.Config{MinVersion: tls.VersionTLS12})
		g, _ := farGate(t, &proxy.Backend{TLS: proxy.TLSNone, CurrentTLS: current.Load, Warm: 1}, new(proxytest.Backend))
		const cold = 3 * roundTrip
		for i, want := range []time.Duration{cold, roundTrip, cold, roundTrip} {
			if i == 2 {
				current.Store(&tls.Config{MinVersion: tls.VersionTLS12})
			}
			if got := g.login(t, "alice"); got != want {
				t.Errorf("login %d took %v, want %v", i, got, want)
			}
			<-time.After(time.Second)
		}
	})
}

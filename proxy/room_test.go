package proxy_test

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// TestWhoHasTooManyMakesNobodyElseGo fills a server up. An address that has as many
// connections as it may have can turn out none of another one by opening more, whether
// it is known from the start or from a balancer's header.
func TestWhoHasTooManyMakesNobodyElseGo(t *testing.T) {
	for name, from := range map[string]string{"direct": "%s:1", "balanced": "203.0.113.1:1"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := oneBackend(t)
				cfg.ExemptNetworks = nil
				cfg.Limits = proxy.Limits{Connections: 4, UnauthenticatedPerAddress: 3}
				metrics := new(counted)
				l := proxy.Listener{TLS: proxy.TLSNone}
				if name == "balanced" {
					l.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
				}
				g := newLimitedGate(t, cfg, proxy.Options{Metrics: metrics}, l)
				connect := func(address string) *client {
					t.Helper()
					nc, err := g.listener.Connect(netip.MustParseAddrPort(strings.Replace(from, "%s", address, 1)))
					if err != nil {
						t.Fatal(err)
					}
					c := newClient(t, nc)
					if name == "balanced" {
						_, _ = fmt.Fprintf(nc, "PROXY TCP4 %s 198.51.100.9 1 143\r\n", address)
					}
					if line := c.line(); !strings.HasPrefix(line, "* OK ") {
						t.Errorf("%s is told %q", address, line)
					}
					synctest.Wait()
					return c
				}
				good := connect("192.0.2.1")
				var bad []*client
				for range 8 {
					bad = append(bad, connect("192.0.2.2"))
				}
				for i, c := range bad[:5] {
					if line := c.line(); line != "* BYE [UNAVAILABLE] Server is busy." {
						t.Errorf("connection %d of who fills it up is told %q", i, line)
					}
				}
				expectLimited(t, metrics, map[string]int{"unauthenticated_per_address": 5})

				// Another address takes the place of the oldest of all.
				third := connect("192.0.2.3")
				if line := good.line(); line != "* BYE [UNAVAILABLE] Server is busy." {
					t.Errorf("the oldest is told %q", line)
				}
				expectLimited(t, metrics, map[string]int{"unauthenticated_per_address": 5, "connections": 1})
				for _, c := range append(bad[5:], third) {
					if reply, _ := c.command("LOGIN alice secret"); !strings.HasPrefix(reply, "OK") {
						t.Errorf("who has a place is told %q", reply)
					}
				}
			})
		})
	}
}

// TestNobodyIsLockedOutBehindAnAddress has somebody take all the connections without a
// login that his address may have, in ways that last. Whoever shares the address is
// let in all the same.
func TestNobodyIsLockedOutBehindAnAddress(t *testing.T) {
	const most, room = 20, 16 // how many there may be, and who may be on the way out
	for name, says := range map[string]string{
		"silent":        "",
		"failed logins": "a1 LOGIN mallory guess\r\n",
		"reads nothing": "a1 NOOP\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := oneBackend(t)
				cfg.ExemptNetworks, cfg.FailureDelay, cfg.FailureDelayMax = nil, 15*time.Second, 15*time.Second
				cfg.Limits = proxy.Limits{UnauthenticatedPerAddress: most}
				metrics := new(counted)
				g := newLimitedGate(t, cfg, proxy.Options{Metrics: metrics}, proxy.Listener{TLS: proxy.TLSNone})
				g.listener.Buffer = 4096
				if name == "reads nothing" {
					g.listener.Buffer = 32 // less than the greeting
				}
				g.network.Add("mail1", &proxytest.Backend{Login: func(l proxytest.Login) string {
					if l.Secret != "secret" {
						return "NO [AUTHENTICATIONFAILED] No."
					}
					return ""
				}})
				var bad []net.Conn
				for round := range 10 {
					for range most + room + 5 {
						nc, err := g.listener.Connect(netip.MustParseAddrPort("192.0.2.1:1"))
						if err != nil {
							t.Fatal(err)
						}
						_, _ = nc.Write([]byte(says))
						bad = append(bad, nc)
						synctest.Wait()
						if n := g.server.Connections(); n > most+room {
							t.Fatalf("%d connections", n)
						}
					}
					neighbour, ok := g.greeted(t, "192.0.2.1:2")
					if reply, _ := neighbour.command("LOGIN alice secret"); !ok || !strings.HasPrefix(reply, "OK") {
						t.Fatalf("round %d: the neighbour is told %q", round, neighbour.seen)
					}
					if reply, _ := neighbour.command("LOGOUT"); !strings.HasPrefix(reply, "OK") {
						t.Fatalf("round %d: the neighbour is told %q", round, reply)
					}
					<-time.After(time.Second)
				}
				<-time.After(11 * time.Second) // to take, or not, what the last words are
				if n := g.server.Connections(); n > most {
					t.Errorf("%d connections are left", n)
				}
				for _, nc := range bad {
					_ = nc.Close()
				}
			})
		})
	}
}

// TestMakingRoomIsNoFailureOfTheBackend has logins make room while a backend takes its
// time: whoever opens connections must not make it look bad.
func TestMakingRoomIsNoFailureOfTheBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := oneBackend(t)
		cfg.ExemptNetworks = nil
		cfg.Limits = proxy.Limits{UnauthenticatedPerAddress: 2}
		g := newLimitedGate(t, cfg, proxy.Options{}, proxy.Listener{TLS: proxy.TLSNone})
		g.network.Add("mail1", &proxytest.Backend{Serve: func(b *proxytest.BackendConn) { _, _ = b.ReadLine() }})
		for range 10 {
			c, _ := g.greeted(t, "192.0.2.1:1")
			c.send("a1 LOGIN alice secret\r\n")
			synctest.Wait()
		}
		if logs := g.logs.String(); strings.Count(logs, `"login failed"`) != 8 || strings.Contains(logs, "backend failed") {
			t.Errorf("logged:\n%s", logs)
		}
	})
}

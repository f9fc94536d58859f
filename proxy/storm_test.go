package proxy_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// tlsGate is a gate with implicit TLS that computes one handshake at a time, and how
// clients begin theirs. hello is called while a handshake is computed.
func tlsGate(t *testing.T, hello func()) (*gate, *tls.Config) {
	t.Helper()
	ca := proxytest.NewCA(t)
	cert := ca.Issue(t, proxytest.CertOptions{Hosts: []string{"imap.example.org"}})
	cfg := oneBackend(t)
	cfg.Handshakes = 1
	g := newGate(t, cfg, proxy.Listener{TLS: proxy.TLSImplicit, TLSConfig: &tls.Config{
		MinVersion: tls.VersionTLS12,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			hello()
			return &cert, nil
		},
	}}, new(proxytest.Backend))
	return g, &tls.Config{RootCAs: ca.Pool(), ServerName: "imap.example.org", MinVersion: tls.VersionTLS12}
}

// TestSlowClientsAreInNobodysWay has clients that stop at every point of a handshake,
// and one that does not.
func TestSlowClientsAreInNobodysWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, config := tlsGate(t, func() {})
		for _, part := range []string{"", "\x16", "\x16\x03\x01\x02\x00\x01\x00"} {
			c := g.connect(t)
			c.send("%s", part)
		}
		// One that stops behind its ClientHello: it never reads the answer.
		stuck := g.connect(t)
		_ = tls.Client(stopped{stuck.nc}, config).Handshake()
		c := g.connect(t)
		c.startTLS(config)
		if line := c.line(); line == "" {
			t.Error("no greeting")
		}
		if n := g.server.HandshakesWaiting(); n != 0 {
			t.Errorf("%d handshakes wait", n)
		}
	})
}

// stopped is a connection whose end reads nothing.
type stopped struct{ net.Conn }

func (stopped) Read([]byte) (int, error) { return 0, io.ErrNoProgress }

// TestWaitingCountsForTheTimeOfAHandshake has one handshake that takes for ever, and
// one behind it.
func TestWaitingCountsForTheTimeOfAHandshake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, config := tlsGate(t, func() { <-time.After(time.Minute) })
		for range 2 {
			c := g.connect(t)
			go func() { _ = tls.Client(c.nc, config).Handshake() }()
			synctest.Wait()
		}
		if n := g.server.HandshakesWaiting(); n != 1 {
			t.Errorf("%d handshakes wait, want 1", n)
		}
		<-time.After(10*time.Second + time.Millisecond)
		synctest.Wait()
		if n := g.server.HandshakesWaiting(); n != 0 {
			t.Errorf("after 10 s %d handshakes wait", n)
		}
	})
}

// TestStormOfClientsIsServed has everybody come back at once.
func TestStormOfClientsIsServed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const crowd = 300
		// A handshake takes 20 ms: in order, all are served in 6 s.
		g, config := tlsGate(t, func() { <-time.After(20 * time.Millisecond) })
		var clients sync.WaitGroup
		for i := range crowd {
			clients.Go(func() {
				c := g.connect(t)
				c.startTLS(config)
				c.line()
				if reply, _ := c.command(fmt.Sprintf("LOGIN user%d secret", i)); len(reply) < 2 || reply[:2] != "OK" {
					t.Errorf("login %d: %q", i, reply)
				}
			})
		}
		clients.Wait()
	})
}

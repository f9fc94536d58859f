package proxy_test

import (
	"crypto/tls"
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// TestLogLinesBeforeLoginAreBounded has clients that nobody knows say long things. What
// they say must not fill the log: a line stays about as long as any other.
func TestLogLinesBeforeLoginAreBounded(t *testing.T) {
	t.Parallel()
	const longest = 1500
	ca := proxytest.NewCA(t)
	cert := ca.Issue(t, proxytest.CertOptions{})
	long := strings.Repeat("long-", 8000)
	plain := func(msg string) func(*client) {
		return func(c *client) {
			c.startTLS(&tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS12})
			c.line()
			if reply, _ := c.command("AUTHENTICATE PLAIN " + base64.StdEncoding.EncodeToString([]byte(msg))); !strings.HasPrefix(reply, "NO ") {
				c.t.Errorf("got %q", reply)
			}
		}
	}
	for _, tc := range []struct {
		name string
		say  func(*client)
		log  string // the message that must be there
	}{
		{"a long authcid", plain("alice\x00" + long + "\x00secret"), "login failed"},
		{"a long authzid", plain(long + "\x00alice\x00secret"), "login failed"},
		{"line ends in the authcid", plain("alice\x00" + strings.Repeat("\n", 40000) + "\x00secret"), "login failed"},
		{"application protocols", func(c *client) {
			var protocols []string
			for range 200 {
				protocols = append(protocols, strings.Repeat("\x01", 250))
			}
			err := tls.Client(c.nc, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", NextProtos: protocols, MinVersion: tls.VersionTLS12}).Handshake()
			if err == nil {
				c.t.Error("the handshake went through")
			}
		}, "disconnected before login"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newGate(t, oneBackend(t), proxy.Listener{
					TLS:       proxy.TLSImplicit,
					TLSConfig: &tls.Config{NextProtos: []string{"imap"}, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
				}, &proxytest.Backend{})
				c := g.connect(t)
				tc.say(c)
				_ = c.nc.Close()
				synctest.Wait()
				logs := g.logs.String()
				if !strings.Contains(logs, tc.log) {
					t.Errorf("no %q in the log", tc.log)
				}
				for line := range strings.Lines(logs) {
					if len(line) > longest {
						t.Errorf("a log line of %d octets: %.300s…", len(line), line)
					}
				}
			})
		})
	}
}

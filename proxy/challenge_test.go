package proxy_test

import (
	"encoding/base64"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// TestChallengeThatTheClientLeavesOpen lets clients go, or fall silent, where the
// backend's challenge is theirs to answer. The backend did what it should, and the log
// must not say otherwise.
func TestChallengeThatTheClientLeavesOpen(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*client){
		"closes": func(c *client) { _ = c.nc.Close() },
		"resets": func(c *client) {
			nc, ok := c.nc.(*proxytest.Conn)
			if !ok {
				c.t.Fatalf("a client on %T", c.nc)
			}
			nc.Abort()
		},
		"is silent":  func(*client) { time.Sleep(time.Minute) },
		"half-sends": func(c *client) { c.send("AQ"); _ = c.nc.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := oneBackend(t)
				cfg.Mechanisms = []string{"XOAUTH2"}
				cfg.Capabilities = []string{"IMAP4rev1", "SASL-IR", "AUTH=XOAUTH2"}
				var ended []time.Duration
				g := newGate(t, cfg, proxy.Listener{TLS: proxy.TLSNone}, &proxytest.Backend{Serve: func(b *proxytest.BackendConn) {
					_ = b.Say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=XOAUTH2] Hello.")
					if _, _, err := b.ReadTag(); err != nil {
						return // a look at the capabilities
					}
					began := time.Now()
					_ = b.Say("+ " + base64.StdEncoding.EncodeToString([]byte(`{"status":"400"}`)))
					line, err := b.ReadLine()
					if err == nil {
						t.Errorf("the backend got %q", line)
					}
					ended = append(ended, time.Since(began))
				}})
				c := g.connect(t)
				c.line()
				c.send("a1 AUTHENTICATE XOAUTH2 %s\r\n", base64.StdEncoding.EncodeToString([]byte("user=alice\x01auth=Bearer x\x01\x01")))
				if challenge := c.line(); !strings.HasPrefix(challenge, "+ ") {
					t.Fatalf("got %q, not the challenge", challenge)
				}
				leave(c)
				synctest.Wait()
				if len(ended) != 1 || ended[0] > 30*time.Second {
					t.Errorf("backend connections ended after %v, want one within the budget of 30s", ended)
				}
				logs := g.logs.String()
				if strings.Contains(logs, "backend failed") || strings.Contains(logs, "backend down") {
					t.Errorf("the backend is blamed:\n%s", logs)
				}
				if !strings.Contains(logs, "login failed") {
					t.Errorf("the login is not in the log:\n%s", logs)
				}
			})
		})
	}
}

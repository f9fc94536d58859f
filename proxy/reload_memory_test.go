package proxy_test

import (
	"runtime"
	"testing"
	"testing/synctest"
	"weak"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
	"imapgate/route"
)

// ownRouter is a table that can be told from the one of another configuration.
type ownRouter struct{ *route.Table }

// TestReloadFreesTheOldTable replaces the configuration while a session goes on. The
// session has what it needs: it must not hold the table of its login, which is that
// of millions of users, until it ends days later.
func TestReloadFreesTheOldTable(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		conns, release := make(chan *proxytest.BackendConn, 1), make(chan struct{})
		defer close(release)
		backend := &proxytest.Backend{Serve: func(b *proxytest.BackendConn) {
			_ = b.Say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] Hello.")
			if tag, _, err := b.ReadTag(); err == nil {
				_ = b.Say(tag + " OK [CAPABILITY IMAP4rev1] Logged in.")
				conns <- b
				<-release
			}
		}}
		g, router, table := gateWithOwnRouter(t, backend)
		c := g.connect(t)
		c.line()
		c.send("a1 LOGIN alice secret\r\n")
		b := <-conns
		c.line()
		if err := g.server.SetConfig(oneBackend(t)); err != nil {
			t.Fatal(err)
		}
		for range 20 {
			synctest.Wait()
			runtime.GC()
			if router.Value() == nil && table.Value() == nil {
				break
			}
		}
		if router.Value() != nil || table.Value() != nil {
			t.Errorf("after the reload: router held: %v, table held: %v", router.Value() != nil, table.Value() != nil)
		}
		_ = b.Say("* 1 EXISTS")
		if got := c.line(); got != "* 1 EXISTS" {
			t.Errorf("the session says %q", got)
		}
	})
}

// gateWithOwnRouter starts a server and keeps nothing of its configuration.
func gateWithOwnRouter(t *testing.T, mail1 *proxytest.Backend) (*gate, weak.Pointer[ownRouter], weak.Pointer[route.Table]) {
	t.Helper()
	cfg := oneBackend(t)
	r := &ownRouter{everyoneAt(t, "mail1")}
	cfg.Router = r
	return newGate(t, cfg, proxy.Listener{TLS: proxy.TLSNone}, mail1), weak.Make(r), weak.Make(r.Table)
}

package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// literal returns s as a literal.
func literal(s string) string { return fmt.Sprintf("{%d}\r\n%s", len(s), s) }

// responses are complete, one after the other. Most of what is in them looks like
// something else.
func responses() []string {
	return []string{
		"* 1 FETCH (UID 7 BODY[] " + literal("Subject: x\r\n\r\n* BYE Bye.\r\na2 OK {4}\r\n") + " FLAGS (\\Seen))\r\n",
		"* OK [ALERT] No literal at all {5}\r\n",
		"* LIST () \"/\" " + literal("a\r\nb") + "\r\n",
		"* 2 FETCH (BODY[1] " + literal("") + " BODY[2] " + literal("\r\n") + " BODY[3] ~" + literal("\x00\xff{9}\r\n") + ")\r\n",
		"* 3 FETCH (BODY[1] {3+}\r\n{2} BODY[2] \"{2}\")\r\n",
		"+ idling {7}\r\n",
		"* 17 EXISTS\r\n",
		"a2 OK Done {1}\r\n",
	}
}

// kicked is one way in which a session goes on after it was told to end.
type kicked struct {
	name string
	// goOn is what the backend does with the rest of its responses.
	goOn func(b *proxytest.BackendConn, rest string)
	// ends says that the response in which the kick came is completed.
	ends bool
	// buffer bounds what the client has not read yet.
	buffer int
}

// TestKickAtEveryByte ends a session at each byte of a series of responses. What the
// client has got is then either complete responses and a BYE, or a part of the
// series in which a response is incomplete, and no BYE.
func TestKickAtEveryByte(t *testing.T) {
	t.Parallel()
	whole := func(b *proxytest.BackendConn, rest string) { _, _ = b.Write([]byte(rest)) }
	pieces := func(size int) func(*proxytest.BackendConn, string) {
		return func(b *proxytest.BackendConn, rest string) {
			for piece := range slices.Chunk([]byte(rest), size) {
				if _, err := b.Write(piece); err != nil {
					return
				}
				synctest.Wait()
			}
		}
	}
	for _, way := range []kicked{
		{name: "the backend goes on", goOn: whole, ends: true},
		{name: "the backend goes on byte by byte", goOn: pieces(1), ends: true},
		{name: "the backend goes on in pieces", goOn: pieces(7), ends: true},
		{name: "the client reads late", goOn: whole, ends: true, buffer: 32},
		{name: "the backend falls silent", goOn: func(*proxytest.BackendConn, string) {}},
		{name: "the backend closes", goOn: func(b *proxytest.BackendConn, _ string) { _ = b.Raw.Close() }},
		{name: "the backend resets", goOn: func(b *proxytest.BackendConn, _ string) { b.Raw.Abort() }},
	} {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, way.run)
		})
	}
}

func (way *kicked) run(t *testing.T) {
	var boundaries []int
	all := ""
	for _, r := range responses() {
		boundaries = append(boundaries, len(all))
		all += r
	}
	boundaries = append(boundaries, len(all))

	conns, release := make(chan *proxytest.BackendConn), make(chan struct{})
	g := newGate(t, oneBackend(t), proxy.Listener{TLS: proxy.TLSNone}, &proxytest.Backend{Serve: func(b *proxytest.BackendConn) {
		_ = b.Say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] Hello.")
		tag, _, err := b.ReadTag()
		if err != nil {
			return
		}
		_ = b.Say(tag + " OK [CAPABILITY IMAP4rev1] Logged in.")
		conns <- b
		<-release
	}})
	g.listener.Buffer = way.buffer

	for at := range len(all) + 1 {
		c := g.connect(t)
		c.line()
		c.send("a1 LOGIN alice secret\r\n")
		b := <-conns
		c.line()
		_, _ = b.Write([]byte(all[:at]))
		synctest.Wait()
		if n, err := g.server.Kick(context.Background(), func(proxy.SessionInfo) bool { return true }, proxy.KickOptions{}); n != 1 || err != nil {
			t.Fatalf("at %d: kicked %d: %v", at, n, err)
		}
		synctest.Wait()
		way.goOn(b, all[at:])
		got, err := io.ReadAll(c.in)
		if err != nil {
			t.Fatalf("at %d: %v", at, err)
		}
		way.check(t, at, string(got), all, boundaries)
		_ = c.nc.Close()
		release <- struct{}{}
		synctest.Wait()
		if left := g.server.Sessions(); len(left) != 0 {
			t.Fatalf("at %d: %v is left", at, left)
		}
	}
}

// check looks at what the client got of a session that was kicked when all[:at] had
// been sent.
func (way *kicked) check(t *testing.T, at int, got, all string, boundaries []int) {
	t.Helper()
	const bye = "* BYE [UNAVAILABLE] Disconnected by the operator.\r\n"
	passed, told := strings.CutSuffix(got, bye)
	switch complete := slices.Contains(boundaries, len(passed)); {
	case !strings.HasPrefix(all, passed):
		t.Errorf("at %d: the client got something else: %q", at, got)
	case told && !complete:
		t.Errorf("at %d: BYE in the middle of a response: %q", at, got)
	case !told && complete:
		t.Errorf("at %d: no BYE behind a complete response: %q", at, got)
	case !told && way.ends:
		t.Errorf("at %d: no BYE, though the response was completed: %q", at, got)
	case way.buffer == 0 && len(passed) < at:
		t.Errorf("at %d: bytes are lost: %q", at, got)
	}
}

// TestKickTakesNoTimeAtABoundary asks that whoever is kicked between
// responses is not kept waiting.
func TestKickTakesNoTimeAtABoundary(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, oneBackend(t), proxy.Listener{TLS: proxy.TLSNone}, &proxytest.Backend{})
		began := time.Now()
		var clients []*client
		for range 50 {
			c := g.connect(t)
			c.line()
			c.command("LOGIN alice secret")
			clients = append(clients, c)
		}
		if n, err := g.server.Kick(t.Context(), func(i proxy.SessionInfo) bool { return i.User == "alice" }, proxy.KickOptions{}); n != 50 || err != nil {
			t.Fatalf("kicked %d: %v", n, err)
		}
		for _, c := range clients {
			if line := c.line(); !strings.HasPrefix(line, "* BYE [UNAVAILABLE] ") {
				t.Errorf("told %q", line)
			}
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("it took %v", took)
		}
	})
}

func TestKickMeetsALoginThatIsAboutToBeASession(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{network: new(proxytest.Network), logs: new(bytes.Buffer)}
		g.network.Add("mail1", &proxytest.Backend{})
		kicked := 0
		g.onLog = func(message string) {
			if message != "login" { // which comes between the place at the backend and the session
				return
			}
			for _, user := range []string{"bob", "alice", "alice"} { // the last one finds it ended
				n, err := g.server.Kick(t.Context(), func(i proxy.SessionInfo) bool { return i.User == user }, proxy.KickOptions{Text: "Go."})
				if err != nil {
					t.Error(err)
				}
				kicked += n
			}
		}
		g.start(t, oneBackend(t), proxy.Listener{TLS: proxy.TLSNone}, g.network.Dial)
		c := g.connect(t)
		c.line()
		if reply, _ := c.command("LOGIN alice secret"); !strings.HasPrefix(reply, "OK ") {
			t.Errorf("told %q", reply)
		}
		if line := c.line(); line != "* BYE [UNAVAILABLE] Go." || kicked != 1 {
			t.Errorf("kicked %d times, and told %q", kicked, line)
		}
	})
}

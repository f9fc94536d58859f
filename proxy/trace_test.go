package proxy_test

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// traced is what a trace has shown.
type traced struct {
	mu   sync.Mutex
	text strings.Builder
}

func (r *traced) show(l proxy.TraceLine) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	fmt.Fprintf(&r.text, "%s: %s\n", l.Who, l.Text)
	return nil
}

func (r *traced) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// watch traces all that comes from everywhere, or what o says, until the server
// closes.
func watch(t *testing.T, g *gate, o ...proxy.TraceOptions) *traced {
	t.Helper()
	r := new(traced)
	if len(o) == 0 {
		o = append(o, proxy.TraceOptions{Network: netip.MustParsePrefix("0.0.0.0/0")})
	}
	go func() { _ = g.server.Trace(t.Context(), o[0], r.show) }()
	synctest.Wait()
	return r
}

// chunked is a connection whose writes arrive in pieces.
type chunked struct {
	net.Conn
	size int
}

func (c *chunked) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		part := p[:min(c.size, len(p))]
		p = p[len(part):]
		if _, err := c.Conn.Write(part); err != nil {
			return 0, err
		}
		synctest.Wait()
	}
	return n, nil
}

func TestATraceShowsADialogueWithoutItsSecrets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, oneBackend(t), proxy.Listener{TLS: proxy.TLSNone}, &proxytest.Backend{Login: func(l proxytest.Login) string {
			if l.Secret != canary {
				return "NO [AUTHENTICATIONFAILED] No."
			}
			return ""
		}})
		all, alice := watch(t, g), watch(t, g, proxy.TraceOptions{User: "alice"})
		bob := watch(t, g, proxy.TraceOptions{User: "bob"})
		c := g.connect(t)
		c.line()
		c.command("ID (\"name\" \"" + canary + "\")")
		c.command(canary + " " + canary)
		c.command("LOGIN alice wrong" + canary)
		c.command("AUTHENTICATE PLAIN", b64("\x00alice\x00"+canary))
		c.command(canary + " " + canary)
		c.command("UID FETCH 1:* " + canary[:6])
		// The test double takes the literal for one more command, and answers it.
		c.command(fmt.Sprintf("APPEND %s {%d+}\r\n%s", canary[:6], len(canary), canary))
		_ = c.nc.Close()
		synctest.Wait()
		want := `S: * OK [CAPABILITY IMAP4REV1 SASL-IR LITERAL- ID ENABLE IDLE AUTH=PLAIN AUTH=LOGIN] [octets: 18]
C: c1 ID [octets in all: 37]
S: * ID [octets: 3]
S: c1 OK [octets: 13]
C: [not understood, octets: 42]
S: [not understood, octets: 27]
C: c3 LOGIN [octets in all: 40]
-: the user is known
-: connecting to mail1
P: TAG ID [octets: N]
P: TAG AUTHENTICATE PLAIN [initial response, octets: 40]
B: * ID [octets: N]
B: TAG OK [octets: N]
B: TAG NO [AUTHENTICATIONFAILED] [octets: 3]
S: c3 NO [AUTHENTICATIONFAILED] [octets: 22]
C: c4 AUTHENTICATE PLAIN
S: + [octets: 0]
C: [response, octets: 38]
-: the user is known
-: connecting to mail1
P: TAG ID [octets: N]
P: TAG AUTHENTICATE PLAIN [initial response, octets: 36]
B: * ID [octets: N]
B: TAG OK [octets: N]
B: TAG OK [CAPABILITY IMAP4REV1 LITERAL+ ID ENABLE IDLE NAMESPACE] [octets: N]
S: c4 OK [CAPABILITY IMAP4REV1 LITERAL+ ID ENABLE IDLE NAMESPACE] [octets: N]
-: logged in at mail1: what follows is told by names and sizes
B: tagged OK [octets: N]
C: [unknown] [octets: 42]
B: tagged OK [octets: N]
C: UID FETCH [octets: 25]
B: tagged OK [octets: N]
C: APPEND [octets: 44]
B: tagged OK [octets: N]
B: tagged OK [octets: N]
`
		if diff := cmp.Diff(want, withoutChance(all.String())); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if diff := cmp.Diff(all.String(), alice.String()); diff != "" {
			t.Errorf("of the address and of the user (-address +user):\n%s", diff)
		}
		if bob.String() != "" {
			t.Errorf("of somebody else:\n%s", bob)
		}
	})
}

// TestATraceThatBeginsLaterCountsWhatItShows begins to watch a connection that has
// said something: the length of a command is that of the command.
func TestATraceThatBeginsLaterCountsWhatItShows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, oneBackend(t), proxy.Listener{TLS: proxy.TLSNone}, &proxytest.Backend{})
		c := g.connect(t)
		c.line()
		c.command("NOOP")
		c.command("AUTHENTICATE PLAIN", "*")
		r := watch(t, g)
		c.command("ID NIL")
		c.command("AUTHENTICATE PLAIN", "*")
		_ = c.nc.Close()
		synctest.Wait()
		for _, want := range []string{"C: c3 ID [octets in all: 11]\n", "C: [response, octets: 3]\n"} {
			if !strings.Contains(r.String(), want) {
				t.Errorf("no %q in:\n%s", want, r)
			}
		}
	})
}

// withoutChance replaces what differs from run to run, or is the test double's.
func withoutChance(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		who, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		tag, after, _ := strings.Cut(rest, " ")
		if (who == "P:" || who == "B:") && len(tag) == 10 {
			rest = "TAG " + after
		}
		if i := strings.LastIndex(rest, "[octets: "); i >= 0 && (who == "P:" || who == "B:" || strings.Contains(rest, "LITERAL+")) && !strings.Contains(rest, "FAILED") {
			rest = rest[:i] + "[octets: N]"
		}
		b.WriteString(who + " " + rest + "\n")
	}
	return b.String()
}

// TestATraceHoldsNoSecretHoweverItArrives sends the canary in every mechanism, in
// pieces of some sizes.
func TestATraceHoldsNoSecretHoweverItArrives(t *testing.T) {
	for _, size := range []int{1, 2, 3, 7, 16, 1000} {
		t.Run(fmt.Sprint(size), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := oneBackend(t)
				cfg.Mechanisms = []string{"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-256"}
				cfg.Capabilities = []string{"IMAP4rev1", "SASL-IR", "AUTH=PLAIN", "AUTH=LOGIN", "AUTH=XOAUTH2", "AUTH=OAUTHBEARER", "AUTH=SCRAM-SHA-256"}
				g := newGate(t, cfg, proxy.Listener{TLS: proxy.TLSNone}, &proxytest.Backend{
					Login: func(l proxytest.Login) string { return "NO [" + canary + "] You said " + l.Secret },
				})
				r := watch(t, g)
				for _, l := range canaryLogins() {
					c := g.connect(t)
					c.nc = &chunked{c.nc, size}
					c.line()
					c.command(l.command, l.answers...)
					_ = c.nc.Close()
					synctest.Wait()
				}
				expectNoCanary(t, "the trace holds", r.String())
				if n := strings.Count(r.String(), "\nC: "); n < len(canaryLogins())-2 {
					t.Errorf("%d commands were traced:\n%s", n, r)
				}
			})
		})
	}
}

func TestATraceLosesLinesRatherThanWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, oneBackend(t), proxy.Listener{TLS: proxy.TLSNone}, &proxytest.Backend{})
		var b bytes.Buffer
		slow := make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = g.server.Trace(t.Context(), proxy.TraceOptions{Network: netip.MustParsePrefix("192.0.2.1/32")}, func(l proxy.TraceLine) error {
				<-slow
				b.WriteString(l.Text + "\n")
				return nil
			})
		}()
		synctest.Wait()
		for range 20 {
			c := g.connect(t)
			c.line()
			for range 100 {
				c.command("NOOP")
			}
			_ = c.nc.Close()
		}
		synctest.Wait()
		close(slow)
		time.Sleep(time.Second)
		_ = g.server.Close()
		<-done
		if !strings.Contains(b.String(), "[lines lost: ") {
			t.Error("no line was lost, or none is told of")
		}
	})
}

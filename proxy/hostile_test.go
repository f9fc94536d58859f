package proxy_test

import (
	"crypto/tls"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

const (
	unavailable = "NO [UNAVAILABLE] Account is temporarily unavailable."
	serverBug   = "NO [SERVERBUG] Internal error, reported to the operator."
	failed      = "NO [AUTHENTICATIONFAILED] Authentication failed."
)

// evil is in everything that a hostile backend says, and must not be in anything
// that a client sees.
const evil = "EVIL"

// hostile is what a backend of this test does on every connection. It counts what
// the proxy let it write.
type hostile struct {
	*proxytest.BackendConn
	written *atomic.Int64
}

func (h hostile) say(lines ...string) bool { return h.raw(strings.Join(lines, "\r\n") + "\r\n") }

func (h hostile) raw(s string) bool {
	n, err := h.Write([]byte(s))
	h.written.Add(int64(n))
	return err == nil
}

// endless writes s until the proxy closes.
func (h hostile) endless(s string) {
	for h.raw(s) {
	}
}

// wait reads until the proxy closes.
func (h hostile) wait() {
	for {
		if _, err := h.ReadLine(); err != nil {
			return
		}
	}
}

// login greets, and returns the tag of the login.
func (h hostile) login() string {
	if !h.say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] " + evil) {
		return ""
	}
	tag, _, _ := h.ReadTag()
	return tag
}

// startTLS greets, and answers STARTTLS.
func (h hostile) startTLS(behind string) {
	if !h.say("* OK [CAPABILITY IMAP4rev1 STARTTLS] " + evil) {
		return
	}
	tag, _, _ := h.ReadTag()
	h.raw(tag + " OK " + evil + "\r\n" + behind)
}

// TestHostileBackends logs in at backends that do everything wrong. Each attempt
// ends as it should, within its budget; the client sees nothing of it, and may go
// on; and of no connection the proxy reads more than its bound.
func TestHostileBackends(t *testing.T) {
	const (
		budget   = 30 * time.Second
		maxRead  = 64 << 10
		pipe     = 4 << 10          // what fits between the two
		overhead = pipe + 4<<10     // and into the proxy's reader
		attempts = 4                // three retries
		quick    = 3 * time.Second  // the retries' pauses
		greeting = 23 * time.Second // four times five seconds, and the pauses
	)
	tests := []struct {
		name   string
		tls    bool
		serve  func(hostile)
		want   string
		within time.Duration
	}{
		// Greetings.
		{name: "closes at once", serve: func(hostile) {}, want: unavailable, within: quick},
		{name: "resets", serve: func(h hostile) { h.Raw.Abort() }, want: unavailable, within: quick},
		{name: "garbage", serve: func(h hostile) { h.say(evil); h.wait() }, want: unavailable, within: quick},
		{name: "empty line", serve: func(h hostile) { h.say(""); h.wait() }, want: unavailable, within: quick},
		{name: "speaks HTTP", serve: func(h hostile) { h.say("HTTP/1.1 200 OK", "X-"+evil+": 1", ""); h.wait() }, want: unavailable, within: quick},
		{name: "speaks TLS", serve: func(h hostile) { h.raw("\x15\x03\x01\x00\x02\x02\x46" + evil + "\r\n"); h.wait() }, want: unavailable, within: quick},
		{name: "PREAUTH", serve: func(h hostile) { h.say("* PREAUTH " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "BYE", serve: func(h hostile) { h.say("* BYE [ALERT] " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "NO", serve: func(h hostile) { h.say("* NO [ALERT] " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "BAD", serve: func(h hostile) { h.say("* BAD " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "untagged data", serve: func(h hostile) { h.say("* CAPABILITY IMAP4rev1 " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "tagged", serve: func(h hostile) { h.say("a1 OK " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "continuation", serve: func(h hostile) { h.say("+ " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "NUL", serve: func(h hostile) { h.say("* OK " + evil + "\x00"); h.wait() }, want: unavailable, within: quick},
		{name: "bare CR", serve: func(h hostile) { h.say("* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] \r* OK " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "endless greeting", serve: func(h hostile) { h.raw("* OK "); h.endless(evil) }, want: unavailable, within: quick},
		{name: "endless code", serve: func(h hostile) { h.raw("* OK [CAPABILITY"); h.endless(" " + evil) }, want: unavailable, within: quick},
		{name: "endless NULs", serve: func(h hostile) { h.endless(strings.Repeat("\x00", 1000)) }, want: unavailable, within: quick},
		{name: "silence", serve: hostile.wait, want: unavailable, within: greeting},
		{name: "one byte a second", serve: func(h hostile) {
			for h.raw("*") {
				<-time.After(time.Second)
			}
		}, want: unavailable, within: greeting},
		{name: "a greeting line a second", serve: func(h hostile) {
			for h.raw("* ") {
				<-time.After(time.Second)
			}
		}, want: unavailable, within: greeting},

		// Capabilities.
		{name: "capabilities are refused", serve: func(h hostile) {
			h.say("* OK " + evil)
			tag, _, _ := h.ReadTag()
			h.say(tag + " NO " + evil)
			h.wait()
		}, want: unavailable, within: quick},
		{name: "capabilities are missing", serve: func(h hostile) {
			h.say("* OK " + evil)
			tag, _, _ := h.ReadTag()
			h.say("* FLAGS ("+evil+")", tag+" OK "+evil)
			h.wait()
		}, want: unavailable, within: quick},
		{name: "capabilities never end", serve: func(h hostile) {
			h.say("* OK " + evil)
			h.endless("* CAPABILITY IMAP4rev1 X" + evil + "\r\n")
		}, want: unavailable, within: quick},
		{name: "LOGINDISABLED", serve: func(h hostile) {
			h.say("* OK [CAPABILITY IMAP4rev1 LOGINDISABLED] " + evil)
			h.wait()
		}, want: serverBug},

		// The login.
		{name: "OK before the login", serve: func(h hostile) {
			h.say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] "+evil, "a1 OK "+evil)
			h.wait()
		}, want: unavailable, within: quick},
		{name: "OK to a tag of its own", serve: func(h hostile) { h.login(); h.say(evil + " OK " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "OK to the client's tag", serve: func(h hostile) { h.login(); h.say("c1 OK " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "OK to a part of the tag", serve: func(h hostile) { h.say(h.login()[:3] + " OK " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "OK to no tag", serve: func(h hostile) { h.login(); h.say(" OK " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "OK with NUL", serve: func(h hostile) { h.say(h.login() + " OK " + evil + "\x00"); h.wait() }, want: unavailable, within: quick},
		{name: "OK with CR", serve: func(h hostile) { h.say(h.login() + " OK \r* BYE " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "OK with a literal in its code", serve: func(h hostile) {
			h.say(h.login()+" OK [X {9}", "* OK "+evil+"] "+evil)
			h.wait()
		}, want: unavailable, within: quick},
		{name: "OK with a literal that does not end", serve: func(h hostile) {
			h.say(h.login()+" OK [X {100}", "* OK "+evil)
			h.wait()
		}, want: unavailable, within: budget},
		{name: "OK with REFERRAL", serve: func(h hostile) { h.say(h.login() + " OK [REFERRAL imap://" + evil + "/] " + evil); h.wait() }, want: unavailable},
		{name: "NO with REFERRAL", serve: func(h hostile) { h.say(h.login() + " NO [REFERRAL imap://" + evil + "/] " + evil); h.wait() }, want: unavailable},
		{name: "untagged REFERRAL", serve: func(h hostile) {
			tag := h.login()
			h.say("* NO [REFERRAL imap://"+evil+"/] "+evil, tag+" NO "+evil)
			h.wait()
		}, want: failed},
		{name: "NO", serve: func(h hostile) { h.say(h.login() + " NO " + evil); h.wait() }, want: failed},
		{name: "BAD", serve: func(h hostile) { h.say(h.login() + " BAD [ALERT] " + evil); h.wait() }, want: failed},
		{name: "tagged BYE", serve: func(h hostile) { h.say(h.login() + " BYE " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "tagged PREAUTH", serve: func(h hostile) { h.say(h.login() + " PREAUTH " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "tagged garbage", serve: func(h hostile) { h.say(h.login() + " " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "BYE and nothing more", serve: func(h hostile) { h.login(); h.say("* BYE " + evil) }, want: unavailable, within: quick},
		{name: "CAPABILITY, ID and mail", serve: func(h hostile) {
			tag := h.login()
			h.say("* CAPABILITY "+evil, `* ID ("name" "`+evil+`")`, "* 1 EXISTS "+evil, "* LIST () NIL {4}", evil, tag+" NO "+evil)
			h.wait()
		}, want: failed},
		{name: "a challenge", serve: func(h hostile) { h.login(); h.say("+ " + evil); h.wait() }, want: unavailable, within: quick},
		{name: "endless challenges", serve: func(h hostile) { h.login(); h.endless("+ " + evil + "\r\n") }, want: unavailable, within: quick},
		{name: "endless responses", serve: func(h hostile) { h.login(); h.endless("* LIST () NIL " + evil + "\r\n") }, want: unavailable, within: quick},
		{name: "an endless response", serve: func(h hostile) { h.login(); h.raw("* OK "); h.endless(evil) }, want: unavailable, within: quick},
		{name: "a literal over all bounds", serve: func(h hostile) {
			h.login()
			h.say("* LIST () NIL {18446744073709551617}")
			h.endless(evil)
		}, want: unavailable, within: quick},
		{name: "a literal that does not end", serve: func(h hostile) { h.login(); h.say("* LIST () NIL {60000}", evil); h.wait() }, want: unavailable, within: budget},
		{name: "silence behind the login", serve: func(h hostile) { h.login(); h.wait() }, want: unavailable, within: budget},
		{name: "one byte a second behind the login", serve: func(h hostile) {
			h.login()
			for h.raw("*") {
				<-time.After(time.Second)
			}
		}, want: unavailable, within: budget},
		{name: "one response a second", serve: func(h hostile) {
			h.login()
			for h.say("* FLAGS (" + evil + ")") {
				<-time.After(time.Second)
			}
		}, want: unavailable, within: budget},
		{name: "silence behind the OK", serve: func(h hostile) { h.say(h.login() + " OK " + evil); h.wait() }, want: unavailable, within: budget},
		{name: "closes behind the OK", serve: func(h hostile) { h.say(h.login() + " OK " + evil) }, want: unavailable},

		// STARTTLS.
		{name: "responses behind STARTTLS", tls: true, serve: func(h hostile) {
			h.startTLS("* CAPABILITY IMAP4rev1 AUTH=PLAIN " + evil + "\r\n")
			h.wait()
		}, want: serverBug},
		{name: "a response in the place of TLS", tls: true, serve: func(h hostile) {
			h.startTLS("")
			synctest.Wait()
			h.say("* OK " + evil)
			h.wait()
		}, want: serverBug},
		{name: "refuses STARTTLS", tls: true, serve: func(h hostile) {
			h.say("* OK [CAPABILITY IMAP4rev1 STARTTLS] " + evil)
			tag, _, _ := h.ReadTag()
			h.say(tag + " NO " + evil)
			h.wait()
		}, want: serverBug},
		{name: "has no STARTTLS", tls: true, serve: func(h hostile) { h.say("* OK [CAPABILITY IMAP4rev1] " + evil); h.wait() }, want: serverBug},
		{name: "silence behind STARTTLS", tls: true, serve: func(h hostile) { h.startTLS(""); h.wait() }, want: unavailable, within: budget},
		{name: "closes behind STARTTLS", tls: true, serve: func(h hostile) { h.startTLS("") }, want: unavailable, within: quick},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := oneBackend(t)
				if tt.tls {
					cfg.Backends["mail1"].TLS = proxy.TLSStartTLS
					cfg.Backends["mail1"].TLSConfig = &tls.Config{RootCAs: proxytest.NewCA(t).Pool(), ServerName: "mail1", MinVersion: tls.VersionTLS12}
				}
				g := newGate(t, cfg, proxy.Listener{TLS: proxy.TLSNone})
				var most atomic.Int64
				g.network.Add("mail1", &proxytest.Backend{Buffer: pipe, Serve: func(c *proxytest.BackendConn) {
					h := hostile{c, new(atomic.Int64)}
					tt.serve(h)
					for {
						old := most.Load()
						if n := h.written.Load(); n <= old || most.CompareAndSwap(old, n) {
							break
						}
					}
				}})
				c := g.connect(t)
				c.line()
				began := time.Now()
				reply, before := c.command(`LOGIN alice secret`)
				took := time.Since(began)
				if reply != tt.want {
					t.Errorf("the client is told %q, want %q", reply, tt.want)
				}
				if len(before) > 0 {
					t.Errorf("before that it is told %q", before)
				}
				if took > tt.within {
					t.Errorf("it took %v, more than %v", took, tt.within)
				}
				if reply, _ := c.command("NOOP"); reply != "OK NOOP completed." {
					t.Errorf("the connection does not go on: %q", reply)
				}
				if n := g.network.Dialled("mail1"); n > attempts {
					t.Errorf("%d attempts", n)
				}
				_ = g.server.Close()
				g.network.Close()
				if n := most.Load(); n > maxRead+overhead {
					t.Errorf("%d bytes were read of one connection", n)
				}
				if strings.Contains(c.seen.String(), evil) {
					t.Errorf("the client saw:\n%s", c.seen)
				}
				if strings.Contains(g.logs.String(), evil) || strings.Contains(g.logs.String(), "panic") {
					t.Errorf("the log holds what the backend said:\n%s", g.logs)
				}
			})
		})
	}
}

// TestBackendTagsCannotBeGuessed collects the tags of many logins: a backend that
// knows some must not know the next.
func TestBackendTagsCannotBeGuessed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t, oneBackend(t), proxy.Listener{TLS: proxy.TLSNone})
		tags := make(chan string, 1000)
		g.network.Add("mail1", &proxytest.Backend{Serve: func(c *proxytest.BackendConn) {
			_ = c.Say("* OK [CAPABILITY IMAP4rev1 SASL-IR ID AUTH=PLAIN] Hello.")
			for range 2 {
				tag, _, err := c.ReadTag()
				if err != nil {
					return
				}
				tags <- tag
				_ = c.Say(tag + " NO No.")
			}
		}})
		c := g.connect(t)
		c.line()
		seen := make(map[string]bool)
		prefixes := make(map[string]int)
		for i := range 100 {
			if reply, _ := c.command(fmt.Sprintf("LOGIN user%d secret", i)); reply != failed {
				t.Fatalf("told %q", reply)
			}
			for range 2 {
				tag := <-tags
				if seen[tag] || len(tag) < 8 {
					t.Errorf("tag %q: short, or used before", tag)
				}
				seen[tag] = true
				prefixes[tag[:4]]++
			}
		}
		for p, n := range prefixes {
			if n > 5 {
				t.Errorf("%d of 200 tags begin with %q", n, p)
			}
		}
	})
}

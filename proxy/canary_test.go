package proxy_test

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
	"imapgate/route"
)

// canary is a secret that must show up nowhere but at the backend. It is long, so
// that parts of it show up as well.
const canary = "c4nary-Tr1ll-7f3a9"

// forms returns what would give the canary away: itself, in hex, and in base64 at
// each of the three offsets it may have in a message.
func forms() []string {
	all := []string{canary, strings.ToUpper(canary), canary[:10], canary[8:], hex.EncodeToString([]byte(canary)), strings.ToUpper(hex.EncodeToString([]byte(canary)))}
	for pad := range 3 {
		enc := base64.StdEncoding.EncodeToString([]byte(strings.Repeat("x", pad) + canary))
		all = append(all, enc[4*((pad+2)/3):len(enc)-4]) // without what depends on its neighbours
	}
	return all
}

func b64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// brokenTable is a router that cannot answer. Its error is for the log.
type brokenTable struct{}

func (brokenTable) Begin(string) (*route.Lease, error) {
	return nil, errors.New("lookup service is down")
}

// canaryLogin is a way to say the canary.
type canaryLogin struct {
	name    string
	command string
	answers []string
}

// canaryLogins are all of them.
func canaryLogins() []canaryLogin {
	plain := b64("\x00alice\x00" + canary)
	return []canaryLogin{
		{"login atom", "LOGIN alice " + canary, nil},
		{"login quoted", `LOGIN "alice" "` + canary + `"`, nil},
		{"login literal", fmt.Sprintf("LOGIN {5}\r\nalice {%d+}\r\n%s", len(canary), canary), []string{""}},
		{"login without tls", "LOGIN alice " + canary, nil},
		{"login 8-bit", "LOGIN älice " + canary, nil},
		{"login with too much", "LOGIN alice " + canary + " " + canary, nil},
		{"login without a name", "LOGIN " + canary, nil},
		{"login with a bad escape", `LOGIN alice "\` + canary + `"`, nil},
		{"login with NUL", "LOGIN alice " + canary + "\x00", nil},
		{"login with a control character", `LOGIN alice "` + canary + "\t\"", nil},
		{"login with a literal in the middle", fmt.Sprintf("LOGIN {3+}\r\nabc%s x", canary), nil},
		{"plain", "AUTHENTICATE PLAIN " + plain, nil},
		{"plain asked", "AUTHENTICATE PLAIN", []string{plain}},
		{"plain with authzid", "AUTHENTICATE PLAIN " + b64("bob\x00alice\x00"+canary), nil},
		{"plain with too many parts", "AUTHENTICATE PLAIN " + b64("\x00alice\x00"+canary+"\x00"+canary), nil},
		{"plain without parts", "AUTHENTICATE PLAIN " + b64(canary), nil},
		{"plain with bad base64", "AUTHENTICATE PLAIN " + plain + "!", nil},
		{"plain asked, bad base64", "AUTHENTICATE PLAIN", []string{plain + "!"}},
		{"plain in clear", "AUTHENTICATE PLAIN " + canary, nil},
		{"login mechanism", "AUTHENTICATE LOGIN", []string{b64("alice"), b64(canary)}},
		{"login mechanism in clear", "AUTHENTICATE LOGIN", []string{b64("alice"), canary}},
		{"xoauth2", "AUTHENTICATE XOAUTH2 " + b64("user=alice\x01auth=Bearer "+canary+"\x01\x01"), []string{""}},
		{"xoauth2 malformed", "AUTHENTICATE XOAUTH2 " + b64("auth=Bearer "+canary), nil},
		{"oauthbearer", "AUTHENTICATE OAUTHBEARER " + b64("n,a=alice,\x01auth=Bearer "+canary+"\x01\x01"), []string{"AQ=="}},
		{"oauthbearer malformed", "AUTHENTICATE OAUTHBEARER " + b64("n,,\x01auth=Bearer "+canary+"\x01\x01"), nil},
		{"scram", "AUTHENTICATE SCRAM-SHA-256 " + b64("n,,n=alice,r="+canary), []string{b64("c=biws,r=x,p=" + canary)}},
		{"scram malformed", "AUTHENTICATE SCRAM-SHA-256 " + b64("n,,m="+canary), nil},
		{"unknown mechanism", "AUTHENTICATE X-FOO " + b64(canary), nil},
		{"a password where a command should be", canary + " " + canary, nil},
		{"over-long line", "LOGIN alice " + canary + strings.Repeat("x", 10<<10), nil},
		{"over-long literal", "LOGIN alice {5000+}\r\n" + canary, nil},
	}
}

// TestSecretsAppearNowhere sends a password or token that is found nowhere else
// through every mechanism and every way to fail, and then looks for it in the log
// at debug level, in what the client was told, and in a trace.
func TestSecretsAppearNowhere(t *testing.T) {
	plain := b64("\x00alice\x00" + canary)
	logins := canaryLogins()
	ways := []struct {
		name    string
		prepare func(*proxy.Config)
		backend *proxytest.Backend // nil: refuses connections
	}{
		{"ok", nil, &proxytest.Backend{}},
		{"ok, one by one", func(c *proxy.Config) { c.Backends["mail1"].NoPipelining = true }, &proxytest.Backend{Capabilities: "IMAP4rev1 ID"}},
		{"login disabled", nil, &proxytest.Backend{Capabilities: "IMAP4rev1 LOGINDISABLED"}},
		{"rejected", nil, &proxytest.Backend{Login: func(proxytest.Login) string { return "NO [AUTHENTICATIONFAILED] No." }}},
		{"rejected, with the secret", nil, &proxytest.Backend{Login: func(l proxytest.Login) string { return "NO You said " + l.Secret }}},
		{"bad, with the secret", nil, &proxytest.Backend{Login: func(l proxytest.Login) string { return "BAD [X-" + l.Secret + "] You said " + l.Secret }}},
		{"limit", nil, &proxytest.Backend{Login: func(proxytest.Login) string { return "NO [LIMIT] Too many." }}},
		{"challenge", nil, &proxytest.Backend{Serve: func(c *proxytest.BackendConn) {
			_ = c.Say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2 AUTH=OAUTHBEARER AUTH=SCRAM-SHA-256] Hello.")
			tag, _, _ := c.ReadTag()
			_ = c.Say("+ " + b64("{}"))
			_, _ = c.ReadLine()
			_ = c.Say(tag + " NO No.")
		}}},
		{"closed, with the secret", nil, &proxytest.Backend{Serve: func(c *proxytest.BackendConn) {
			_ = c.Say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2 AUTH=OAUTHBEARER AUTH=SCRAM-SHA-256] Hello.")
			line, _ := c.ReadLine()
			_ = c.Say("* BYE " + line + canary)
		}}},
		{"tagged garbage, with the secret", nil, &proxytest.Backend{Serve: func(c *proxytest.BackendConn) {
			_ = c.Say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2 AUTH=OAUTHBEARER AUTH=SCRAM-SHA-256] Hello.")
			tag, line, _ := c.ReadTag()
			_ = c.Say(canary+" OK "+line, tag+" "+canary+" "+line)
		}}},
		{"silence", nil, &proxytest.Backend{Serve: func(c *proxytest.BackendConn) {
			_ = c.Say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2 AUTH=OAUTHBEARER AUTH=SCRAM-SHA-256] Hello.")
			for {
				if _, err := c.ReadLine(); err != nil {
					return
				}
			}
		}}},
		{"down", nil, nil},
		{"unknown user", func(c *proxy.Config) { c.Router = nobody{} }, nil},
		{"broken table", func(c *proxy.Config) { c.Router = brokenTable{} }, nil},
		{"unknown backend", func(c *proxy.Config) { c.Router = everyoneAt(t, "mail9") }, nil},
		{"no starttls", func(c *proxy.Config) {
			c.Backends["mail1"].TLS, c.Backends["mail1"].TLSConfig = proxy.TLSStartTLS, &tls.Config{ServerName: "mail1", MinVersion: tls.VersionTLS12}
		}, &proxytest.Backend{}},
	}
	mechanisms := []string{"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "SCRAM-SHA-256"}
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := oneBackend(t)
				cfg.Mechanisms = mechanisms
				cfg.Capabilities = []string{"IMAP4rev1", "SASL-IR"}
				for _, m := range mechanisms {
					cfg.Capabilities = append(cfg.Capabilities, "AUTH="+m)
				}
				if way.prepare != nil {
					way.prepare(cfg)
				}
				g := newGate(t, cfg, proxy.Listener{TLS: proxy.TLSNone})
				traced := watch(t, g)
				private := newGate(t, cfg, proxy.Listener{TLS: proxy.TLSStartTLS, TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12}})
				if way.backend != nil {
					g.network.Add("mail1", way.backend)
				}
				for _, l := range logins {
					at := g
					if l.name == "login without tls" {
						at = private
					}
					c := at.connect(t)
					c.line()
					c.command(l.command, l.answers...)
					c.command("NOOP")
					_ = c.nc.Close()
					synctest.Wait()
					expectNoCanary(t, l.name+": the client was told", c.seen.String())
				}
				for _, cut := range []string{"a1 LOGIN alice " + canary, "a1 LOGIN alice {100+}\r\n" + canary, "a1 AUTHENTICATE PLAIN " + plain} {
					c := g.connect(t)
					c.line()
					c.send("%s", cut)
					_ = c.nc.Close() // in the middle of a line
				}
				c := g.connect(t)
				c.line()
				c.send("a1 LOGIN alice %s", canary)
				<-time.After(2 * time.Minute) // until the proxy has had enough
				_ = c.nc.Close()
				synctest.Wait()
				_, _ = g.server.Close(), private.server.Close()
				expectNoCanary(t, "the trace holds", traced.String())
				if !strings.Contains(traced.String(), "C: ") {
					t.Error("nothing was traced")
				}
				expectNoCanary(t, "the log holds", g.logs.String()+private.logs.String())
				if !strings.Contains(g.logs.String(), "login") {
					t.Error("nothing was logged")
				}
			})
		})
	}
}

func expectNoCanary(t *testing.T, where, text string) {
	t.Helper()
	for _, form := range forms() {
		if i := strings.Index(text, form); i >= 0 {
			t.Errorf("%s %q:\n…%s", where, form, text[max(0, i-300):min(len(text), i+100)])
			return
		}
	}
}

// TestSecretPrintsAsRedacted prints a secret with every verb.
func TestSecretPrintsAsRedacted(t *testing.T) {
	s := proxy.NewSecret([]byte(canary))
	text, err := s.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	printed := []string{s.String(), string(text), fmt.Sprintf("%v", struct{ S proxy.Secret }{s}), fmt.Sprintf("%+v", &struct{ S any }{s})}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d"} {
		printed = append(printed, fmt.Sprintf(verb, s))
	}
	for _, p := range printed {
		expectNoCanary(t, "printed", p)
		if !strings.Contains(p, "[redacted]") {
			t.Errorf("printed as %q", p)
		}
	}
}

package proxy_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// sasl are the messages of a good login, by mechanism; what is not listed here is
// never offered.
var sasl = map[string]string{
	"PLAIN":         "\x00alice\x00secret",
	"LOGIN":         "alice",
	"XOAUTH2":       "user=alice\x01auth=Bearer t0ken\x01\x01",
	"OAUTHBEARER":   "n,a=alice,\x01auth=Bearer t0ken\x01\x01",
	"EXTERNAL":      "alice",
	"SCRAM-SHA-1":   "n,,n=alice,r=nonce",
	"SCRAM-SHA-256": "n,,n=alice,r=nonce",
}

// neverOffered are mechanisms that cannot be routed or do not exist.
var neverOffered = []string{
	"CRAM-MD5", "DIGEST-MD5", "GSSAPI", "NTLM", "ANONYMOUS", "SCRAM-SHA-1-PLUS", "SCRAM-SHA-256-PLUS",
	"PLAIN-CLIENTTOKEN", "XOAUTH", "LOGIN-COMMAND", "X",
}

// advertised is one setting, of which what is advertised and what is accepted are
// compared.
type advertised struct {
	mode       proxy.TLSMode
	tls        bool // the client is asked after STARTTLS or under TLS
	cert       bool // … with a certificate
	master     bool // the backend has a master user
	mechanisms []string
	pinned     []string
	backend    string // what the backend announces; "" before any was heard
}

// TestAdvertisedIsAccepted compares, for many settings, what the capabilities say
// with what the commands do: nothing advertised is refused, no mechanism that is
// not advertised is accepted. See RFC 9051, Section 6.1.1.
func TestAdvertisedIsAccepted(t *testing.T) {
	everything := []string{"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "EXTERNAL", "SCRAM-SHA-1", "SCRAM-SHA-256"}
	announced := []string{
		"",
		"IMAP4rev1",
		"IMAP4rev1 SASL-IR ID AUTH=PLAIN AUTH=LOGIN",
		"IMAP4rev1 IMAP4rev2 AUTH=PLAIN AUTH=XOAUTH2 AUTH=OAUTHBEARER LOGIN-REFERRALS COMPRESS=DEFLATE UNAUTHENTICATE LITERAL+",
		"IMAP4rev1 SASL-IR AUTH=PLAIN AUTH=SCRAM-SHA-1 AUTH=SCRAM-SHA-256 AUTH=SCRAM-SHA-256-PLUS AUTH=CRAM-MD5 AUTH=GSSAPI",
	}
	pins := []string{"IMAP4rev1", "SASL-IR", "AUTH=PLAIN", "AUTH=EXTERNAL", "AUTH=CRAM-MD5", "STARTTLS", "LITERAL+", "COMPRESS=DEFLATE"}
	wires := []advertised{
		{mode: proxy.TLSNone},
		{mode: proxy.TLSStartTLS},
		{mode: proxy.TLSStartTLS, tls: true},
		{mode: proxy.TLSImplicit, tls: true, master: true},
		{mode: proxy.TLSImplicit, tls: true, cert: true},
		{mode: proxy.TLSImplicit, tls: true, cert: true, master: true},
	}
	var all []advertised
	for _, a := range wires {
		for _, a.backend = range announced {
			for _, a.mechanisms = range [][]string{{"PLAIN"}, {"XOAUTH2", "OAUTHBEARER"}, {"LOGIN"}, everything} {
				a.pinned = nil
				all = append(all, a)
			}
			a.pinned = pins
			all = append(all, a)
		}
	}
	ca := proxytest.NewCA(t)
	cert := ca.Issue(t, proxytest.CertOptions{Hosts: []string{"imap.example.org"}})
	for _, a := range all {
		name := fmt.Sprintf("%s tls=%t cert=%t master=%t %s pinned=%t [%s]", a.mode, a.tls, a.cert, a.master, a.mechanisms, a.pinned != nil, a.backend)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { a.check(t, ca, cert) })
		})
	}
}

func (a advertised) check(t *testing.T, ca *proxytest.CA, cert tls.Certificate) {
	t.Helper()
	cfg := oneBackend(t)
	cfg.Mechanisms, cfg.Capabilities = a.mechanisms, a.pinned
	if a.master {
		cfg.Backends["mail1"].MasterUser, cfg.Backends["mail1"].MasterPassword = "proxy", proxy.NewSecret([]byte("mastersecret"))
	}
	l := proxy.Listener{TLS: a.mode}
	config := &tls.Config{ServerName: "imap.example.org", MinVersion: tls.VersionTLS12}
	if a.mode != proxy.TLSNone {
		l.TLSConfig = &tls.Config{
			Certificates: []tls.Certificate{cert},
			ClientAuth:   tls.VerifyClientCertIfGiven, ClientCAs: ca.Pool(), MinVersion: tls.VersionTLS12,
		}
		l.CertificateUser = func(c *x509.Certificate) (string, error) {
			if c.Subject.CommonName == "" {
				return "", errors.New("no name")
			}
			return c.Subject.CommonName, nil
		}
		config.RootCAs = ca.Pool()
		if a.cert {
			config.Certificates = []tls.Certificate{ca.Issue(t, proxytest.CertOptions{Client: true, CommonNames: []string{"alice"}})}
		}
	}
	if a.backend != "" {
		cfg.Check.Interval = time.Hour // the first look comes before the first client
	}
	g := newGate(t, cfg, l, &proxytest.Backend{Capabilities: a.backend})
	connect := func() (*client, []string) {
		c := g.connect(t)
		if a.mode == proxy.TLSImplicit {
			c.startTLS(config)
		}
		greeting := c.line()
		if a.mode == proxy.TLSStartTLS && a.tls {
			if reply, _ := c.command("STARTTLS"); !strings.HasPrefix(reply, "OK ") {
				t.Fatalf("STARTTLS: %q", reply)
			}
			c.startTLS(config)
		}
		_, before := c.command("CAPABILITY")
		caps := strings.Fields(strings.TrimPrefix(before[0], "* CAPABILITY "))
		if a.mode != proxy.TLSStartTLS && !strings.Contains(greeting, "[CAPABILITY "+strings.Join(caps, " ")+"]") {
			t.Errorf("greeted with %q, asked with %q", greeting, caps)
		}
		return c, caps
	}
	c, caps := connect()
	a.checkList(t, caps)

	accepted := func(command string, answers ...string) string {
		t.Helper()
		if c == nil {
			c, _ = connect()
		}
		reply, _ := c.command(command, answers...)
		if strings.HasPrefix(reply, "OK ") {
			_ = c.nc.Close()
			c = nil
		}
		return reply
	}
	for mechanism, message := range sasl {
		offered := slices.Contains(caps, "AUTH="+mechanism)
		more := []string{b64("secret")} // the password of LOGIN
		for _, reply := range []string{
			accepted("AUTHENTICATE "+mechanism+" "+b64(message), more...),
			accepted("AUTHENTICATE "+strings.ToLower(mechanism), append([]string{b64(message)}, more...)...),
		} {
			if got := strings.HasPrefix(reply, "OK "); got != offered {
				t.Errorf("%s is offered: %t, and answered %q; capabilities %q", mechanism, offered, reply, caps)
			}
			if !offered && !strings.HasPrefix(reply, "NO [CANNOT] ") && !strings.HasPrefix(reply, "NO [PRIVACYREQUIRED] ") {
				t.Errorf("%s is not offered, and answered %q", mechanism, reply)
			}
		}
	}
	for _, mechanism := range neverOffered {
		if reply := accepted("AUTHENTICATE " + mechanism); !strings.HasPrefix(reply, "NO [CANNOT] ") && !strings.HasPrefix(reply, "NO [PRIVACYREQUIRED] ") {
			t.Errorf("%s is answered %q", mechanism, reply)
		}
	}
	if reply := accepted("LOGIN alice secret"); strings.HasPrefix(reply, "OK ") == slices.Contains(caps, "LOGINDISABLED") {
		t.Errorf("LOGIN is answered %q; capabilities %q", reply, caps)
	}
	if reply := accepted("STARTTLS"); strings.HasPrefix(reply, "OK ") != slices.Contains(caps, "STARTTLS") {
		t.Errorf("STARTTLS is answered %q; capabilities %q", reply, caps)
	}
	if slices.Contains(caps, "ID") {
		if reply := accepted(`ID ("name" "x")`); !strings.HasPrefix(reply, "OK ") {
			t.Errorf("ID is answered %q", reply)
		}
	}
	if slices.Contains(caps, "LITERAL-") {
		if reply := accepted("ID (\"name\" {1+}\r\nx)"); !strings.HasPrefix(reply, "OK ") {
			t.Errorf("a non-synchronizing literal is answered %q", reply)
		}
	}
}

// checkList looks at the list itself.
func (a advertised) checkList(t *testing.T, caps []string) {
	t.Helper()
	never := []string{"LITERAL+", "LOGIN-REFERRALS", "COMPRESS=DEFLATE", "UNAUTHENTICATE"}
	for _, m := range neverOffered {
		never = append(never, "AUTH="+m)
	}
	seen := make(map[string]bool)
	for _, name := range caps {
		if slices.Contains(never, name) || seen[name] {
			t.Errorf("%s is advertised, or twice", name)
		}
		seen[name] = true
		if m, ok := strings.CutPrefix(name, "AUTH="); ok && a.pinned == nil && !slices.Contains(a.mechanisms, m) {
			t.Errorf("%s is advertised, and not enabled", name)
		}
	}
	plain := a.mode == proxy.TLSStartTLS && !a.tls
	if plain != seen["STARTTLS"] || plain && !seen["LOGINDISABLED"] {
		t.Errorf("capabilities before TLS: %t; they are %q", plain, caps)
	}
	if a.pinned == nil && seen["IMAP4rev2"] != strings.Contains(a.backend, "IMAP4rev2") {
		t.Errorf("IMAP4rev2: %q, where the backend has %q", caps, a.backend)
	}
}

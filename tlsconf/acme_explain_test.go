package tlsconf_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/base64"
	"net"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"imapgate/proxy/proxytest"
	"imapgate/tlsconf"
	"imapgate/tlsconf/acmetest"
)

// TestEachMisconfigurationIsOneLineThatSaysWhatToDo has the mistakes that operators
// make most.
func TestEachMisconfigurationIsOneLineThatSaysWhatToDo(t *testing.T) {
	hmac := base64.RawURLEncoding.EncodeToString([]byte("an HMAC key that the CA gave to us"))
	accounts := acmetest.Options{EABKeys: map[string]string{"account-1": hmac}}
	for _, c := range []struct {
		name      string
		challenge tlsconf.Challenge
		ca        acmetest.Options
		mistake   func(s *site)
		want      []string // parts of the report
		all       bool     // it is about all names
	}{
		{
			"port 80 is taken", tlsconf.ChallengeHTTP,
			acmetest.Options{},
			func(s *site) { occupy(s.t, s.o.HTTPAddress) },
			[]string{"tls.acme.http_address 127.0.0.1:", "another program has it", "/.well-known/acme-challenge/"},
			true,
		},
		{
			"a host that has port 993 only", tlsconf.ChallengeTLSALPN,
			acmetest.Options{},
			func(s *site) { s.o.TLSALPNAddress = proxytest.FreeAddress(s.t) },
			[]string{"the CA says ", "port 443 of imap.example.org, ", "whatever port IMAP is on", "use challenge http-01 or dns-01"},
			false,
		},
		{
			"port 80 leads elsewhere", tlsconf.ChallengeHTTP,
			acmetest.Options{},
			func(s *site) { s.o.HTTPAddress = proxytest.FreeAddress(s.t) },
			[]string{"the CA says ", "http://imap.example.org/.well-known/acme-challenge/ on port 80 ", "use challenge dns-01"},
			false,
		},
		{
			"no external account", tlsconf.ChallengeHTTP, accounts,
			func(*site) {},
			[]string{"externalAccountRequired", "set tls.acme.eab"},
			false,
		},
		{
			"wrong external account", tlsconf.ChallengeHTTP, accounts,
			func(s *site) { s.o.EAB = &tlsconf.EAB{KeyID: "account-2", HMAC: hmac} },
			[]string{"compare tls.acme.eab.key_id and what is in tls.acme.eab.hmac_file"},
			false,
		},
		{
			"wrong key of the external account", tlsconf.ChallengeHTTP, accounts,
			func(s *site) { s.o.EAB = &tlsconf.EAB{KeyID: "account-1", HMAC: hmac[:20]} },
			[]string{"compare tls.acme.eab.key_id and what is in tls.acme.eab.hmac_file"},
			false,
		},
		{
			"a directory that nobody vouches for", tlsconf.ChallengeHTTP,
			acmetest.Options{},
			func(s *site) { s.o.Roots = x509.NewCertPool() },
			[]string{"is not trusted", "set tls.acme.ca"},
			false,
		},
		{
			"a directory that is not there", tlsconf.ChallengeHTTP,
			acmetest.Options{},
			func(s *site) {
				s.o.Directory = "https://localhost:" + port(proxytest.FreePort(s.t)) + "/dir"
			},
			[]string{"the CA cannot be reached", "connection refused", "tried again by itself"},
			false,
		},
		{
			"a key that the DNS server does not know", tlsconf.ChallengeDNS,
			acmetest.Options{},
			func(s *site) { s.o.DNS.Key = base64.StdEncoding.EncodeToString([]byte("another")) },
			[]string{"see tls.acme.dns", "signed with that key"},
			false,
		},
		{
			"a storage that is a file", tlsconf.ChallengeHTTP,
			acmetest.Options{},
			func(s *site) {
				s.o.Storage = filepath.Join(s.o.Storage, "file")
				if err := os.WriteFile(s.o.Storage, nil, 0o600); err != nil {
					s.t.Fatal(err)
				}
			},
			[]string{"not a directory"},
			false,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSite(t, c.challenge, c.ca)
			c.mistake(s)
			core, logs := observer.New(zapcore.DebugLevel)
			s.o.Log = zap.New(core)
			a := s.start(t)
			r := s.report(t)
			a.Close()
			if r.Err == nil || (r.Name == "") != c.all {
				t.Fatalf("reported: %+v", r)
			}
			for _, part := range c.want {
				if !strings.Contains(r.Err.Error(), part) {
					t.Errorf("the report lacks %q: %v", part, r.Err)
				}
			}
			if strings.Contains(r.Err.Error(), "\n") {
				t.Errorf("the report has several lines: %q", r.Err)
			}
			select {
			case r := <-s.reports:
				t.Errorf("one more report: %+v", r)
			default:
			}
			for _, e := range logs.All() {
				if e.Level > zapcore.DebugLevel {
					t.Errorf("the library logs as well: %s %s", e.Level, e.Message)
				}
			}
		})
	}
}

func port(n int) string { return (&net.TCPAddr{Port: n}).String()[1:] }

// occupy listens on an address until the test ends, or its result is called.
func occupy(t *testing.T, address string) (leave func()) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	leave = func() { _ = l.Close() }
	t.Cleanup(leave)
	return leave
}

func TestACMEGoesOnWhenThePortIsFree(t *testing.T) {
	s := newSite(t, tlsconf.ChallengeHTTP, acmetest.Options{})
	leave := occupy(t, s.o.HTTPAddress)
	a := s.start(t)
	if r := s.report(t); r.Name != "" || r.Err == nil {
		t.Fatalf("reported: %+v", r)
	}
	if err := a.Renew(t.Context(), "imap.example.org"); err == nil || s.ca.Orders() > 0 {
		t.Errorf("a renewal that cannot succeed: %v, %d orders", err, s.ca.Orders())
	}
	if info := a.Info(); info[0].Problem == nil || info[0].Problem.Error() != a.Renew(t.Context(), "imap.example.org").Error() {
		t.Errorf("described as %+v", info)
	}
	leave()
	if err := a.Renew(t.Context(), "imap.example.org"); err != nil {
		t.Fatal(err)
	}
	if r := s.report(t); r.Name != "" || r.Err != nil {
		t.Errorf("reported: %+v, want that challenges are answered", r)
	}
	s.mustServe(t, tlsconf.Choice{ACME: a}, "imap.example.org")
}

func TestAnAddressThatIsFreeInAMomentIsNoNews(t *testing.T) {
	s := newSite(t, tlsconf.ChallengeHTTP, acmetest.Options{})
	s.o.Patience = time.Minute
	leave := occupy(t, s.o.HTTPAddress)
	a := s.start(t)
	if _, err := served(t, tlsconf.Choice{ACME: a}, "imap.example.org"); err != nil {
		t.Error(err)
	}
	leave()
	s.obtained(t, "imap.example.org")
}

func TestACMELeavesNothingRunning(t *testing.T) {
	s := newSite(t, tlsconf.ChallengeTLSALPN, acmetest.Options{})
	a := s.start(t)
	s.obtained(t, "imap.example.org")
	a.Close()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", s.o.TLSALPNAddress)
	if err != nil {
		t.Errorf("the address of challenges is not free: %v", err)
	} else {
		_ = l.Close()
	}
	if err := a.Renew(t.Context(), "imap.example.org"); err == nil {
		t.Error("a renewal after Close succeeds")
	}
	var b bytes.Buffer
	for range 200 { // workers of the library end a moment later
		b.Reset()
		if err := pprof.Lookup("goroutine").WriteTo(&b, 2); err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(strings.Split(b.String(), "\n\n"), left) {
			return
		}
		wait(t.Context(), 10*time.Millisecond)
	}
	t.Errorf("goroutines are left:\n%s", b.String())
}

// left says whether a goroutine is one of an ACME. One that keeps a lock alive ends
// when it finds within five seconds that its file has gone. The library keeps one for
// each account at a CA, which bounds its orders, as long as the process lives.
func left(stack string) bool {
	ours := strings.Contains(stack, "certmagic.") || strings.Contains(stack, "tlsconf.(*ACME)")
	return ours && !strings.Contains(stack, "certmagic.keepLockfileFresh") && !strings.Contains(stack, "certmagic.(*RingBufferRateLimiter)")
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func TestNonsensicalACMEOptionsAreRefused(t *testing.T) {
	good := tlsconf.ACMEOptions{
		Domains: []string{"imap.example.org"}, Email: "postmaster@example.org", Challenge: tlsconf.ChallengeHTTP,
		HTTPAddress: ":80", TLSALPNAddress: ":443", Storage: "/nowhere",
	}
	if _, err := tlsconf.NewACME(good); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*tlsconf.ACMEOptions){
		"without any domain":       func(o *tlsconf.ACMEOptions) { o.Domains = nil },
		"e-mail":                   func(o *tlsconf.ACMEOptions) { o.Email = "" },
		"directory for accounts":   func(o *tlsconf.ACMEOptions) { o.Storage = "" },
		`challenge "none" is unkn`: func(o *tlsconf.ACMEOptions) { o.Challenge = "none" },
		"is an address":            func(o *tlsconf.ACMEOptions) { o.Domains = []string{"192.0.2.1"} },
		"a wildcard needs":         func(o *tlsconf.ACMEOptions) { o.Domains = []string{"*.example.org"} },
		"no public CA":             func(o *tlsconf.ACMEOptions) { o.Domains = []string{"imap.local"} },
		"without a DNS provider":   func(o *tlsconf.ACMEOptions) { o.Challenge = tlsconf.ChallengeDNS },
		`DNS provider "x" is unknow`: func(o *tlsconf.ACMEOptions) {
			o.Challenge, o.DNS = tlsconf.ChallengeDNS, &tlsconf.DNSOptions{Provider: "x"}
		},
		"need a server and a key": func(o *tlsconf.ACMEOptions) {
			o.Challenge, o.DNS = tlsconf.ChallengeDNS, &tlsconf.DNSOptions{Provider: "rfc2136"}
		},
		"missing port": func(o *tlsconf.ACMEOptions) { o.HTTPAddress = "localhost" },
	} {
		o := good
		change(&o)
		if _, err := tlsconf.NewACME(o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
	}
}

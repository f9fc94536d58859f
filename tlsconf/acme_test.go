package tlsconf_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"imapgate/proxy/proxytest"
	"imapgate/tlsconf"
	"imapgate/tlsconf/acmetest"
)

// site is a CA, a zone, and what an ACME there needs.
type site struct {
	t       *testing.T
	ca      *acmetest.CA
	zone    *acmetest.Zone
	o       tlsconf.ACMEOptions
	reports chan tlsconf.ACMEReport
}

// newSite returns a site with a challenge, for imap.example.org.
func newSite(t *testing.T, c tlsconf.Challenge, o acmetest.Options) *site {
	t.Helper()
	s := &site{t: t, zone: acmetest.NewZone(t, "example.org"), reports: make(chan tlsconf.ACMEReport, 100)}
	o.Zone, o.HTTPPort, o.TLSPort = s.zone, proxytest.FreePort(t), proxytest.FreePort(t)
	s.ca = acmetest.NewCA(t, o)
	s.o = tlsconf.ACMEOptions{
		Domains: []string{"imap.example.org"}, Email: "postmaster@example.org",
		Directory: s.ca.Directory, Roots: s.ca.Roots, Challenge: c,
		HTTPAddress: "127.0.0.1:" + strconv.Itoa(o.HTTPPort), TLSALPNAddress: "127.0.0.1:" + strconv.Itoa(o.TLSPort),
		DNS: &tlsconf.DNSOptions{
			Provider: "rfc2136", Server: s.zone.Address, Resolvers: []string{s.zone.Address},
			KeyName: acmetest.KeyName, KeyAlgorithm: acmetest.KeyAlgorithm, Key: acmetest.Key,
		},
		Storage: t.TempDir(),
		Report:  func(r tlsconf.ACMEReport) { s.reports <- r },
	}
	return s
}

// start starts an ACME, and closes it with the test.
func (s *site) start(t *testing.T) *tlsconf.ACME {
	t.Helper()
	a, err := tlsconf.NewACME(s.o)
	if err != nil {
		t.Fatal(err)
	}
	a.Start(t.Context())
	t.Cleanup(a.Close)
	return a
}

// report waits for the next report.
func (s *site) report(t *testing.T) tlsconf.ACMEReport {
	t.Helper()
	select {
	case r := <-s.reports:
		return r
	case <-t.Context().Done():
	case <-time.After(time.Minute):
	}
	t.Fatal("nothing is reported")
	return tlsconf.ACMEReport{}
}

// obtained waits for the report that a name has a certificate.
func (s *site) obtained(t *testing.T, name string) {
	t.Helper()
	if r := s.report(t); r.Name != name || r.Err != nil {
		t.Fatalf("reported: %+v, want that %s is obtained", r, name)
	}
}

// served returns what a client gets who asks for a name.
func served(t *testing.T, c tlsconf.Choice, name string, protocols ...string) (*x509.Certificate, error) {
	t.Helper()
	conf, err := tlsconf.Server(tlsconf.ServerOptions{Certificates: c.GetCertificate, ACME: true})
	if err != nil {
		t.Fatal(err)
	}
	o := connect(t, &tls.Config{ServerName: name, NextProtos: protocols, InsecureSkipVerify: true}, conf)
	if err := errors.Join(o.clientErr, o.serverErr); err != nil {
		return nil, err
	}
	return o.client.PeerCertificates[0], nil
}

// mustServe checks that a client gets a certificate that a CA issued for a name.
func (s *site) mustServe(t *testing.T, c tlsconf.Choice, name string) *x509.Certificate {
	t.Helper()
	cert, err := served(t, c, name)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	if err := cert.VerifyHostname(name); err != nil {
		t.Errorf("%s: %v", name, err)
	}
	if cert.Issuer.CommonName == cert.Subject.CommonName {
		t.Errorf("%s: the certificate is self-signed", name)
	}
	return cert
}

func TestACMEObtainsWithEachChallenge(t *testing.T) {
	for _, c := range []tlsconf.Challenge{tlsconf.ChallengeHTTP, tlsconf.ChallengeTLSALPN, tlsconf.ChallengeDNS} {
		t.Run(string(c), func(t *testing.T) {
			s := newSite(t, c, acmetest.Options{})
			name := "imap.example.org"
			if c == tlsconf.ChallengeDNS {
				s.o.Domains = []string{"*.example.org"}
			}
			choice := tlsconf.Choice{ACME: s.start(t)}
			s.obtained(t, s.o.Domains[0])
			s.mustServe(t, choice, name)
			if cert, err := served(t, choice, "other.example.com"); err != nil || cert.Issuer.CommonName == cert.Subject.CommonName {
				t.Errorf("an unknown name gets %v, %v, want the certificate of the first domain", cert, err)
			}
			if n := s.zone.Records(); n != 0 {
				t.Errorf("%d TXT records are left", n)
			}
			if used := s.zone.Updates() > 0; used != (c == tlsconf.ChallengeDNS) {
				t.Errorf("the zone was updated: %v", used)
			}
		})
	}
}

func TestACMERenews(t *testing.T) {
	s := newSite(t, tlsconf.ChallengeHTTP, acmetest.Options{Validity: 6 * time.Second})
	s.o.RenewInterval = 100 * time.Millisecond
	a := s.start(t)
	choice := tlsconf.Choice{ACME: a}
	s.obtained(t, "imap.example.org")
	first := s.mustServe(t, choice, "imap.example.org")
	if r := s.report(t); r.Err != nil || !r.Renewed {
		t.Fatalf("reported: %+v, want a renewal", r)
	}
	if err := a.Renew(t.Context(), "imap.example.org"); err != nil {
		t.Fatal(err)
	}
	if next := s.mustServe(t, choice, "imap.example.org"); next.SerialNumber.Cmp(first.SerialNumber) == 0 {
		t.Error("the old certificate is served after a renewal")
	}
	if err := a.Renew(t.Context(), "pop.example.org"); !errors.Is(err, tlsconf.ErrNoSuchCertificate) {
		t.Errorf("renewal of a name that is not there: %v", err)
	}
}

func TestACMEServesWhatIsStoredWhileTheCAIsDown(t *testing.T) {
	s := newSite(t, tlsconf.ChallengeHTTP, acmetest.Options{})
	a := s.start(t)
	s.obtained(t, "imap.example.org")
	a.Close()

	s.ca.SetDown(true)
	s.o.Domains = append(s.o.Domains, "mail.example.org")
	a, err := tlsconf.NewACME(s.o)
	if err != nil {
		t.Fatal(err)
	}
	a.Start(t.Context())
	defer a.Close()
	choice := tlsconf.Choice{ACME: a}
	s.mustServe(t, choice, "imap.example.org")
	r := s.report(t)
	if r.Name != "mail.example.org" || r.Err == nil {
		t.Fatalf("reported: %+v", r)
	}
	info := a.Info()
	if len(info) != 2 || info[0].Problem != nil || info[0].Leaf == nil || info[1].Problem == nil || info[1].Leaf != nil || info[1].Next.IsZero() {
		t.Errorf("described as %+v", info)
	}

	// The operator says when the CA is back.
	s.ca.SetDown(false)
	if err := a.Renew(t.Context(), "mail.example.org"); err != nil {
		t.Fatal(err)
	}
	s.mustServe(t, choice, "mail.example.org")
}

func TestACMEServesASelfSignedCertificateUntilThereIsOne(t *testing.T) {
	s := newSite(t, tlsconf.ChallengeHTTP, acmetest.Options{})
	s.ca.SetDown(true)
	a := s.start(t)
	if r := s.report(t); r.Err == nil || strings.Contains(r.Err.Error(), "\n") {
		t.Errorf("reported: %+v", r)
	}
	cert, err := served(t, tlsconf.Choice{ACME: a}, "imap.example.org")
	if err != nil || cert.VerifyHostname("imap.example.org") != nil {
		t.Fatalf("served: %v, %v", cert, err)
	}
	if a.Serving() {
		t.Error("it says that a certificate is there")
	}
}

func TestACMEOnDemand(t *testing.T) {
	s := newSite(t, tlsconf.ChallengeHTTP, acmetest.Options{})
	s.o.Domains = nil
	s.o.OnDemand = func(name string) bool { return name == "imap.customer.example.org" || name == "gone.example.org" }
	s.zone.Forget("gone.example.org")
	choice := tlsconf.Choice{ACME: s.start(t)}

	// A crowd that asks for the same name costs one order.
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() { s.mustServe(t, choice, "imap.customer.example.org") })
	}
	wg.Wait()
	s.obtained(t, "imap.customer.example.org")
	if n := s.ca.Orders(); n != 1 {
		t.Errorf("%d orders for one name", n)
	}

	for _, refused := range []string{"imap.stranger.example.org", "192.0.2.1", ""} {
		cert, err := served(t, choice, refused)
		if err != nil || cert.Issuer.CommonName != cert.Subject.CommonName {
			t.Errorf("%q is served %v, %v, want the self-signed certificate", refused, cert, err)
		}
	}
	if n := s.ca.Orders(); n != 1 {
		t.Errorf("%d orders after names that are not allowed", n)
	}

	// What cannot be obtained is not tried with each handshake.
	for range 3 {
		if _, err := served(t, choice, "gone.example.org"); err != nil {
			t.Error(err)
		}
	}
	if r := s.report(t); r.Name != "gone.example.org" || r.Err == nil {
		t.Errorf("reported: %+v", r)
	}
	if n := s.ca.Orders(); n > 3 { // the library makes a second order of a failed one
		t.Errorf("%d orders after one name that fails", n)
	}
}

func TestACMEChoosesFilesFirst(t *testing.T) {
	s := newSite(t, tlsconf.ChallengeHTTP, acmetest.Options{})
	s.o.Domains = []string{"imap.example.org", "mail.example.org"}
	dir := t.TempDir()
	own := proxytest.NewCA(t)
	choice := tlsconf.Choice{ACME: s.start(t), Files: files(t,
		pair(t, dir, "default", own.Issue(t, proxytest.CertOptions{Hosts: []string{"default.example.net"}})),
		pair(t, dir, "mail", own.Issue(t, proxytest.CertOptions{Hosts: []string{"mail.example.org"}})))}
	s.report(t)
	s.report(t)
	for asked, issuer := range map[string]bool{"imap.example.org": true, "mail.example.org": false, "default.example.net": false, "else.example.org": false, "": false} {
		cert, err := served(t, choice, asked)
		if err != nil {
			t.Errorf("%q: %v", asked, err)
			continue
		}
		if fromCA := cert.Issuer.CommonName != own.Certificate.Subject.CommonName; fromCA != issuer {
			t.Errorf("%q is served a certificate of %s", asked, cert.Issuer.CommonName)
		}
	}
}

func TestTLSALPNChallengeIsAnsweredByListenersToo(t *testing.T) {
	s := newSite(t, tlsconf.ChallengeTLSALPN, acmetest.Options{})
	choice := tlsconf.Choice{ACME: s.start(t)}
	s.obtained(t, "imap.example.org")
	if _, err := served(t, choice, "imap.example.org", tlsconf.ChallengeProtocol); err == nil {
		t.Error("a challenge that nobody waits for is answered")
	}
	// The address of challenges has nothing for anybody else.
	for _, protocols := range [][]string{nil, {"imap"}, {"http/1.1", tlsconf.ChallengeProtocol}} {
		d := &tls.Dialer{Config: &tls.Config{ServerName: "imap.example.org", NextProtos: protocols, InsecureSkipVerify: true}}
		if c, err := d.DialContext(t.Context(), "tcp", s.o.TLSALPNAddress); err == nil {
			_ = c.Close()
			t.Errorf("a handshake with %v succeeds", protocols)
		}
	}
}

func TestNothingElseIsServedOverHTTP(t *testing.T) {
	s := newSite(t, tlsconf.ChallengeHTTP, acmetest.Options{})
	s.start(t)
	s.obtained(t, "imap.example.org")
	for _, path := range []string{"/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/x", "/.well-known/acme-challenge/../../x"} {
		c, err := new(net.Dialer).DialContext(t.Context(), "tcp", s.o.HTTPAddress)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write([]byte("GET " + path + " HTTP/1.1\r\nHost: imap.example.org\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1000)
		n, _ := c.Read(buf)
		_ = c.Close()
		if got := string(buf[:n]); !strings.HasPrefix(got, "HTTP/1.1 404 ") || !strings.HasSuffix(got, "\r\n\r\n") {
			t.Errorf("%s is answered with %q", path, got)
		}
	}
}

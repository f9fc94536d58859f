package admin

import (
	"context"
	"crypto/x509"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"imapgate/proxy/proxytest"
	"imapgate/tlsconf"
)

// fakeACME has what a test says.
type fakeACME struct {
	infos   []tlsconf.ACMEInfo
	renewed []string
	err     error
}

func (a *fakeACME) Info() []tlsconf.ACMEInfo { return a.infos }

func (a *fakeACME) Serving() bool {
	for _, i := range a.infos {
		if i.Leaf != nil {
			return true
		}
	}
	return false
}

func (a *fakeACME) Renew(_ context.Context, name string) error {
	a.renewed = append(a.renewed, name)
	return a.err
}

// leaf returns a certificate that a CA could have issued.
func leaf(t *testing.T, names ...string) *x509.Certificate {
	t.Helper()
	return proxytest.NewCA(t).Issue(t, proxytest.CertOptions{Hosts: names}).Leaf
}

func TestCertificatesSayWhatIsServedToWhom(t *testing.T) {
	dir, now := t.TempDir(), time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	cert, key := proxytest.WritePair(t, dir, "file", proxytest.NewCA(t).Issue(t, proxytest.CertOptions{Hosts: []string{"mail.example.org", "*.example.net"}}))
	files, err := tlsconf.NewFiles([]tlsconf.Pair{{Cert: cert, Key: key}})
	if err != nil {
		t.Fatal(err)
	}
	acme := &fakeACME{infos: []tlsconf.ACMEInfo{
		{Name: "imap.example.org", Leaf: leaf(t, "imap.example.org")},
		{Name: "imap.example.net", Leaf: leaf(t, "imap.example.net")},
		{Name: "new.example.org", Problem: errors.New("the CA sleeps"), Next: now},
		{Name: "imap.customer.example", OnDemand: true, Leaf: leaf(t, "imap.customer.example")},
	}}
	summary := func(in InForce) []string {
		var lines []string
		for _, c := range in.certificates(now) {
			line := c.Source + " " + strings.Join(c.Names, ",") + " serves " + strings.Join(c.Serves, ",")
			if c.Default {
				line += " and everybody else"
			}
			if c.Problem != "" {
				line += ": " + c.Problem
			}
			lines = append(lines, line)
		}
		return lines
	}
	for name, c := range map[string]struct {
		in   InForce
		want []string
	}{
		"files and a CA": {InForce{Certificates: files, ACME: acme}, []string{
			"file mail.example.org,*.example.net serves mail.example.org,*.example.net and everybody else",
			"acme imap.example.org serves imap.example.org",
			"acme imap.example.net serves : imap.example.net: a certificate from a file is served for this name",
			"acme new.example.org serves : new.example.org: the CA sleeps",
			"on-demand imap.customer.example serves imap.customer.example",
		}},
		"a CA": {InForce{ACME: &fakeACME{infos: acme.infos[:1]}}, []string{"acme imap.example.org serves imap.example.org and everybody else"}},
		"nothing yet": {InForce{ACME: &fakeACME{infos: []tlsconf.ACMEInfo{{Name: "imap.example.org"}}}}, []string{
			"acme imap.example.org serves : imap.example.org: not obtained yet",
			"self-signed  serves  and everybody else",
		}},
		"neither": {InForce{}, nil},
	} {
		if diff := cmp.Diff(c.want, summary(c.in)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestRenewOrdersACertificate(t *testing.T) {
	f := newFake(t)
	acme := &fakeACME{infos: []tlsconf.ACMEInfo{{Name: "imap.example.org", Leaf: leaf(t, "imap.example.org")}}}
	f.acme = acme
	if got := f.post(t, "/v1/certificates/IMAP.example.org/renew", `{"why":"compromised"}`); !strings.Contains(got, `"not_after": "2099-`) {
		t.Errorf("answered:\n%s", got)
	}
	if diff := cmp.Diff([]string{"imap.example.org"}, acme.renewed); diff != "" {
		t.Errorf("renewed (-want +got):\n%s", diff)
	}
	if lines := f.log.FilterMessage("operator").All(); len(lines) != 1 || lines[0].ContextMap()["why"] != "compromised" {
		t.Errorf("logged: %v", lines)
	}
	acme.err = tlsconf.ErrNoSuchCertificate
	if code, body := f.ask(http.MethodPost, "/v1/certificates/x.example.org/renew", "{}"); code != http.StatusNotFound || !strings.Contains(body, "x.example.org is not in tls.acme.domains") {
		t.Errorf("of a name that is not there: %d %s", code, body)
	}
	acme.err = errors.New("the CA sleeps")
	if code, body := f.ask(http.MethodPost, "/v1/certificates/imap.example.org/renew", "{}"); code != http.StatusBadGateway || !strings.Contains(body, "imap.example.org: the CA sleeps") {
		t.Errorf("while the CA is down: %d %s", code, body)
	}
}

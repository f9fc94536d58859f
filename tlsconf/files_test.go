package tlsconf_test

import (
	"crypto/tls"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"imapgate/proxy/proxytest"
	"imapgate/tlsconf"
)

// ask returns the host that the certificate for a client is issued for first.
func ask(t *testing.T, f *tlsconf.Files, hello tls.ClientHelloInfo) string {
	t.Helper()
	cert, err := f.GetCertificate(&hello)
	if err != nil {
		t.Fatal(err)
	}
	return cert.Leaf.DNSNames[0]
}

func modern(name string) tls.ClientHelloInfo {
	return tls.ClientHelloInfo{
		ServerName:        name,
		SupportedVersions: []uint16{tls.VersionTLS13},
		SignatureSchemes:  []tls.SignatureScheme{tls.PSSWithSHA256, tls.ECDSAWithP256AndSHA256},
	}
}

func TestCertificateIsChosenBySNI(t *testing.T) {
	ca, dir := proxytest.NewCA(t), t.TempDir()
	issue := func(file string, hosts ...string) tlsconf.Pair {
		return pair(t, dir, file, ca.Issue(t, proxytest.CertOptions{Hosts: hosts}))
	}
	f := files(
		t,
		issue("first", "first.example", "also.example"),
		issue("wildcard", "*.example.org"),
		issue("exact", "IMAP.example.org"),
	)
	for name, want := range map[string]string{
		"":                     "first.example",
		"first.example":        "first.example",
		"also.example":         "first.example",
		"imap.example.org":     "IMAP.example.org",
		"Imap.Example.ORG":     "IMAP.example.org",
		"mail.example.org":     "*.example.org",
		"MAIL.EXAMPLE.ORG":     "*.example.org",
		"a.mail.example.org":   "first.example",
		"example.org":          "first.example",
		"*.example.org":        "*.example.org",
		"unknown.example":      "first.example",
		"mail.example.org.bad": "first.example",
		".example.org":         "*.example.org",
	} {
		if got := ask(t, f, modern(name)); got != want {
			t.Errorf("SNI %q: got the certificate of %s, want %s", name, got, want)
		}
	}
}

func TestCertificateIsChosenByWhatTheClientSupports(t *testing.T) {
	ca, dir := proxytest.NewCA(t), t.TempDir()
	f := files(
		t,
		pair(t, dir, "ecdsa", ca.Issue(t, proxytest.CertOptions{Hosts: []string{"imap.example.org", "ecdsa.example.org"}})),
		pair(t, dir, "rsa", ca.Issue(t, proxytest.CertOptions{Hosts: []string{"*.example.org", "imap.example.org"}, RSA: true})),
		pair(t, dir, "other", ca.Issue(t, proxytest.CertOptions{Hosts: []string{"other.example"}})),
	)
	config, err := tlsconf.Server(tlsconf.ServerOptions{Certificates: f.GetCertificate})
	if err != nil {
		t.Fatal(err)
	}
	ecdsa := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
	rsa := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256}
	tests := map[string]struct {
		name   string
		suites []uint16 // of a client that has TLS 1.2 only
		want   string   // key type, or the host
	}{
		"both kinds, the first":            {"imap.example.org", append(rsa, ecdsa...), "ECDSA"},
		"ECDSA alone":                      {"imap.example.org", ecdsa, "ECDSA"},
		"RSA alone":                        {"imap.example.org", rsa, "RSA"},
		"RSA alone, only the wildcard has": {"ecdsa.example.org", rsa, "RSA"},
		"RSA alone, no name":               {"", rsa, "RSA"},
		"RSA alone, unknown name":          {"unknown.example", rsa, "RSA"},
		"no name":                          {"", append(rsa, ecdsa...), "ECDSA"},
		"none that the client supports":    {"other.example", rsa, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := connect(t, &tls.Config{
				ServerName:         test.name,
				CipherSuites:       test.suites,
				MaxVersion:         tls.VersionTLS12,
				InsecureSkipVerify: true,
			}, config)
			if test.want == "" {
				if o.ok() {
					t.Fatal("the handshake succeeded")
				}
				return
			}
			if !o.ok() {
				t.Fatal(o.clientErr, o.serverErr)
			}
			if got := o.client.PeerCertificates[0].PublicKeyAlgorithm.String(); got != test.want {
				t.Errorf("got a certificate with a key of type %s, want %s", got, test.want)
			}
		})
	}
}

func TestCommonNameCountsWithoutAlternativeNames(t *testing.T) {
	ca, dir := proxytest.NewCA(t), t.TempDir()
	f := files(
		t,
		pair(t, dir, "first", ca.Issue(t, proxytest.CertOptions{})),
		pair(t, dir, "old", ca.Issue(t, proxytest.CertOptions{Client: true, CommonNames: []string{"old.example.org"}})),
	)
	hello := modern("old.example.org")
	cert, err := f.GetCertificate(&hello)
	if err != nil {
		t.Fatal(err)
	}
	if got := cert.Leaf.Subject.CommonName; got != "old.example.org" {
		t.Errorf("got the certificate of %q", got)
	}
}

func TestInfoShowsWhatIsInUse(t *testing.T) {
	ca, dir := proxytest.NewCA(t), t.TempDir()
	start := time.Date(2001, time.March, 1, 0, 0, 0, 0, time.UTC)
	end := time.Date(2001, time.June, 1, 12, 30, 0, 0, time.UTC)
	p := pair(t, dir, "old", ca.Issue(t, proxytest.CertOptions{
		Hosts: []string{"Imap.example.org", "192.0.2.1", "2001:db8::1"}, RSA: true, NotBefore: start, NotAfter: end,
	}))
	// Expired: served nonetheless, since a client that ignores dates is
	// better off than one that meets no server at all.
	f := files(t, p)
	want := []tlsconf.Info{{
		Pair:      p,
		Names:     []string{"imap.example.org", "192.0.2.1", "2001:db8::1"},
		KeyType:   "RSA",
		NotBefore: start,
		NotAfter:  end,
	}}
	got := f.Info()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	for at, want := range map[time.Time]string{
		start:                   "",
		end:                     "",
		end.Add(time.Second):    "certificate " + p.Cert + ": expired on 2001-06-01 12:30 UTC",
		start.Add(-time.Second): "certificate " + p.Cert + ": not valid before 2001-03-01 00:00 UTC",
	} {
		if got := got[0].Warning(at); got != want {
			t.Errorf("at %s: got %q, want %q", at, got, want)
		}
	}
}

func TestReloadReplacesEachPairAsAWhole(t *testing.T) {
	ca, dir := proxytest.NewCA(t), t.TempDir()
	issue := func(file, host string) tlsconf.Pair {
		return pair(t, dir, file, ca.Issue(t, proxytest.CertOptions{Hosts: []string{host}}))
	}
	a, b := issue("a", "a1.example"), issue("b", "b1.example")
	f := files(t, a, b)

	// The certificate of a is new, its key is not yet; b is new.
	key := read(t, a.Key)
	issue("a", "a2.example")
	newKey := read(t, a.Key)
	write(t, a.Key, key)
	issue("b", "b2.example")

	err := f.Reload()
	want := "key " + a.Key + ": does not belong to certificate " + a.Cert + "; the one loaded before stays in use"
	if err == nil || err.Error() != want {
		t.Errorf("got error %v, want %s", err, want)
	}
	for name, want := range map[string]string{
		"a1.example": "a1.example",
		"a2.example": "a1.example", // not taken: the default
		"b1.example": "a1.example", // gone: the default
		"b2.example": "b2.example",
	} {
		if got := ask(t, f, modern(name)); got != want {
			t.Errorf("SNI %s: got the certificate of %s, want %s", name, got, want)
		}
	}
	if info := f.Info(); info[0].Problem == nil || info[1].Problem != nil {
		t.Errorf("got problems %v and %v, want one for the first pair alone", info[0].Problem, info[1].Problem)
	}

	write(t, a.Key, newKey)
	if err := f.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, f, modern("")); got != "a2.example" {
		t.Errorf("after the key has come: got the certificate of %s", got)
	}
	if p := f.Info()[0].Problem; p != nil {
		t.Errorf("after the key has come: %v", p)
	}
}

func TestExpiredCertificateIsServedOnlyWhereNoOtherWouldDo(t *testing.T) {
	ca, dir := proxytest.NewCA(t), t.TempDir()
	past, future := time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	issue := func(file string, o proxytest.CertOptions) tlsconf.Pair { return pair(t, dir, file, ca.Issue(t, o)) }
	f := files(
		t,
		issue("expired", proxytest.CertOptions{Hosts: []string{"first.example", "a.example"}, NotAfter: past}),
		issue("early", proxytest.CertOptions{Hosts: []string{"second.example", "a.example"}, NotBefore: future}),
		issue("good", proxytest.CertOptions{Hosts: []string{"third.example", "a.example"}}),
		issue("wildcard", proxytest.CertOptions{Hosts: []string{"*.wild.example"}}),
		issue("exact", proxytest.CertOptions{Hosts: []string{"imap.wild.example"}, NotAfter: past}),
	)
	for name, want := range map[string]string{
		"a.example":         "third.example",
		"":                  "third.example", // it shares a name with the first
		"first.example":     "first.example", // of which there is no other
		"second.example":    "second.example",
		"imap.wild.example": "*.wild.example",
	} {
		if got := ask(t, f, modern(name)); got != want {
			t.Errorf("SNI %q: got the certificate of %s, want %s", name, got, want)
		}
	}
}

func TestExpiredCertificateDoesNotReplaceAValidOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ca, dir := proxytest.NewCA(t), t.TempDir()
		hour := func(n int) time.Time { return time.Now().Add(time.Duration(n) * time.Hour) }
		renew := func(host string, from, until time.Time) tlsconf.Pair {
			return pair(t, dir, "c", ca.Issue(t, proxytest.CertOptions{Hosts: []string{host}, NotBefore: from, NotAfter: until}))
		}
		p := renew("one.example", hour(-1), hour(10))
		f := files(t, p)
		for _, step := range []struct {
			host        string // of the new certificate
			from, until time.Time
			serve       string
			problem     string
		}{
			{"expired.example", hour(-2), hour(-1), "one.example", "certificate " + p.Cert + ": expired on 1999-12-31 23:00 UTC; the one loaded before stays in use"},
			{"early.example", hour(5), hour(50), "one.example", "certificate " + p.Cert + ": not valid before 2000-01-01 05:00 UTC; the one loaded before stays in use"},
			{"two.example", hour(-1), hour(1), "two.example", ""},
		} {
			renew(step.host, step.from, step.until)
			problem := ""
			if err := f.Reload(); err != nil {
				problem = err.Error()
			}
			if got := ask(t, f, modern("")); got != step.serve || problem != step.problem {
				t.Errorf("%s: got the certificate of %s and %q, want %s and %q", step.host, got, problem, step.serve, step.problem)
			}
			info := f.Info()[0]
			if (info.Problem != nil) != (step.problem != "") || info.Problem != nil && info.Problem.Error() != step.problem {
				t.Errorf("%s: the problem that is shown is %v", step.host, info.Problem)
			}
		}

		// Nor after a reload of all, with another certificate that is good.
		expired := renew("expired.example", hour(-2), hour(-1))
		other := pair(t, dir, "other", ca.Issue(t, proxytest.CertOptions{Hosts: []string{"other.example"}}))
		whole := files(t, other, expired)
		whole.Inherit(f)
		if got := ask(t, whole, modern("two.example")); got != "two.example" {
			t.Errorf("after a reload of all: got the certificate of %s", got)
		}
		if info := whole.Info(); info[0].Problem != nil || info[1].Problem == nil {
			t.Errorf("after a reload of all: the problems are %v and %v", info[0].Problem, info[1].Problem)
		}

		// Once the old one has expired as well, the files decide again.
		renew("early.example", hour(5), hour(50))
		<-time.After(2 * time.Hour)
		if err := f.Reload(); err != nil || ask(t, f, modern("")) != "early.example" {
			t.Errorf("got the certificate of %s, %v", ask(t, f, modern("")), err)
		}
	})
}

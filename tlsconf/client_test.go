package tlsconf_test

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"imapgate/proxy/proxytest"
	"imapgate/tlsconf"
)

func TestBackendIsVerified(t *testing.T) {
	ca, foreign := proxytest.NewCA(t), proxytest.NewCA(t)
	caFile, foreignFile := ca.WritePEM(t, t.TempDir()), foreign.WritePEM(t, t.TempDir())
	hosts := []string{"mail1.example", "192.0.2.1"}
	good := ca.Issue(t, proxytest.CertOptions{Hosts: hosts})
	expired := ca.Issue(t, proxytest.CertOptions{Hosts: hosts, NotAfter: time.Date(2001, time.January, 1, 0, 0, 0, 0, time.UTC)})
	forClients := ca.Issue(t, proxytest.CertOptions{Client: true, Hosts: hosts})
	pin, otherPin := tlsconf.Pin(good.Leaf), tlsconf.Pin(expired.Leaf)

	tests := map[string]struct {
		client tlsconf.ClientOptions
		cert   tls.Certificate
		ok     bool
	}{
		"CA":                           {tlsconf.ClientOptions{ServerName: "mail1.example", CAFile: caFile}, good, true},
		"CA, name in capitals":         {tlsconf.ClientOptions{ServerName: "MAIL1.EXAMPLE", CAFile: caFile}, good, true},
		"CA, address":                  {tlsconf.ClientOptions{ServerName: "192.0.2.1", CAFile: caFile}, good, true},
		"CA, another name":             {tlsconf.ClientOptions{ServerName: "mail2.example", CAFile: caFile}, good, false},
		"CA, another address":          {tlsconf.ClientOptions{ServerName: "192.0.2.2", CAFile: caFile}, good, false},
		"CA, another":                  {tlsconf.ClientOptions{ServerName: "mail1.example", CAFile: foreignFile}, good, false},
		"CA, expired":                  {tlsconf.ClientOptions{ServerName: "mail1.example", CAFile: caFile}, expired, false},
		"CA, certificate for clients":  {tlsconf.ClientOptions{ServerName: "mail1.example", CAFile: caFile}, forClients, false},
		"system's CAs":                 {tlsconf.ClientOptions{ServerName: "mail1.example"}, good, false},
		"pin":                          {tlsconf.ClientOptions{ServerName: "mail1.example", Pins: []string{pin}}, good, true},
		"pin, no name":                 {tlsconf.ClientOptions{Pins: []string{pin}}, good, true},
		"pin, another name":            {tlsconf.ClientOptions{ServerName: "mail2.example", Pins: []string{pin}}, good, true},
		"pin, expired":                 {tlsconf.ClientOptions{ServerName: "mail1.example", Pins: []string{otherPin}}, expired, true},
		"pin, another key":             {tlsconf.ClientOptions{ServerName: "mail1.example", Pins: []string{otherPin}}, good, false},
		"pins, one of them":            {tlsconf.ClientOptions{ServerName: "mail1.example", Pins: []string{otherPin, pin}}, good, true},
		"pin and CA":                   {tlsconf.ClientOptions{ServerName: "mail1.example", CAFile: caFile, Pins: []string{pin}}, good, true},
		"pin and CA, another key":      {tlsconf.ClientOptions{ServerName: "mail1.example", CAFile: caFile, Pins: []string{otherPin}}, good, false},
		"pin and CA, another CA":       {tlsconf.ClientOptions{ServerName: "mail1.example", CAFile: foreignFile, Pins: []string{pin}}, good, false},
		"pin and CA, another name":     {tlsconf.ClientOptions{ServerName: "mail2.example", CAFile: caFile, Pins: []string{pin}}, good, false},
		"pin and CA, expired":          {tlsconf.ClientOptions{ServerName: "mail1.example", CAFile: caFile, Pins: []string{otherPin}}, expired, false},
		"no verification":              {tlsconf.ClientOptions{VerifyNone: true}, expired, true},
		"no verification, with a name": {tlsconf.ClientOptions{ServerName: "mail2.example", VerifyNone: true}, good, true},
	}
	for name, test := range tests {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+", "+tls.VersionName(version), func(t *testing.T) {
				b := backend(test.cert)
				b.MaxVersion = version
				o := connect(t, client(t, test.client), b)
				switch {
				case test.ok && !o.ok():
					t.Errorf("client: %v, server: %v", o.clientErr, o.serverErr)
				case !test.ok && !tlsconf.IsVerificationError(o.clientErr):
					t.Errorf("got %v, want a verification error", o.clientErr)
				}
			})
		}
	}
}

func TestErrorTellsThePinThatWouldHaveMatched(t *testing.T) {
	ca := proxytest.NewCA(t)
	cert := ca.Issue(t, proxytest.CertOptions{})
	o := connect(t, client(t, tlsconf.ClientOptions{Pins: []string{strings.Repeat("0", 64)}}), backend(cert))
	if o.clientErr == nil || !strings.Contains(o.clientErr.Error(), tlsconf.Pin(cert.Leaf)) {
		t.Errorf("got %v, want the pin %s in it", o.clientErr, tlsconf.Pin(cert.Leaf))
	}
}

func TestSessionsWithBackendsAreResumed(t *testing.T) {
	ca := proxytest.NewCA(t)
	cert := ca.Issue(t, proxytest.CertOptions{})
	for name, o := range map[string]tlsconf.ClientOptions{
		"CA":              {ServerName: "localhost", CAFile: ca.WritePEM(t, t.TempDir())},
		"pin":             {Pins: []string{tlsconf.Pin(cert.Leaf)}},
		"no verification": {VerifyNone: true},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+", "+tls.VersionName(version), func(t *testing.T) {
				c, b := client(t, o), backend(cert)
				b.MaxVersion = version
				for i := range 3 {
					o := connect(t, c, b)
					if !o.ok() || o.client.DidResume != (i > 0) {
						t.Errorf("connection %d: resumed is %v (%v)", i, o.client.DidResume, o.clientErr)
					}
				}
			})
		}
	}
}

func TestResumedSessionDoesNotBypassThePin(t *testing.T) {
	ca := proxytest.NewCA(t)
	caFile := ca.WritePEM(t, t.TempDir())
	cert := ca.Issue(t, proxytest.CertOptions{})
	wrong := []string{strings.Repeat("0", 64)}
	for name, test := range map[string]struct{ before, pinned tlsconf.ClientOptions }{
		"pin alone":  {tlsconf.ClientOptions{ServerName: "localhost", VerifyNone: true}, tlsconf.ClientOptions{ServerName: "localhost", Pins: wrong}},
		"pin and CA": {tlsconf.ClientOptions{ServerName: "localhost", CAFile: caFile}, tlsconf.ClientOptions{ServerName: "localhost", CAFile: caFile, Pins: wrong}},
	} {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(name+", "+tls.VersionName(version), func(t *testing.T) {
				b := backend(cert)
				b.MaxVersion = version
				before, pinned := client(t, test.before), client(t, test.pinned)
				// Each has a cache of its own; the worst case is one for both.
				pinned.ClientSessionCache = before.ClientSessionCache
				for range 2 {
					if o := connect(t, before, b); !o.ok() {
						t.Fatal(o.clientErr, o.serverErr)
					}
				}
				resumed := false
				verify := pinned.VerifyConnection
				pinned.VerifyConnection = func(cs tls.ConnectionState) error {
					resumed = cs.DidResume
					return verify(cs)
				}
				o := connect(t, pinned, b)
				if !resumed {
					t.Error("the session was not resumed, so that nothing was tested")
				}
				if !tlsconf.IsVerificationError(o.clientErr) {
					t.Errorf("got %v, want a verification error", o.clientErr)
				}
			})
		}
	}
}

func TestClientOffersIMAPAndTakesBackendsWithoutALPN(t *testing.T) {
	ca := proxytest.NewCA(t)
	cert := ca.Issue(t, proxytest.CertOptions{})
	c := client(t, tlsconf.ClientOptions{ServerName: "localhost", CAFile: ca.WritePEM(t, t.TempDir())})
	for want, protos := range map[string][]string{"": nil, "imap": {"imap"}} {
		b := backend(cert)
		b.NextProtos = protos
		if o := connect(t, c, b); !o.ok() || o.client.NegotiatedProtocol != want {
			t.Errorf("negotiated %q (%v), want %q", o.client.NegotiatedProtocol, o.clientErr, want)
		}
	}
}

func TestClientCertificateIsPresented(t *testing.T) {
	ca, dir := proxytest.NewCA(t), t.TempDir()
	p := pair(t, dir, "client", ca.Issue(t, proxytest.CertOptions{Client: true, CommonNames: []string{"imapgate"}}))
	c := client(t, tlsconf.ClientOptions{ServerName: "localhost", CAFile: ca.WritePEM(t, dir), CertFile: p.Cert, KeyFile: p.Key})
	s := server(t, ca.Issue(t, proxytest.CertOptions{}), tlsconf.ServerOptions{
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: ca.Pool(),
	})
	o := connect(t, c, s)
	if !o.ok() || o.server.PeerCertificates[0].Subject.CommonName != "imapgate" {
		t.Errorf("client: %v, server: %v", o.clientErr, o.serverErr)
	}
}

func TestOtherFailuresAreNoVerificationErrors(t *testing.T) {
	ca := proxytest.NewCA(t)
	c := client(t, tlsconf.ClientOptions{ServerName: "localhost", CAFile: ca.WritePEM(t, t.TempDir())})

	other := backend(ca.Issue(t, proxytest.CertOptions{}))
	other.NextProtos = []string{"pop3"}
	old := backend(ca.Issue(t, proxytest.CertOptions{}))
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	for name, b := range map[string]*tls.Config{"another protocol": other, "old version": old, "no certificate": {}} {
		if o := connect(t, c, b); o.clientErr == nil || tlsconf.IsVerificationError(o.clientErr) {
			t.Errorf("%s: got %v", name, o.clientErr)
		}
	}
	for name, greeting := range map[string]string{"closed": "", "not TLS": "* OK IMAP server ready.\r\n"} {
		near, far := proxytest.Pipe(proxytest.PipeOptions{})
		if _, err := io.WriteString(far, greeting); err != nil {
			t.Fatal(err)
		}
		far.Close()
		if err := tls.Client(near, c).HandshakeContext(t.Context()); err == nil || tlsconf.IsVerificationError(err) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	if tlsconf.IsVerificationError(nil) || !tlsconf.IsVerificationError(fmt.Errorf("dial: %w", &tls.CertificateVerificationError{Err: errors.New("x")})) {
		t.Error("a wrapped error is not told from none")
	}
}

func TestContradictoryClientOptionsAreRefused(t *testing.T) {
	ca, dir := proxytest.NewCA(t), t.TempDir()
	caFile := ca.WritePEM(t, dir)
	cert := ca.Issue(t, proxytest.CertOptions{})
	p := pair(t, dir, "c", cert)
	pin := tlsconf.Pin(cert.Leaf)
	for name, o := range map[string]tlsconf.ClientOptions{
		"nothing":               {},
		"CA without a name":     {CAFile: caFile},
		"both without a name":   {CAFile: caFile, Pins: []string{pin}},
		"no verification, CA":   {VerifyNone: true, CAFile: caFile},
		"no verification, pin":  {VerifyNone: true, Pins: []string{pin}},
		"CA that is not there":  {ServerName: "localhost", CAFile: dir + "/none.pem"},
		"CA that is a key":      {ServerName: "localhost", CAFile: p.Key},
		"certificate, no key":   {ServerName: "localhost", CertFile: p.Cert},
		"key, no certificate":   {ServerName: "localhost", KeyFile: p.Key},
		"empty pin":             {Pins: []string{""}},
		"pin of another length": {Pins: []string{pin[:len(pin)-4]}},
		"pin of another hash":   {Pins: []string{"sha1/AAAAAAAAAAAAAAAAAAAAAAAAAAA="}},
		"short hex":             {Pins: []string{strings.Repeat("0", 62)}},
		"good and bad pin":      {Pins: []string{pin, "x"}},
	} {
		if _, err := tlsconf.Client(o); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestPinsAreReadInAllTheirForms(t *testing.T) {
	ca := proxytest.NewCA(t)
	cert := ca.Issue(t, proxytest.CertOptions{})
	sum := sha256.Sum256(cert.Leaf.RawSubjectPublicKeyInfo)
	var colons []string
	for _, b := range sum {
		colons = append(colons, fmt.Sprintf("%02X", b))
	}
	for _, pin := range []string{
		tlsconf.Pin(cert.Leaf),
		strings.Replace(tlsconf.Pin(cert.Leaf), "sha256/", "sha256//", 1),
		hex.EncodeToString(sum[:]),
		strings.Join(colons, ":"),
	} {
		if o := connect(t, client(t, tlsconf.ClientOptions{Pins: []string{pin}}), backend(cert)); !o.ok() {
			t.Errorf("%s: %v", pin, o.clientErr)
		}
	}
}

package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"imapgate/proxy/proxytest"
)

// tlsPlant is a plant with a port for STARTTLS as well, and what a client needs to
// trust it.
type tlsPlant struct {
	*plant
	ca       *proxytest.CA
	startTLS string
}

// newTLSPlant has certificates with ECDSA and RSA keys for localhost, and one for
// another name.
func newTLSPlant(t *testing.T) *tlsPlant {
	t.Helper()
	p := &tlsPlant{plant: newPlant(t), ca: proxytest.NewCA(t), startTLS: proxytest.FreeAddress(t)}
	proxytest.WritePair(t, p.dir, "cert", p.ca.Issue(t, proxytest.CertOptions{}))
	proxytest.WritePair(t, p.dir, "rsa", p.ca.Issue(t, proxytest.CertOptions{RSA: true}))
	proxytest.WritePair(t, p.dir, "other", p.ca.Issue(t, proxytest.CertOptions{Hosts: []string{"*.example.org"}}))
	p.writeConfig(t)
	return p
}

func (p *tlsPlant) writeConfig(t *testing.T) {
	t.Helper()
	p.plant.writeConfig(t)
	text, err := os.ReadFile(p.path())
	if err != nil {
		t.Fatal(err)
	}
	writeFiles(t, p.dir, map[string]string{"imapgate.yaml": strings.NewReplacer(
		"listen:\n", fmt.Sprintf("listen:\n  - {address: %q, tls: starttls}\n", p.startTLS),
		"key: cert.key}", "key: cert.key}, {cert: rsa.pem, key: rsa.key}, {cert: other.pem, key: other.key}",
	).Replace(string(text))})
}

// connectTLS opens a connection, to the port for STARTTLS if asked for, as far as
// the point where a client may log in.
func connectTLS(t *testing.T, address string, startTLS bool, conf *tls.Config) (*client, tls.ConnectionState, error) {
	t.Helper()
	nc, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { nc.Close() })
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if startTLS {
		c := &client{Conn: nc, in: bufio.NewReader(nc)}
		c.expect(t, "* OK ")
		if reply := c.do(t, "STARTTLS"); !strings.HasPrefix(reply, "t OK") {
			t.Fatal(reply)
		}
	}
	tc := tls.Client(nc, conf)
	if err := tc.Handshake(); err != nil {
		return nil, tls.ConnectionState{}, err
	}
	c := &client{Conn: tc, in: bufio.NewReader(tc)}
	if !startTLS {
		c.expect(t, "* OK ")
	}
	return c, tc.ConnectionState(), nil
}

// verified lets a client connect without a name, or with one that no certificate
// has, and nonetheless verify that it is ours.
func verified(pool *x509.CertPool) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		_, err := cs.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: pool})
		return err
	}
}

func TestLoginsWithEveryKindOfTLS(t *testing.T) {
	p := newTLSPlant(t)
	p.serving(t)
	rsa := []uint16{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256}
	ecdsa := []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256}
	for name, test := range map[string]struct {
		conf  *tls.Config
		alpn  string
		cert  string // first name and key; "": refused
		names bool   // the certificate is for another name than was asked for
	}{
		"ALPN imap":                 {&tls.Config{NextProtos: []string{"imap"}}, "imap", "localhost ECDSA", false},
		"ALPN imap among others":    {&tls.Config{NextProtos: []string{"http/1.1", "imap"}}, "imap", "localhost ECDSA", false},
		"no ALPN":                   {&tls.Config{}, "", "localhost ECDSA", false},
		"ALPN http/1.1":             {&tls.Config{NextProtos: []string{"http/1.1"}}, "", "", false},
		"no SNI":                    {&tls.Config{ServerName: "127.0.0.1"}, "", "localhost ECDSA", false},
		"unknown SNI":               {&tls.Config{ServerName: "unknown.example"}, "", "localhost ECDSA", true},
		"SNI of a wildcard":         {&tls.Config{ServerName: "imap.example.org"}, "", "*.example.org ECDSA", false},
		"TLS 1.2, ECDSA and RSA":    {&tls.Config{MaxVersion: tls.VersionTLS12}, "", "localhost ECDSA", false},
		"TLS 1.2, ECDSA alone":      {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: ecdsa}, "", "localhost ECDSA", false},
		"TLS 1.2, RSA alone":        {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: rsa}, "", "localhost RSA", false},
		"TLS 1.2, RSA, no SNI":      {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: rsa, ServerName: "127.0.0.1"}, "", "localhost RSA", false},
		"TLS 1.2, RSA, unknown SNI": {&tls.Config{MaxVersion: tls.VersionTLS12, CipherSuites: rsa, ServerName: "unknown.example"}, "", "localhost RSA", true},
		"TLS 1.3":                   {&tls.Config{MinVersion: tls.VersionTLS13}, "", "localhost ECDSA", false},
		"TLS 1.1":                   {&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}, "", "", false},
	} {
		for _, startTLS := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, STARTTLS %v", name, startTLS), func(t *testing.T) {
				address := p.listen[0]
				if startTLS {
					address = p.startTLS
				}
				conf := test.conf.Clone()
				conf.RootCAs = p.ca.Pool()
				if conf.ServerName == "" {
					conf.ServerName = "localhost"
				}
				if test.names {
					conf.InsecureSkipVerify = true
					conf.VerifyConnection = verified(conf.RootCAs)
				}
				c, state, err := connectTLS(t, address, startTLS, conf)
				if test.cert == "" {
					if err == nil {
						t.Fatal("the handshake succeeded")
					}
					return
				}
				if err != nil {
					t.Fatal(err)
				}
				leaf := state.PeerCertificates[0]
				if got := leaf.DNSNames[0] + " " + leaf.PublicKeyAlgorithm.String(); got != test.cert || state.NegotiatedProtocol != test.alpn {
					t.Errorf("got the certificate %s and ALPN %q, want %s and %q", got, state.NegotiatedProtocol, test.cert, test.alpn)
				}
				if reply := c.do(t, "LOGIN alice@example.org "+demoPassword); !strings.HasPrefix(reply, "t OK") {
					t.Fatal(reply)
				}
				if reply := c.do(t, "SELECT INBOX"); !strings.HasPrefix(reply, "t OK") {
					t.Error(reply)
				}
			})
		}
	}
}

func TestOldClientsLogInWithTheCompatibleProfile(t *testing.T) {
	p := newTLSPlant(t)
	p.tls = ", profile: compatible"
	p.writeConfig(t)
	proc := startProcess(t, "serve", "-c", p.path())
	proc.waitLine(t, "listening")
	proc.waitLine(t, "listening")
	old := &tls.Config{RootCAs: p.ca.Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS10}
	c, _, err := connectTLS(t, p.listen[0], false, old)
	if err != nil {
		t.Fatal(err)
	}
	if reply := c.do(t, "LOGIN alice@example.org "+demoPassword); !strings.HasPrefix(reply, "t OK") {
		t.Error(reply)
	}
	for !proc.logged("clients may use TLS 1.0 and 1.1 (tls.profile: compatible)") {
		proc.waitLine(t, "insecure setting")
	}
}

package proxy_test

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"io"
	"strings"
	"testing"
	"testing/synctest"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// proxyV2 reads a PROXY header of version 2.
func proxyV2(r io.Reader) (string, error) {
	head := make([]byte, 16)
	if _, err := io.ReadFull(r, head); err != nil {
		return "", err
	}
	rest := make([]byte, binary.BigEndian.Uint16(head[14:]))
	_, err := io.ReadFull(r, rest)
	return string(head) + string(rest), err
}

// TestServerNameThatIsPassedOn connects with names that TLS carries and no host has.
// A backend is not told of those, neither in the PROXY header nor in ID: they would
// end up in its log, and fill a header of 64 KiB. See RFC 6066, Section 3.
func TestServerNameThatIsPassedOn(t *testing.T) {
	t.Parallel()
	ca := proxytest.NewCA(t)
	cert := ca.Issue(t, proxytest.CertOptions{})
	for _, tc := range []struct {
		name, sni string
		passed    bool
	}{
		{"a name", "mail.example.org", true},
		{"the longest", strings.Repeat("a", 255), true},
		{"too long", strings.Repeat("a", 256), false},
		{"far too long", strings.Repeat("abcdefgh", 2000), false},
		{"with a control character", "mail\x01.example.org", false},
		{"with a line end", "mail\r\nx OK", false},
		{"8-bit", "m\xe4il.example.org", false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				cfg := oneBackend(t)
				cfg.Backends["mail1"].ProxyProtocol = 2
				type told struct{ header, id string }
				logins := make(chan told, 1)
				g := newGate(t, cfg, proxy.Listener{
					TLS:       proxy.TLSImplicit,
					TLSConfig: &tls.Config{NextProtos: []string{"imap"}, Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12},
				}, &proxytest.Backend{Serve: func(b *proxytest.BackendConn) {
					header, err := proxyV2(b.Raw)
					if err != nil {
						return
					}
					_ = b.Say("* OK [CAPABILITY IMAP4rev1 SASL-IR ID AUTH=PLAIN] Hello.")
					in := bufio.NewReader(b.Raw)
					if line, err := in.ReadString('\n'); err == nil && strings.Contains(line, " ID ") {
						logins <- told{header, line}
					}
				}})
				c := g.connect(t)
				// The name is none of the certificate's.
				c.startTLS(&tls.Config{ServerName: tc.sni, InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
				c.line()
				c.send("a1 LOGIN alice secret\r\n")
				got := <-logins
				if strings.Contains(got.header, tc.sni) != tc.passed || strings.Contains(got.id, tc.sni) != tc.passed {
					t.Errorf("passed on: %v in PROXY, %v in ID; want %v", strings.Contains(got.header, tc.sni), strings.Contains(got.id, tc.sni), tc.passed)
				}
				if strings.Contains(got.id, "x-connected-name") != tc.passed || len(got.header) > 600 {
					t.Errorf("the backend is told, in a header of %d octets: %s", len(got.header), got.id)
				}
			})
		})
	}
}

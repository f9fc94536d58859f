package main_test

import (
	"bufio"
	"crypto/tls"
	"testing"

	"imapgate/tlsconf"
)

// TestDovecotResumesTLSSessions connects to a real Dovecot as the proxy does: what the
// first connection was given with the greeting resumes every later one, also those that
// are open at the same time. Its login processes have to live longer than one connection:
// the key of its tickets is each process's own.
func TestDovecotResumesTLSSessions(t *testing.T) {
	t.Parallel()
	ca := newRealCA(t, "test")
	d := startRealDovecot(t, realDovecotConfig{
		CA: ca, Accounts: []realAccount{{Name: "a@example.org", Password: "secret"}},
		Extra: "service imap-login {\n  service_count = 0\n  process_limit = 1\n}\n",
	})
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		conf, err := tlsconf.Client(tlsconf.ClientOptions{ServerName: "localhost", CAFile: ca.File})
		if err != nil {
			t.Fatal(err)
		}
		conf.MaxVersion = version
		for i := range 4 {
			nc, err := (&tls.Dialer{Config: conf}).DialContext(t.Context(), "tcp", d.IMAPS)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = nc.Close() })
			if _, err := bufio.NewReader(nc).ReadString('\n'); err != nil {
				t.Fatal(err)
			}
			tc, ok := nc.(*tls.Conn)
			if !ok {
				t.Fatalf("%T is no TLS connection", nc)
			}
			if s := tc.ConnectionState(); s.DidResume != (i > 0) || s.Version != version {
				t.Errorf("connection %d with %s: resumed is %t", i, tls.VersionName(s.Version), s.DidResume)
			}
		}
	}
}

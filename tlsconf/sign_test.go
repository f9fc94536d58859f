package tlsconf_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"slices"
	"testing"

	"imapgate/proxy/proxytest"
	"imapgate/tlsconf"
	"imapgate/tlsconf/acmetest"
)

// checkSignature signs twice with a certificate's key, as a handshake does.
func checkSignature(t *testing.T, cert *tls.Certificate) {
	t.Helper()
	key, ok := cert.PrivateKey.(crypto.Signer)
	if !ok {
		t.Fatalf("a %T signs nothing", cert.PrivateKey)
	}
	digest := sha256.Sum256([]byte("a handshake"))
	var signatures [2][]byte
	for i := range signatures {
		var err error
		if signatures[i], err = key.Sign(rand.Reader, digest[:], crypto.SHA256); err != nil {
			t.Fatal(err)
		}
	}
	public, ok := cert.Leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok || !ecdsa.VerifyASN1(public, digest[:], signatures[0]) {
		t.Error("the signature is not one of the certificate's key")
	}
	if !slices.Equal(signatures[0], signatures[1]) {
		t.Error("the same was signed in two ways")
	}
}

func TestECDSASignaturesAreDeterministic(t *testing.T) {
	s := newSite(t, tlsconf.ChallengeHTTP, acmetest.Options{})
	s.o.Domains = []string{"imap.example.org"}
	of := proxytest.NewCA(t).Issue(t, proxytest.CertOptions{Hosts: []string{"file.example.org"}})
	choice := tlsconf.Choice{ACME: s.start(t), Files: files(t, pair(t, t.TempDir(), "file", of))}
	s.obtained(t, "imap.example.org")
	for _, name := range []string{"file.example.org", "imap.example.org"} {
		t.Run(name, func(t *testing.T) {
			hello := modern(name)
			cert, err := choice.GetCertificate(&hello)
			if err != nil || cert.Leaf.VerifyHostname(name) != nil {
				t.Fatalf("%v, not a certificate for it: %v", cert, err)
			}
			checkSignature(t, cert)
		})
	}
}

package tlsconf_test

import (
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imapgate/proxy/proxytest"
	"imapgate/tlsconf"
)

func read(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := put(name, data); err != nil {
		t.Fatal(err)
	}
}

func put(name string, data []byte) error { return os.WriteFile(name, data, 0o600) }

func encode(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func TestErrorsNameTheFileAndSayWhatIsWrong(t *testing.T) {
	ca := proxytest.NewCA(t)
	cert := ca.Issue(t, proxytest.CertOptions{})
	other := ca.Issue(t, proxytest.CertOptions{})
	certPEM := encode("CERTIFICATE", cert.Certificate[0])
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	x25519DER, err := x509.MarshalPKCS8PrivateKey(x25519)
	if err != nil {
		t.Fatal(err)
	}

	// Each case gets a good pair c.pem and c.key, and spoils it.
	tests := map[string]struct {
		spoil func(dir string, p *tlsconf.Pair) error
		want  []string // lines, $c and $k standing for the names of the files
	}{
		"no certificate file": {
			func(dir string, p *tlsconf.Pair) error { return os.Remove(p.Cert) },
			[]string{"certificate $c: no such file"},
		},
		"no files at all": {
			func(dir string, p *tlsconf.Pair) error { return errors.Join(os.Remove(p.Cert), os.Remove(p.Key)) },
			[]string{"certificate $c: no such file", "key $k: no such file"},
		},
		"link to nothing": {
			func(dir string, p *tlsconf.Pair) error {
				return errors.Join(os.Remove(p.Key), os.Symlink("../archive/privkey3.pem", p.Key))
			},
			[]string{"key $k: is a link to ../archive/privkey3.pem, which does not exist"},
		},
		"directory": {
			func(dir string, p *tlsconf.Pair) error { p.Cert = dir; return nil },
			[]string{"certificate $c: is a directory, not a file"},
		},
		"device": {
			func(_ string, p *tlsconf.Pair) error { p.Key = os.DevNull; return nil },
			[]string{"key $k: is not a regular file"},
		},
		"file in place of a directory": {
			func(_ string, p *tlsconf.Pair) error { p.Key = p.Cert + "/key"; return nil },
			[]string{"key $k: not a directory"},
		},
		"no key configured": {
			func(_ string, p *tlsconf.Pair) error { p.Key = ""; return nil },
			[]string{"certificate $c: no key file is configured for it"},
		},
		"no certificate configured": {
			func(_ string, p *tlsconf.Pair) error { p.Cert = ""; return nil },
			[]string{"certificate file: no name is configured"},
		},
		"empty": {
			func(_ string, p *tlsconf.Pair) error { return put(p.Cert, nil) },
			[]string{"certificate $c: is empty"},
		},
		"endless": {
			func(_ string, p *tlsconf.Pair) error { return put(p.Cert, make([]byte, 5<<20)) },
			[]string{"certificate $c: is larger than 4194304 bytes"},
		},
		"no PEM": {
			func(_ string, p *tlsconf.Pair) error { return put(p.Cert, []byte("<html>")) },
			[]string{"certificate $c: holds no PEM block (-----BEGIN …)"},
		},
		"DER": {
			func(_ string, p *tlsconf.Pair) error { return put(p.Cert, cert.Certificate[0]) },
			[]string{"certificate $c: holds no PEM block; it looks like DER, which `openssl` converts"},
		},
		"swapped": {
			func(_ string, p *tlsconf.Pair) error { p.Cert, p.Key = p.Key, p.Cert; return nil },
			[]string{
				"certificate $c: holds no certificate but PRIVATE KEY; are the files swapped?",
				"key $k: holds no private key but CERTIFICATE; are the files swapped?",
			},
		},
		"damaged certificate": {
			func(_ string, p *tlsconf.Pair) error {
				return put(p.Cert, append(certPEM, encode("CERTIFICATE", cert.Certificate[0][:100])...))
			},
			[]string{"certificate $c: certificate 2 of the file does not parse: x509: malformed certificate"},
		},
		"chain that is half written": {
			func(_ string, p *tlsconf.Pair) error {
				return put(p.Cert, append(certPEM, certPEM[:len(certPEM)/2]...))
			},
			[]string{"certificate $c: holds a PEM block that is cut off or damaged; is it still being written?"},
		},
		"damaged key": {
			func(_ string, p *tlsconf.Pair) error { return put(p.Key, encode("PRIVATE KEY", []byte{0x30, 3})) },
			[]string{"key $k: does not parse: asn1: syntax error: data truncated"},
		},
		"key without PEM": {
			func(_ string, p *tlsconf.Pair) error { return put(p.Key, []byte("secret")) },
			[]string{"key $k: holds no PEM block (-----BEGIN …)"},
		},
		"key of no use": {
			func(_ string, p *tlsconf.Pair) error { return put(p.Key, encode("PRIVATE KEY", x25519DER)) },
			[]string{"key $k: does not parse: a key of type *ecdh.PrivateKey is of no use in TLS"},
		},
		"encrypted key": {
			func(_ string, p *tlsconf.Pair) error {
				return put(p.Key, encode("ENCRYPTED PRIVATE KEY", []byte{0x30, 0}))
			},
			[]string{"key $k: is encrypted with a passphrase, which nobody could enter; store it without one"},
		},
		"encrypted key of old": {
			func(_ string, p *tlsconf.Pair) error {
				return put(p.Key, pem.EncodeToMemory(&pem.Block{
					Type:    "RSA PRIVATE KEY",
					Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-128-CBC,00"},
				}))
			},
			[]string{"key $k: is encrypted with a passphrase, which nobody could enter; store it without one"},
		},
		"another's key": {
			func(dir string, p *tlsconf.Pair) error {
				_, p.Key = proxytest.WritePair(t, dir, "other", other)
				return nil
			},
			[]string{"key $k: does not belong to certificate $c"},
		},
		"intermediate first": {
			func(_ string, p *tlsconf.Pair) error {
				return put(p.Cert, append(encode("CERTIFICATE", ca.Certificate.Raw), certPEM...))
			},
			[]string{"certificate $c: the certificate of key $k is number 2 of the file; it must come first, then its intermediates"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			p := pair(t, dir, "c", cert)
			if err := test.spoil(dir, &p); err != nil {
				t.Fatal(err)
			}
			_, err := tlsconf.NewFiles([]tlsconf.Pair{p})
			want := strings.NewReplacer("$c", p.Cert, "$k", p.Key).Replace(strings.Join(test.want, "\n"))
			if err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

func TestNoCertificateIsAnError(t *testing.T) {
	if _, err := tlsconf.NewFiles(nil); err == nil {
		t.Error("no pairs at all were accepted")
	}
}

func TestMissingFileCanBeTold(t *testing.T) {
	_, err := tlsconf.CAPool(filepath.Join(t.TempDir(), "ca.pem"))
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want one that is fs.ErrNotExist", err)
	}
}

func TestPermissionDeniedIsExplained(t *testing.T) {
	got := tlsconf.Explain("key.pem", &fs.PathError{Op: "open", Path: "key.pem", Err: fs.ErrPermission})
	if !strings.HasPrefix(got, "permission denied: the user that imapgate runs as (uid ") {
		t.Errorf("got %q", got)
	}
}

func TestKeysOfAllKindsAndEncodingsAreRead(t *testing.T) {
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sec1, err := x509.MarshalECPrivateKey(ecKey)
	if err != nil {
		t.Fatal(err)
	}
	ca := proxytest.NewCA(t)
	for name, test := range map[string]struct {
		cert tls.Certificate
		key  []byte // instead of PKCS #8
	}{
		"ECDSA, PKCS #8":   {cert: ca.IssueFor(t, proxytest.CertOptions{}, ecKey)},
		"ECDSA, SEC 1":     {cert: ca.IssueFor(t, proxytest.CertOptions{}, ecKey), key: encode("EC PRIVATE KEY", sec1)},
		"RSA, PKCS #8":     {cert: ca.IssueFor(t, proxytest.CertOptions{}, rsaKey)},
		"RSA, PKCS #1":     {cert: ca.IssueFor(t, proxytest.CertOptions{}, rsaKey), key: encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(rsaKey))},
		"Ed25519, PKCS #8": {cert: ca.IssueFor(t, proxytest.CertOptions{}, edKey)},
		"after EC PARAMETERS": {
			cert: ca.IssueFor(t, proxytest.CertOptions{}, ecKey),
			key:  append(encode("EC PARAMETERS", []byte{6, 0}), encode("EC PRIVATE KEY", sec1)...),
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := pair(t, t.TempDir(), "c", test.cert)
			if test.key != nil {
				write(t, p.Key, test.key)
			}
			config, err := tlsconf.Server(tlsconf.ServerOptions{Certificates: files(t, p).GetCertificate})
			if err != nil {
				t.Fatal(err)
			}
			if o := connect(t, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}, config); !o.ok() {
				t.Error(o.clientErr, o.serverErr)
			}
		})
	}
}

func TestChainIsSent(t *testing.T) {
	ca := proxytest.NewCA(t)
	cert := ca.Issue(t, proxytest.CertOptions{})
	cert.Certificate = append(cert.Certificate, ca.Certificate.Raw)
	config, err := tlsconf.Server(tlsconf.ServerOptions{
		Certificates: files(t, pair(t, t.TempDir(), "chain", cert)).GetCertificate,
	})
	if err != nil {
		t.Fatal(err)
	}
	o := connect(t, &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost"}, config)
	if !o.ok() || len(o.client.PeerCertificates) != 2 {
		t.Errorf("client got %d certificates (%v), want 2", len(o.client.PeerCertificates), o.clientErr)
	}
}

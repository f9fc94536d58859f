//go:build testssl

package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// finding is one line of what testssl.sh says.
type finding struct {
	ID       string `json:"id"`
	Severity string `json:"severity"`
	Finding  string `json:"finding"`
}

// TestScannersFindNothingAboveLow lets testssl.sh look at both ports, with
// certificates as a public authority issues them: for 90 days, with a place for
// revocations. That the authority is a private one is told to it; no finding is
// left out but those about testssl.sh itself. It runs with `make test-tls`.
func TestScannersFindNothingAboveLow(t *testing.T) {
	scanner, err := exec.LookPath("testssl")
	if err != nil {
		t.Fatal("testssl.sh is not installed: run `make test-tls`, which installs what the test needs where it can")
	}
	p := newTLSPlant(t)
	authority := publicLikePair(t, p.dir)
	p.serving(t)
	for name, args := range map[string][]string{
		"implicit": {"localhost:" + port(p.listen[0])},
		"STARTTLS": {"--starttls", "imap", "localhost:" + port(p.startTLS)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "findings.json")
			args = append([]string{
				"--quiet", "--warnings", "batch", "--color", "0", "--nodns", "none", "--ip", "127.0.0.1", "--openssl-timeout", "20",
				"--add-ca", authority, "--jsonfile", out,
			}, args...)
			// It exits with the number of findings, and with 242 and above when it fails.
			said, err := exec.CommandContext(t.Context(), scanner, args...).CombinedOutput()
			if exit := new(exec.ExitError); err != nil && (!errors.As(err, &exit) || exit.ExitCode() >= 242) {
				t.Fatalf("%v\n%s", err, said)
			}
			text, err := os.ReadFile(out)
			if err != nil {
				t.Fatalf("%v\n%s", err, said)
			}
			var found []finding
			if err := json.Unmarshal(text, &found); err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			judge(t, found, string(said))
		})
	}
}

// judge fails the test for every finding above LOW, and when testssl.sh has not
// looked at what it should.
func judge(t *testing.T, found []finding, said string) {
	t.Helper()
	has := func(id, text string) bool {
		return slices.ContainsFunc(found, func(f finding) bool { return f.ID == id && strings.Contains(f.Finding, text) })
	}
	for id, text := range map[string]string{
		"TLS1_2": "offered", "TLS1_3": "offered", "TLS1": "not offered", "TLS1_1": "not offered", "SSLv3": "not offered",
		"heartbleed": "not vulnerable", "LUCKY13": "not vulnerable",
		"cert_chain_of_trust <cert#1>": "passed", "cert_chain_of_trust <cert#2>": "passed",
	} {
		if !has(id, text) {
			t.Errorf("testssl.sh does not say %q of %s", text, id)
		}
	}
	for _, f := range found {
		switch f.Severity {
		case "OK", "INFO", "DEBUG":
		case "LOW":
			t.Logf("LOW %s: %s", f.ID, f.Finding)
		case "WARN": // what testssl.sh itself could not do
			t.Logf("not tested: %s: %s", f.ID, f.Finding)
		default:
			t.Errorf("%s %s: %s", f.Severity, f.ID, f.Finding)
		}
	}
	if t.Failed() {
		t.Log(said)
	}
}

// publicLikePair writes the certificates of the plant, ECDSA and RSA, as a public
// authority would issue them, and returns the authority's file.
func publicLikePair(t *testing.T, dir string) (authority string) {
	t.Helper()
	root := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "imapgate test authority", Organization: []string{"imapgate"}, Country: []string{"XX"}},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(5 * 365 * 24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	rootKey, err := rsa.GenerateKey(rand.Reader, 3072)
	if err != nil {
		t.Fatal(err)
	}
	write := func(name, kind string, der []byte) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	sign := func(template *x509.Certificate, public crypto.PublicKey) []byte {
		der, err := x509.CreateCertificate(rand.Reader, template, root, public, rootKey)
		if err != nil {
			t.Fatal(err)
		}
		return der
	}
	authority = write("public-like.pem", "CERTIFICATE", sign(root, rootKey.Public()))
	ecdsaKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	for name, key := range map[string]crypto.Signer{"cert": ecdsaKey, "rsa": rsaKey} {
		serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
		if err != nil {
			t.Fatal(err)
		}
		write(name+".pem", "CERTIFICATE", sign(&x509.Certificate{
			SerialNumber: serial, Subject: pkix.Name{CommonName: "localhost"}, DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(90*24*time.Hour - time.Hour),
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
			CRLDistributionPoints: []string{"http://crl.example.org/authority.crl"},
		}, key.Public()))
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".key", "PRIVATE KEY", der)
	}
	return authority
}

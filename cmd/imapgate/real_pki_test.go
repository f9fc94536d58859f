package main_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// realCA is a certificate authority that lives as long as one test.
type realCA struct {
	File string // PEM, for programs
	Pool *x509.CertPool

	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newRealCA(t *testing.T, name string) *realCA {
	t.Helper()
	dir := t.TempDir()
	ca := &realCA{
		File: filepath.Join(dir, name+"-ca.pem"),
		Pool: x509.NewCertPool(),
		dir:  dir,
		cert: &x509.Certificate{
			Subject:               pkix.Name{CommonName: name},
			NotBefore:             time.Now().Add(-time.Hour),
			NotAfter:              time.Now().Add(24 * time.Hour),
			KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
			BasicConstraintsValid: true,
			IsCA:                  true,
			SerialNumber:          big.NewInt(1),
		},
	}
	ca.key = newRealKey(t)
	der, err := x509.CreateCertificate(rand.Reader, ca.cert, ca.cert, ca.key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	ca.Pool.AddCert(ca.cert)
	writeRealPEM(t, ca.File, "CERTIFICATE", der)
	return ca
}

// realPair is a certificate and its key as files.
type realPair struct{ Cert, Key string }

// Load returns the pair for crypto/tls.
func (p realPair) Load(t *testing.T) tls.Certificate {
	t.Helper()
	cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// Server issues a certificate for localhost and the loopback addresses.
func (ca *realCA) Server(t *testing.T, file string) realPair {
	t.Helper()
	return ca.issue(t, file, &x509.Certificate{
		Subject:     pkix.Name{CommonName: "localhost"},
		DNSNames:    []string{"localhost"},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
}

// Client issues a certificate that names its owner by mail address.
func (ca *realCA) Client(t *testing.T, file, email string) realPair {
	t.Helper()
	return ca.issue(t, file, &x509.Certificate{
		Subject:        pkix.Name{CommonName: file},
		EmailAddresses: []string{email},
		ExtKeyUsage:    []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
}

func (ca *realCA) issue(t *testing.T, file string, template *x509.Certificate) realPair {
	t.Helper()
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template.SerialNumber = serial
	template.NotBefore = ca.cert.NotBefore
	template.NotAfter = ca.cert.NotAfter
	template.KeyUsage = x509.KeyUsageDigitalSignature
	key := newRealKey(t)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, key.Public(), ca.key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	pair := realPair{Cert: filepath.Join(ca.dir, file+".pem"), Key: filepath.Join(ca.dir, file+"-key.pem")}
	writeRealPEM(t, pair.Cert, "CERTIFICATE", der)
	writeRealPEM(t, pair.Key, "PRIVATE KEY", keyDER)
	return pair
}

func newRealKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func writeRealPEM(t *testing.T, file, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

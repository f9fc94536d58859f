package proxytest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// CA is a certificate authority that lives as long as a test. What it issues is
// valid from 1999 to 2099, so that it is in the virtual time of testing/synctest
// too, which begins in 2000.
type CA struct {
	Certificate *x509.Certificate

	key crypto.Signer
}

// CertOptions says what a certificate is for. The zero value is a server
// certificate for localhost, 127.0.0.1 and ::1 with an ECDSA key.
type CertOptions struct {
	Hosts       []string // DNS names and addresses
	CommonNames []string
	Emails      []string // rfc822Name alternative names
	UPNs        []string // User Principal Name alternative names
	Client      bool     // for clients instead of servers; no default hosts then
	RSA         bool     // RSA key instead of ECDSA

	NotBefore, NotAfter time.Time // 1999 and 2099
}

// NewCA returns a new authority.
func NewCA(tb testing.TB) *CA {
	tb.Helper()
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "imapgate test CA"},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign,
	}
	setValidity(tb, template, CertOptions{})
	key := newKey(tb, false)
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		tb.Fatal(err)
	}
	return &CA{Certificate: parseCertificate(tb, der), key: key}
}

// Issue returns a new certificate with its key and its Leaf set.
func (ca *CA) Issue(tb testing.TB, o CertOptions) tls.Certificate {
	tb.Helper()
	return ca.IssueFor(tb, o, newKey(tb, o.RSA))
}

// IssueFor returns a new certificate for a key; o.RSA is not looked at.
func (ca *CA) IssueFor(tb testing.TB, o CertOptions, key crypto.Signer) tls.Certificate {
	tb.Helper()
	if len(o.Hosts) == 0 && !o.Client {
		o.Hosts = []string{"localhost", "127.0.0.1", "::1"}
	}
	template := &x509.Certificate{
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	if o.Client {
		template.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}
	}
	for _, name := range o.CommonNames {
		template.Subject.ExtraNames = append(template.Subject.ExtraNames,
			pkix.AttributeTypeAndValue{Type: asn1.ObjectIdentifier{2, 5, 4, 3}, Value: name})
	}
	if names := alternativeNames(tb, o); names != nil {
		template.ExtraExtensions = []pkix.Extension{{
			Id:       asn1.ObjectIdentifier{2, 5, 29, 17},
			Critical: len(o.CommonNames) == 0,
			Value:    names,
		}}
	}
	setValidity(tb, template, o)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.Certificate, key.Public(), ca.key)
	if err != nil {
		tb.Fatal(err)
	}
	return tls.Certificate{
		Certificate: [][]byte{der},
		PrivateKey:  key,
		Leaf:        parseCertificate(tb, der),
	}
}

// Pool returns a pool that holds this authority alone.
func (ca *CA) Pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(ca.Certificate)
	return pool
}

// WritePEM writes the authority's certificate to a file in dir and returns its
// name.
func (ca *CA) WritePEM(tb testing.TB, dir string) string {
	tb.Helper()
	file := filepath.Join(dir, "ca.pem")
	writeFile(tb, file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: ca.Certificate.Raw}))
	return file
}

// WritePair writes a certificate and its key to name.pem and name.key in dir
// and returns the names of the files.
func WritePair(tb testing.TB, dir, name string, cert tls.Certificate) (certFile, keyFile string) {
	tb.Helper()
	var chain []byte
	for _, der := range cert.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		tb.Fatal(err)
	}
	certFile = filepath.Join(dir, name+".pem")
	keyFile = filepath.Join(dir, name+".key")
	writeFile(tb, certFile, chain)
	writeFile(tb, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	return certFile, keyFile
}

func writeFile(tb testing.TB, name string, data []byte) {
	tb.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		tb.Fatal(err)
	}
}

func setValidity(tb testing.TB, c *x509.Certificate, o CertOptions) {
	tb.Helper()
	c.NotBefore, c.NotAfter = o.NotBefore, o.NotAfter
	if c.NotBefore.IsZero() {
		c.NotBefore = time.Date(1999, time.January, 1, 0, 0, 0, 0, time.UTC)
	}
	if c.NotAfter.IsZero() {
		c.NotAfter = time.Date(2099, time.January, 1, 0, 0, 0, 0, time.UTC)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		tb.Fatal(err)
	}
	c.SerialNumber = serial
}

func newKey(tb testing.TB, wantRSA bool) crypto.Signer {
	tb.Helper()
	if wantRSA {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			tb.Fatal(err)
		}
		return key
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	return key
}

func parseCertificate(tb testing.TB, der []byte) *x509.Certificate {
	tb.Helper()
	c, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

// alternativeNames encodes the extension itself, since crypto/x509 writes no
// otherName. See RFC 5280, Section 4.2.1.6.
func alternativeNames(tb testing.TB, o CertOptions) []byte {
	tb.Helper()
	const (
		tagOther = 0
		tagEmail = 1
		tagDNS   = 2
		tagIP    = 7
	)
	var names []asn1.RawValue
	add := func(tag int, compound bool, b []byte) {
		names = append(names, asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: compound, Bytes: b})
	}
	for _, upn := range o.UPNs {
		der, err := asn1.Marshal(struct {
			Type  asn1.ObjectIdentifier
			Value string `asn1:"explicit,tag:0,utf8"`
		}{asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 20, 2, 3}, upn})
		if err != nil {
			tb.Fatal(err)
		}
		var sequence asn1.RawValue
		if _, err := asn1.Unmarshal(der, &sequence); err != nil {
			tb.Fatal(err)
		}
		add(tagOther, true, sequence.Bytes) // the tag is implicit: it replaces that of the sequence
	}
	for _, email := range o.Emails {
		add(tagEmail, false, []byte(email))
	}
	for _, host := range o.Hosts {
		ip := net.ParseIP(host)
		switch ip4 := ip.To4(); {
		case ip == nil:
			add(tagDNS, false, []byte(host))
		case ip4 != nil:
			add(tagIP, false, ip4)
		default:
			add(tagIP, false, ip)
		}
	}
	if len(names) == 0 {
		return nil
	}
	der, err := asn1.Marshal(names)
	if err != nil {
		tb.Fatal(err)
	}
	return der
}

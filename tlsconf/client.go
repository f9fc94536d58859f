package tlsconf

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ClientOptions says how connections to a backend do TLS and what makes the
// backend's certificate good:
//
//	neither CAFile nor Pins   an authority that the system trusts, for ServerName
//	CAFile                    an authority of that file, for ServerName
//	Pins                      the key is pinned, whoever signed it, for whatever name and time
//	CAFile and Pins           both
//	VerifyNone                anything: whoever is on the path reads passwords
type ClientOptions struct {
	// ServerName is the name that the certificate must be for, and that SNI
	// asks for. It may be an IP address, which SNI cannot carry. It may be
	// empty with VerifyNone or with Pins and no CAFile only.
	ServerName string

	// CAFile holds the authorities, in PEM; the system's are not used then.
	CAFile string

	// Pins are SHA-256 hashes of public keys, of which the certificate's must
	// be one: "sha256/" and base64 (see RFC 7469, Section 2.4), or 64 hex digits. See [Pin].
	Pins []string

	// VerifyNone turns verification off. CAFile and Pins must be empty then.
	VerifyNone bool

	// CertFile and KeyFile hold the client certificate to present, if any.
	CertFile, KeyFile string
}

// sessions is how many TLS sessions are kept to be resumed: the last one for each
// name, or without a name for each address, that one backend has.
const sessions = 8

// Client returns the configuration for connections to one backend: TLS 1.2 or
// newer, ALPN "imap", X25519MLKEM768 where the backend has it, resumption of
// sessions. A resumed session has passed, and
// passes again, the same verification.
func Client(o ClientOptions) (*tls.Config, error) {
	pins, err := parsePins(o.Pins)
	if err != nil {
		return nil, err
	}
	pinsAlone := len(pins) > 0 && o.CAFile == ""
	switch {
	case o.VerifyNone && (o.CAFile != "" || len(pins) > 0):
		return nil, errors.New("no verification was asked for together with a CA or a pin: which is it?")
	case o.ServerName == "" && !o.VerifyNone && !pinsAlone:
		return nil, errors.New("verifying a certificate needs the server's name")
	}
	c := &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{protocol},
		ServerName: o.ServerName,
		// One cache for each configuration, never a shared one: what was
		// verified for one backend says nothing about another.
		ClientSessionCache: tls.NewLRUClientSessionCache(sessions),
		InsecureSkipVerify: o.VerifyNone || pinsAlone, //nolint:gosec // asked for in so many words, or replaced by the pin
	}
	if len(pins) > 0 {
		// Not VerifyPeerCertificate, which a resumed session passes by.
		c.VerifyConnection = func(cs tls.ConnectionState) error { return pins.verify(cs.PeerCertificates) }
	}
	if o.CAFile != "" {
		if c.RootCAs, err = CAPool(o.CAFile); err != nil {
			return nil, err
		}
	}
	if o.CertFile != "" || o.KeyFile != "" {
		l, err := loadPair(Pair{Cert: o.CertFile, Key: o.KeyFile})
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{*l.cert}
	}
	return c, nil
}

// IsVerificationError reports whether err is a handshake that ended because the
// certificate of the other side was not good enough: signed by nobody we know,
// for another name, expired, or with a key that is not pinned. It is false for
// broken connections, and for whatever else goes wrong in a handshake.
func IsVerificationError(err error) bool {
	_, ok := errors.AsType[*tls.CertificateVerificationError](err)
	return ok
}

// pinSet is the keys that a backend may have, as SHA-256 of the DER encoded
// SubjectPublicKeyInfo.
type pinSet [][sha256.Size]byte

const pinPrefix = "sha256/"

func parsePins(texts []string) (pinSet, error) {
	var pins pinSet
	for _, text := range texts {
		pin, err := parsePin(text)
		if err != nil {
			return nil, err
		}
		pins = append(pins, pin)
	}
	return pins, nil
}

func parsePin(text string) (pin [sha256.Size]byte, err error) {
	var b []byte
	if s, ok := strings.CutPrefix(text, pinPrefix); ok {
		// curl writes two slashes; one more character than base64 of a hash
		// has tells them from a hash that begins with one.
		if len(s) == base64.StdEncoding.EncodedLen(len(pin))+1 {
			s = strings.TrimPrefix(s, "/")
		}
		b, err = base64.StdEncoding.Strict().DecodeString(s)
	} else {
		b, err = hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	}
	if err != nil || len(b) != len(pin) {
		return pin, fmt.Errorf(`pin %q: neither "sha256/" and the base64 nor the hex of a SHA-256 hash`, text)
	}
	return [sha256.Size]byte(b), nil
}

func (pins pinSet) verify(certs []*x509.Certificate) error {
	if len(certs) == 0 {
		return &tls.CertificateVerificationError{Err: errors.New("server sent no certificate")}
	}
	if slices.Contains(pins, sha256.Sum256(certs[0].RawSubjectPublicKeyInfo)) {
		return nil
	}
	return &tls.CertificateVerificationError{
		UnverifiedCertificates: certs,
		Err:                    fmt.Errorf("server's key is %s, which is not pinned", Pin(certs[0])),
	}
}

// Pin returns the pin of a certificate's key, as [ClientOptions] takes it.
func Pin(cert *x509.Certificate) string {
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return pinPrefix + base64.StdEncoding.EncodeToString(sum[:])
}

package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
)

// protocol is what ALPN calls IMAP. Naming it keeps a session that was meant
// for another service of the same name away from here (CVE-2021-3618).
const protocol = "imap"

// ServerOptions says how a listener does TLS.
type ServerOptions struct {
	// Certificates chooses the certificate of a handshake; see
	// [Files.GetCertificate]. It is required.
	Certificates func(*tls.ClientHelloInfo) (*tls.Certificate, error)

	// ACME has handshakes with ChallengeProtocol made, which Certificates answers;
	// see [Choice.GetCertificate].
	ACME bool

	// MinVersion is tls.VersionTLS12 or tls.VersionTLS13; 0 means TLS 1.2.
	MinVersion uint16

	// Compatible lets clients in that have nothing newer than TLS 1.0 or 1.1. It
	// is for listeners without client certificates, and does not go with a
	// MinVersion of TLS 1.3.
	Compatible bool

	// ClientAuth is tls.NoClientCert, tls.VerifyClientCertIfGiven (request) or
	// tls.RequireAndVerifyClientCert (require). The types that take a
	// certificate without verifying it are refused.
	ClientAuth tls.ClientAuthType

	// ClientCAs are the authorities of client certificates, required unless
	// ClientAuth is tls.NoClientCert.
	ClientCAs *x509.CertPool
}

// Server returns the configuration of a listener: TLS 1.2 or newer, forward
// secrecy and authenticated encryption only (see RFC 9325, Section 4.2), key
// exchange that withstands quantum computers where the client has it
// (X25519MLKEM768), no OCSP stapling, ALPN "imap". A client that names other
// protocols only is refused, one that names none is not. See RFC 7301, Section
// 3.2.
//
// Sessions are resumed with tickets, except where client certificates are asked
// for: there each connection shows its certificate, which is verified.
func Server(o ServerOptions) (*tls.Config, error) {
	if o.Certificates == nil {
		return nil, errors.New("a TLS listener needs a certificate")
	}
	if o.MinVersion == 0 {
		o.MinVersion = tls.VersionTLS12
	}
	if o.MinVersion != tls.VersionTLS12 && o.MinVersion != tls.VersionTLS13 {
		return nil, fmt.Errorf("minimum TLS version %s: must be 1.2 or 1.3", tls.VersionName(o.MinVersion))
	}
	if o.Compatible && (o.MinVersion != tls.VersionTLS12 || o.ClientAuth != tls.NoClientCert) {
		return nil, errors.New("old clients go neither with TLS 1.3 as the minimum nor with client certificates")
	}
	c := &tls.Config{
		GetCertificate: o.Certificates,
		MinVersion:     o.MinVersion,
		NextProtos:     []string{protocol},
		// Those of crypto/tls but the ones with CBC. TLS 1.3 has its own.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
			tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256,
		},
	}
	if o.ACME {
		c.NextProtos = append(c.NextProtos, ChallengeProtocol)
	}
	if o.Compatible {
		c.GetConfigForClient = oldClients(o)
	}
	switch o.ClientAuth {
	case tls.NoClientCert:
		return c, nil
	case tls.VerifyClientCertIfGiven, tls.RequireAndVerifyClientCert:
	case tls.RequestClientCert, tls.RequireAnyClientCert:
		return nil, fmt.Errorf("client certificates must be verified: %v does not", o.ClientAuth)
	default:
		return nil, fmt.Errorf("client authentication %v is unknown", o.ClientAuth)
	}
	if o.ClientCAs == nil {
		return nil, errors.New("verifying client certificates needs a CA")
	}
	c.ClientAuth = o.ClientAuth
	c.ClientCAs = o.ClientCAs
	// A ticket carries the identity of an earlier handshake past the
	// verification of this one (CVE-2025-68121).
	c.SessionTicketsDisabled = true
	c.VerifyConnection = verifyClient(o)
	return c, nil
}

// oldClients gives clients without TLS 1.2 a configuration of their own: TLS 1.0
// and 1.1 have no authenticated encryption, so it is AES in CBC mode there, and
// there alone. Key exchange has forward secrecy nonetheless. No session is resumed,
// so that no secret of theirs reaches the other configuration.
//
// Deviation: RFC 8996 and RFC 9325, Section 3.1.1, forbid both versions. An operator
// has to ask for them, and is warned.
func oldClients(o ServerOptions) func(*tls.ClientHelloInfo) (*tls.Config, error) {
	old := &tls.Config{
		GetCertificate: o.Certificates,
		MinVersion:     tls.VersionTLS10,
		MaxVersion:     tls.VersionTLS11,
		NextProtos:     []string{protocol},
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA, //nolint:gosec // there is nothing better
			tls.TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA,
			tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA,
		},
		SessionTicketsDisabled: true,
	}
	return func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		if slices.ContainsFunc(hello.SupportedVersions, func(v uint16) bool { return v >= tls.VersionTLS12 }) {
			return nil, nil //nolint:nilnil // the usual one
		}
		return old, nil
	}
}

// verifyClient looks at the client's certificate again once the handshake is
// all but complete, whichever way it got there.
func verifyClient(o ServerOptions) func(tls.ConnectionState) error {
	return func(cs tls.ConnectionState) error {
		certs := cs.PeerCertificates
		if len(certs) == 0 {
			if o.ClientAuth == tls.RequireAndVerifyClientCert {
				return errors.New("client sent no certificate")
			}
			return nil
		}
		unverified := func(err error) error {
			return &tls.CertificateVerificationError{UnverifiedCertificates: certs, Err: err}
		}
		if len(cs.VerifiedChains) == 0 {
			return unverified(errors.New("client certificate has no verified chain"))
		}
		intermediates := x509.NewCertPool()
		for _, c := range certs[1:] {
			intermediates.AddCert(c)
		}
		if _, err := certs[0].Verify(x509.VerifyOptions{
			Roots:         o.ClientCAs,
			Intermediates: intermediates,
			KeyUsages:     []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		}); err != nil {
			return unverified(err)
		}
		return nil
	}
}

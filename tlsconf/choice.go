package tlsconf

import (
	"crypto/tls"
	"errors"
	"strings"
	"time"

	"github.com/caddyserver/certmagic"
)

// Choice is where the certificates of handshakes come from. Either may be nil.
type Choice struct {
	Files *Files
	ACME  *ACME
}

var errNoCertificate = errors.New("no certificate is configured")

// GetCertificate chooses the certificate for a handshake, as
// [tls.Config.GetCertificate] wants it. For the name that the client asks for, files
// come before what a CA has issued, and that before what may be obtained on demand.
// A client that asks for no name, or for one that there is nothing for, gets the
// first file, else the first of ACMEOptions.Domains. While there is nothing at all, it
// is a self-signed certificate.
//
// A CA that looks whether a name is ours gets what it wants to see. Whoever serves
// the connection must end it then: it has negotiated ChallengeProtocol.
func (c Choice) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if isChallenge(hello) && c.ACME != nil {
		return c.ACME.challengeCertificate(hello)
	}
	name := strings.ToLower(strings.TrimSuffix(hello.ServerName, "."))
	switch {
	case c.ACME == nil && c.Files == nil:
		return nil, errNoCertificate
	case c.ACME == nil, c.Files != nil && c.Files.has(name):
		return c.Files.GetCertificate(hello)
	}
	if cert := c.ACME.match(name); cert != nil {
		return cert, nil
	}
	demanded, err := c.ACME.demand(hello.Conn, name)
	if err != nil {
		return nil, err
	}
	if cert := c.ACME.match(name); demanded && cert != nil {
		return cert, nil
	}
	if c.Files != nil {
		return c.Files.GetCertificate(hello)
	}
	return c.ACME.fallback(), nil
}

// has says whether a pair is for a name.
func (f *Files) has(name string) bool {
	s := f.current.Load()
	return len(s.exact[name])+len(s.wildcard[parentDomain(name)]) > 0
}

// match returns the certificate for a name, nil when there is none: the newest that
// has not expired.
func (a *ACME) match(name string) *tls.Certificate {
	if name == "" {
		return nil
	}
	found := a.cache.AllMatchingCertificates(name)
	best, now := -1, time.Now()
	for i := range found {
		if best < 0 || better(&found[i], &found[best], now) {
			best = i
		}
	}
	if best < 0 {
		return nil
	}
	cert := &found[best].Certificate // of a copy
	cert.PrivateKey = forHandshakes(cert.PrivateKey)
	return cert
}

func better(c, than *certmagic.Certificate, now time.Time) bool {
	valid, thanValid := now.Before(c.Leaf.NotAfter), now.Before(than.Leaf.NotAfter)
	return valid && !thanValid || valid == thanValid && c.Leaf.NotBefore.After(than.Leaf.NotBefore)
}

// fallback returns what is served where nothing is for the name, or there is none.
func (a *ACME) fallback() *tls.Certificate {
	for _, name := range a.o.Domains {
		if cert := a.match(name); cert != nil {
			return cert
		}
	}
	return a.selfSigned
}

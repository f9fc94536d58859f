package tlsconf

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"os"
	"strings"

	"github.com/mholt/acmez/v3/acme"
)

// acmeError is what is wrong and what to do, in one line.
type acmeError struct {
	text string
	err  error
}

func (e *acmeError) Error() string { return e.text }
func (e *acmeError) Unwrap() error { return e.err }

// explain words the error of an order for a name, for whoever has to mend it. nil
// stays nil.
func (a *ACME) explain(name string, err error) error {
	var deaf *deafError
	var known *acmeError
	if err == nil || errors.As(err, &deaf) || errors.As(err, &known) {
		return err
	}
	what, todo := a.diagnose(name, err)
	if todo != "" {
		what += ": " + todo
	}
	return &acmeError{oneLine(what), err}
}

// maxText bounds what a CA says of a problem.
const maxText = 500

// oneLine makes text from outside fit for a log and a terminal.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f }), " ")
	if len(s) > 2*maxText {
		s = s[:2*maxText]
	}
	return strings.ToValidUTF8(s, "?")
}

// diagnose says what happened, and what to do about it.
func (a *ACME) diagnose(name string, err error) (what, todo string) {
	if problem, ok := errors.AsType[acme.Problem](err); ok {
		return a.diagnoseProblem(name, problem)
	}
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err.Error(), fmt.Sprintf("tls.acme.storage %s must be writable for the user that imapgate runs as (uid %d)", a.o.Storage, os.Getuid())
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "the certificate of the CA's directory " + a.o.Directory + " is not trusted", "set tls.acme.ca to the root certificate that vouches for it"
	}
	if request, ok := errors.AsType[*url.Error](err); ok {
		return fmt.Sprintf("the CA cannot be reached: %v", request), "it is tried again by itself; this host must be able to connect to " + a.o.Directory
	}
	if _, ok := errors.AsType[net.Error](err); ok || errors.Is(err, context.DeadlineExceeded) {
		return err.Error(), "it is tried again by itself"
	}
	if a.o.Challenge == ChallengeDNS {
		return err.Error(), "see tls.acme.dns: the server must take updates of the zone of " + name + ", signed with that key"
	}
	return err.Error(), "it is tried again by itself"
}

// diagnoseProblem does so for what a CA says. See RFC 8555, Section 6.7.
func (a *ACME) diagnoseProblem(name string, p acme.Problem) (what, todo string) {
	detail := p.Detail
	if len(detail) > maxText {
		detail = detail[:maxText]
	}
	kind := strings.TrimPrefix(p.Type, "urn:ietf:params:acme:error:")
	what = fmt.Sprintf("the CA says %s: %s", kind, detail)
	if _, ok := p.Resource.(acme.Authorization); ok {
		return what, a.diagnoseChallenge(name, kind)
	}
	switch p.Type {
	case acme.ProblemTypeExternalAccountRequired:
		return what, "get a key from the CA, and set tls.acme.eab"
	case acme.ProblemTypeUnauthorized, acme.ProblemTypeMalformed, acme.ProblemTypeBadPublicKey, acme.ProblemTypeUserActionRequired:
		if a.o.EAB != nil {
			return what, "the CA does not take the external account: compare tls.acme.eab.key_id and what is in tls.acme.eab.hmac_file with what the CA gave you"
		}
	case acme.ProblemTypeInvalidContact, acme.ProblemTypeUnsupportedContact:
		return what, "tls.acme.email must be an address that can get mail"
	case acme.ProblemTypeRateLimited:
		return what, "wait; it is tried again by itself"
	case acme.ProblemTypeCAA:
		return what, "a CAA record in DNS names the CAs that may issue for " + name + ", and this one is not among them"
	case acme.ProblemTypeRejectedIdentifier:
		return what, "this CA has no certificates for " + name + ": take it out of tls.acme.domains, or use another CA"
	}
	return what, ""
}

// diagnoseChallenge says what to do when a CA could not be shown that a name is
// ours.
func (a *ACME) diagnoseChallenge(name, kind string) string {
	switch "urn:ietf:params:acme:error:" + kind {
	case acme.ProblemTypeDNS:
		return name + " must have an address in DNS, that of this host"
	case acme.ProblemTypeCAA:
		return "a CAA record in DNS names the CAs that may issue for " + name + ", and this one is not among them"
	case acme.ProblemTypeRateLimited:
		return "wait; it is tried again by itself"
	}
	switch a.o.Challenge {
	case ChallengeHTTP:
		return "the CA asks http://" + name + "/.well-known/acme-challenge/ on port 80 of the address that the name has in DNS, whatever port IMAP is on. " +
			"That port must be reachable from the internet and lead to tls.acme.http_address (" + a.o.HTTPAddress + "), through a web server if need be; else use challenge dns-01"
	case ChallengeTLSALPN:
		return "the CA connects to port 443 of " + name + ", of the address that the name has in DNS, whatever port IMAP is on. " +
			"That port must be reachable from the internet and lead to tls.acme.tls_alpn_address (" + a.o.TLSALPNAddress + "); else use challenge http-01 or dns-01"
	case ChallengeDNS:
		return "the TXT record _acme-challenge." + strings.TrimPrefix(name, "*.") + " that tls.acme.dns makes must be seen from the internet"
	}
	return ""
}

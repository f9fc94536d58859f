package config

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"imapgate/tlsconf"
)

// ACME says which certificates are obtained, where and how.
type ACME struct {
	Pos            Pos
	Domains        []Value[string] `key:"domains" as:"subject" help:"The names that certificates are obtained for, each its own; *.example.org with challenge dns-01 only."`
	OnDemand       []Value[string] `key:"on_demand" as:"label" help:"Certificates that are obtained when a client first asks for them: for these labels in front of each domain that a table routes as a whole (imap: imap.example.org where there is a row @example.org; @: the domain itself)."`
	Email          Value[string]   `key:"email" as:"email" need:"true" help:"Who the CA writes to when something is wrong with a certificate. Giving it agrees to the CA's terms of service."`
	Directory      Value[string]   `key:"directory" as:"https" default:"https://acme-v02.api.letsencrypt.org/directory" help:"The CA's ACME directory."`
	CA             Value[string]   `key:"ca" as:"file" help:"The CAs, in PEM, that vouch for the directory; absent: those of the system."`
	EAB            *EAB            `key:"eab" help:"The account at the CA that certificates belong to, for CAs that want one."`
	Challenge      Value[string]   `key:"challenge" enum:"http-01 tls-alpn-01 dns-01" default:"http-01" help:"How the CA sees that the names are yours: it asks on port 80 of them, on port 443, or for a record in DNS."`
	HTTPAddress    Value[string]   `key:"http_address" as:"listen" default:":80" help:"Where http-01 is answered, and nothing else. Port 80 of the names must lead there, through a web server if need be."`
	TLSALPNAddress Value[string]   `key:"tls_alpn_address" as:"listen" default:":443" help:"Where tls-alpn-01 is answered, and nothing else. Port 443 of the names must lead there, or to a listener with tls: implicit."`
	DNS            *ACMEDNS        `key:"dns" help:"How the records of dns-01 are made."`
	Storage        Value[string]   `key:"storage" as:"file" help:"The directory of accounts, keys and certificates, which several proxies may share; absent: acme in state_dir."`
}

// EAB is an external account binding.
type EAB struct {
	Pos      Pos
	KeyID    Value[string] `key:"key_id" as:"text" need:"true" help:"The id of the key that the CA gave you."`
	HMACFile Value[string] `key:"hmac_file" as:"file" need:"true" help:"The file that holds the key, in base64, and nothing else."`
}

// ACMEDNS is where records are made.
type ACMEDNS struct {
	Pos          Pos
	Provider     Value[string]   `key:"provider" as:"name" need:"true" help:"What takes updates: rfc2136 (BIND, Knot, PowerDNS and others)."`
	Server       Value[string]   `key:"server" as:"server" help:"The host that updates are sent to, over TCP, and its port if that is not 53."`
	KeyName      Value[string]   `key:"key_name" as:"domain" help:"The name of the TSIG key that signs updates."`
	KeyAlgorithm Value[string]   `key:"key_algorithm" enum:"hmac-sha1 hmac-sha224 hmac-sha256 hmac-sha384 hmac-sha512" default:"hmac-sha256" help:"Its algorithm."`
	KeyFile      Value[string]   `key:"key_file" as:"file" help:"The file that holds the key, in base64, and nothing else."`
	Resolvers    []Value[string] `key:"resolvers" as:"server" help:"DNS servers that are asked for the zone, and whether a record has arrived; absent: those of the system, and then the zone's own."`
}

// ACMEOptions are those of tlsconf, but for what is of the running proxy.
type ACMEOptions struct {
	tlsconf.ACMEOptions

	// Labels are those of on_demand.
	Labels []string

	// Fingerprint changes with every setting, and with what secrets are.
	Fingerprint string
}

// acmeName is the name of the directory in the state directory.
const acmeName = "acme"

// checkACME looks at what certificates from a CA need.
func (p *Parsed) checkACME(encrypted bool) {
	a := p.TLS.ACME
	if a == nil {
		return
	}
	p.pointless(!encrypted && !p.w.failedUnder("listen"), a.Pos, "tls.acme", "without a listener that has TLS")
	if len(a.Domains) == 0 && len(a.OnDemand) == 0 && !p.w.failedUnder("tls.acme") {
		p.fail(a.Pos, "add domains: [NAME]", "tls.acme says nothing: there would be no certificate")
	}
	seen := make(map[string]bool)
	for _, d := range a.Domains {
		if seen[d.V] && d.V != "" {
			p.fail(d.Pos, "remove one of them", "domain %q comes twice in tls.acme.domains", d.V)
		}
		seen[d.V] = true
		if err := tlsconf.CheckDomain(d.V, tlsconf.Challenge(a.Challenge.V), a.Directory.V); err != nil && d.V != "" {
			p.fail(d.Pos, "", "tls.acme: %v", err)
		}
	}
	if len(a.OnDemand) > 0 && len(p.Route.Tables) == 0 {
		p.pointless(true, a.OnDemand[0].Pos, "tls.acme.on_demand", "without route.tables, which would hold the domains")
	}
	if !a.Storage.Given() && !p.StateDir.Given() {
		p.fail(a.Pos, "add state_dir, or storage: DIRECTORY", "tls.acme has nowhere to keep accounts and certificates")
	}
	p.checkChallenge(a)
}

// checkChallenge looks at the settings of the three challenges: those of the one
// that is chosen must do, and those of the others are mistakes.
func (p *Parsed) checkChallenge(a *ACME) {
	is := func(c tlsconf.Challenge) bool { return a.Challenge.V == string(c) }
	without := func(c tlsconf.Challenge) string { return "without challenge: " + string(c) }
	p.pointless(a.HTTPAddress.Given() && !is(tlsconf.ChallengeHTTP), a.HTTPAddress.Pos, "http_address", without(tlsconf.ChallengeHTTP))
	p.pointless(a.TLSALPNAddress.Given() && !is(tlsconf.ChallengeTLSALPN), a.TLSALPNAddress.Pos, "tls_alpn_address", without(tlsconf.ChallengeTLSALPN))
	p.pointless(a.DNS != nil && !is(tlsconf.ChallengeDNS), posOfDNS(a), "dns", without(tlsconf.ChallengeDNS))
	switch {
	case is(tlsconf.ChallengeHTTP):
		p.checkChallengeAddress(a, a.HTTPAddress, "http_address")
	case is(tlsconf.ChallengeTLSALPN):
		p.checkChallengeAddress(a, a.TLSALPNAddress, "tls_alpn_address")
	case is(tlsconf.ChallengeDNS) && a.DNS == nil:
		p.fail(a.Challenge.Pos, "add dns: {provider: rfc2136, server: HOST, key_name: NAME, key_file: FILE}", "challenge: dns-01 without dns")
	case is(tlsconf.ChallengeDNS):
		p.checkDNS(a.DNS)
	}
}

func posOfDNS(a *ACME) Pos {
	if a.DNS == nil {
		return Pos{}
	}
	return a.DNS.Pos
}

// checkChallengeAddress looks at an address where the CA asks.
func (p *Parsed) checkChallengeAddress(a *ACME, v Value[string], name string) {
	at := v.Pos
	if !v.Given() {
		at = a.Pos
	}
	if strings.HasSuffix(v.V, ":0") {
		p.fail(at, "the CA, or what leads it there, must know the port", "tls.acme.%s: port 0", name)
	}
	for i := range p.Listen {
		if p.Listen[i].Address.V == v.V {
			p.fail(at, fmt.Sprintf("choose another, or change that of the listener in line %d", p.Listen[i].Address.Pos.Line), "tls.acme.%s %s is the address of a listener", name, v.V)
		}
	}
	if p.Admin != nil && p.Admin.HTTP.V == v.V && v.V != "" {
		p.fail(at, "choose another", "tls.acme.%s %s is the address of admin.http", name, v.V)
	}
}

// checkDNS looks at what a provider needs.
func (p *Parsed) checkDNS(d *ACMEDNS) {
	known := tlsconf.DNSProviders()
	if d.Provider.Given() && !slices.Contains(known, d.Provider.V) {
		p.fail(d.Provider.Pos, didYouMean(d.Provider.V, known), "tls.acme.dns.provider: %q is not known", d.Provider.V)
		return
	}
	for _, needed := range []struct {
		v    Value[string]
		name string
		hint string
	}{
		{d.Server, "server", "the host that updates are sent to"},
		{d.KeyName, "key_name", "the name of the TSIG key"},
		{d.KeyFile, "key_file", "the file that holds the TSIG key"},
	} {
		if !needed.v.Given() {
			p.fail(d.Pos, "add it: "+needed.hint, "tls.acme.dns.%s is missing", needed.name)
		}
	}
}

// answersTLSALPN says whether listeners make the handshakes of tls-alpn-01.
func (p *Parsed) answersTLSALPN() bool {
	return p.TLS.ACME != nil && p.TLS.ACME.Challenge.V == string(tlsconf.ChallengeTLSALPN)
}

// acmeStorage returns the directory of accounts and certificates.
func (p *Parsed) acmeStorage() string {
	if a := p.TLS.ACME; a.Storage.Given() {
		return p.path(a.Storage)
	}
	return filepath.Join(p.path(p.StateDir), acmeName)
}

// acme reads what tls.acme names, and asks nobody.
func (c *compiler) acme() *ACMEOptions {
	a := c.TLS.ACME
	if a == nil {
		return nil
	}
	before := len(c.errs)
	o := &ACMEOptions{Labels: values(a.OnDemand), ACMEOptions: tlsconf.ACMEOptions{
		Domains: values(a.Domains), Email: a.Email.V, Directory: a.Directory.V,
		Challenge: tlsconf.Challenge(a.Challenge.V), HTTPAddress: a.HTTPAddress.V, TLSALPNAddress: a.TLSALPNAddress.V,
		Storage: c.acmeStorage(),
		// What is left is for the handshake itself.
		DemandTimeout: c.Login.TLSTimeout.V * 3 / 4,
	}}
	secrets := sha256.New()
	if ca, ok := c.readable(a.CA); ok && ca != "" {
		var err error
		if o.Roots, err = tlsconf.CAPool(ca); err != nil {
			c.fail(a.CA.Pos, err, "tls.acme.ca cannot be used")
		}
		if content, err := os.ReadFile(ca); err == nil { //nolint:gosec // the operator's configuration names it
			_, _ = secrets.Write(content)
		}
	}
	if a.EAB != nil {
		o.EAB = &tlsconf.EAB{KeyID: a.EAB.KeyID.V, HMAC: c.base64(a.EAB.HMACFile, base64.RawURLEncoding)}
		_, _ = fmt.Fprintln(secrets, o.EAB.KeyID, o.EAB.HMAC)
	}
	if d := a.DNS; d != nil {
		o.DNS = &tlsconf.DNSOptions{
			Provider: d.Provider.V, Server: d.Server.V, KeyName: d.KeyName.V, KeyAlgorithm: d.KeyAlgorithm.V,
			Key: c.base64(d.KeyFile, base64.StdEncoding), Resolvers: values(d.Resolvers),
		}
		_, _ = fmt.Fprintln(secrets, *o.DNS)
	}
	c.acmeDirectory(o.Storage)
	if len(c.errs) > before {
		return nil
	}
	o.Fingerprint = fmt.Sprintf("%q %q %q %q %q %q %q %q %s %x", o.Domains, o.Labels, o.Email, o.Directory, o.Challenge,
		o.HTTPAddress, o.TLSALPNAddress, o.Storage, o.DemandTimeout, secrets.Sum(nil))
	try := o.ACMEOptions
	try.OnDemand = func(string) bool { return false }
	if _, err := tlsconf.NewACME(try); err != nil {
		c.fail(a.Pos, err, "tls.acme cannot be used")
	}
	return o
}

// acmeDirectory looks at whether certificates can be kept where they are to be. It
// is made when the first one is.
func (c *compiler) acmeDirectory(path string) {
	at := c.TLS.ACME.Storage.Pos
	if !c.TLS.ACME.Storage.Given() {
		at = c.StateDir.Pos
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// Its parent is state_dir, which is looked at by itself, or is made too.
	case err != nil:
		c.fail(at, plainCause(err, path), "certificates cannot be kept in %s", path)
	case !info.IsDir():
		c.fail(at, errors.New("it is not a directory"), "certificates cannot be kept in %s", path)
	}
}

// base64 reads a file that holds a key in base64 and nothing else, in whichever of
// its alphabets, and returns it in one.
func (c *compiler) base64(v Value[string], as *base64.Encoding) string {
	before := len(c.errs)
	text := strings.NewReplacer("-", "+", "_", "/", "=", "").Replace(string(c.secret(v, "key")))
	key, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err != nil && len(c.errs) == before {
		c.fail(v.Pos, errors.New("it is not base64, or holds more than that"), "no key in %s", c.path(v))
	}
	return as.EncodeToString(key)
}

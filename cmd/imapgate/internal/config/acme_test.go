package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"imapgate/tlsconf"
)

const acmeFile = `listen: [{address: ":993", tls: implicit}]
tls: {acme: {%s}}
backends: {mail1: {address: "a.example:993", tls: implicit}}
route: {%s}
%s`

func TestMistakesOfACME(t *testing.T) {
	const (
		good   = "domains: [imap.example.org], email: a@example.org"
		state  = "state_dir: /var/lib/imapgate\n"
		dns    = "provider: rfc2136, server: ns1.example.org, key_name: imapgate, key_file: tsig"
		listen = "default: mail1"
	)
	for name, tc := range map[string]struct{ acme, state, want string }{
		"no e-mail":          {"domains: [imap.example.org]", state, `x.yaml:2:7: tls.acme.email is missing (add it: an e-mail address like "postmaster@example.org")`},
		"no e-mail at all":   {"domains: [imap.example.org], email: postmaster", state, `x.yaml:2:50: tls.acme.email: "postmaster" is not valid (expected an e-mail address like "postmaster@example.org")`},
		"no domains":         {"email: a@example.org", state, `x.yaml:2:7: tls.acme says nothing: there would be no certificate (add domains: [NAME])`},
		"twice":              {"domains: [a.example.org, A.example.org.], email: a@example.org", state, `x.yaml:2:39: domain "a.example.org" comes twice in tls.acme.domains (remove one of them)`},
		"an address":         {"domains: [192.0.2.1], email: a@example.org", state, `x.yaml:2:24: tls.acme.domains[0]: "192.0.2.1" is not valid (certificates are for names, not for addresses)`},
		"not ASCII":          {"domains: [imap.exämple.org], email: a@example.org", state, `x.yaml:2:24: tls.acme.domains[0]: "imap.exämple.org" is not valid (write its ASCII form, which begins with xn--)`},
		"wildcard over HTTP": {"domains: [\"*.example.org\"], email: a@example.org", state, `x.yaml:2:24: tls.acme: domain "*.example.org": a wildcard needs challenge dns-01`},
		"not public":         {"domains: [imap.local], email: a@example.org", state, `x.yaml:2:24: tls.acme: domain "imap.local": no public CA has certificates for such a name`},
		"nowhere to keep":    {good, "", `x.yaml:2:7: tls.acme has nowhere to keep accounts and certificates (add state_dir, or storage: DIRECTORY)`},
		"on demand, no rows": {"on_demand: [imap], email: a@example.org", state, `x.yaml:2:26: tls.acme.on_demand has no effect without route.tables, which would hold the domains (remove it)`},
		"wildcard on demand": {good + ", on_demand: [\"*\"]", state, `x.yaml:2:77: tls.acme.on_demand[0]: "*" is not valid (expected the first part of a domain like "imap", or "@" for the domain itself)`},
		"half an account":    {good + ", eab: {key_id: x}", state, `x.yaml:2:65: tls.acme.eab.hmac_file is missing (add it: a file name)`},
		"other half":         {good + ", eab: {hmac_file: x}", state, `x.yaml:2:65: tls.acme.eab.key_id is missing (add it: text in one line)`},
		"unknown challenge":  {good + ", challenge: dns", state, `x.yaml:2:76: tls.acme.challenge: "dns" is not valid (did you mean "dns-01"?)`},
		"DNS without DNS":    {good + ", challenge: dns-01", state, `x.yaml:2:76: challenge: dns-01 without dns (add dns: {provider: rfc2136, server: HOST, key_name: NAME, key_file: FILE})`},
		"DNS for nothing":    {good + ", dns: {" + dns + "}", state, `x.yaml:2:65: dns has no effect without challenge: dns-01 (remove it)`},
		"unknown provider":   {good + ", challenge: dns-01, dns: {provider: rfc2137}", state, `x.yaml:2:100: tls.acme.dns.provider: "rfc2137" is not known (did you mean "rfc2136"?)`},
		"no key":             {good + ", challenge: dns-01, dns: {provider: rfc2136, server: ns, key_name: k}", state, `x.yaml:2:84: tls.acme.dns.key_file is missing (add it: the file that holds the TSIG key)`},
		"port for nothing":   {good + ", tls_alpn_address: \":443\"", state, `x.yaml:2:83: tls_alpn_address has no effect without challenge: tls-alpn-01 (remove it)`},
		"HTTP for nothing":   {good + ", challenge: tls-alpn-01, http_address: \":80\"", state, `x.yaml:2:103: http_address has no effect without challenge: http-01 (remove it)`},
		"a listener's":       {good + ", challenge: tls-alpn-01, tls_alpn_address: \":993\"", state, `x.yaml:2:107: tls.acme.tls_alpn_address :993 is the address of a listener (choose another, or change that of the listener in line 1)`},
		"no port":            {good + ", http_address: \"127.0.0.1:0\"", state, `x.yaml:2:79: tls.acme.http_address: port 0 (the CA, or what leads it there, must know the port)`},
		"over plain HTTP":    {good + ", directory: \"http://ca.example/dir\"", state, `x.yaml:2:76: tls.acme.directory: "http://ca.example/dir" is not valid (it must begin with https://)`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, fmt.Sprintf(acmeFile, tc.acme, listen, tc.state))
			if diff := cmp.Diff([]string{tc.want}, lines(t, err)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
	_, err := parse(t, "listen: [{address: ':143', tls: none}]\ntls: {acme: {domains: [a.example.org], email: a@example.org, storage: x}}\nbackends: {a: {address: 'a:1', tls: none}}\nroute: {default: a}\n")
	want := []string{`x.yaml:2:7: tls.acme has no effect without a listener that has TLS (remove it)`}
	if diff := cmp.Diff(want, lines(t, err)); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
}

func TestFilesOfACMEAreLookedAt(t *testing.T) {
	const good = "domains: [imap.example.org], email: a@example.org"
	for name, tc := range map[string]struct{ acme, want string }{
		"CA":         {good + ", ca: garbage", "2:69: tls.acme.ca cannot be used: CA DIR/garbage: holds no PEM block (-----BEGIN …)"},
		"no CA":      {good + ", ca: nowhere", "2:69: cannot read DIR/nowhere: no such file or directory"},
		"HMAC":       {good + ", eab: {key_id: x, hmac_file: garbage}", "2:93: no key in DIR/garbage: it is not base64, or holds more than that"},
		"empty HMAC": {good + ", eab: {key_id: x, hmac_file: empty}", "2:93: no key in DIR/empty: it is empty"},
		"TSIG":       {good + ", challenge: dns-01, dns: {provider: rfc2136, server: ns, key_name: k, key_file: nowhere}", "2:144: cannot read DIR/nowhere: no such file or directory"},
		"storage":    {good + ", storage: secret", "2:74: certificates cannot be kept in DIR/secret: it is not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			_, path, err := compileFile(t, fmt.Sprintf(acmeFile, tc.acme, "default: mail1", "state_dir: .\n"))
			want := path + ":" + strings.ReplaceAll(tc.want, "DIR", filepath.Dir(path))
			if diff := cmp.Diff([]string{want}, lines(t, err)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestACMEIsCompiled(t *testing.T) {
	text := fmt.Sprintf(acmeFile, `domains: [Imap.example.org, "*.example.org"], on_demand: [imap, "@"], email: a@example.org, challenge: dns-01,
  eab: {key_id: x, hmac_file: hmac},
  dns: {provider: rfc2136, server: 192.0.2.1, key_name: k, key_file: hmac}`, "tables: [users.map]", "state_dir: .\n")
	path := setup(t, text)
	key := filepath.Join(filepath.Dir(path), "hmac")
	compile := func(content string) *Compiled {
		t.Helper()
		if err := os.WriteFile(key, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := Load(path, System())
		if err != nil {
			t.Fatal(err)
		}
		c, err := p.Compile(noCertificate)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := compile("-_-_aQ\n") // base64url without padding, as CAs give it
	want := &ACMEOptions{
		Labels:      []string{"imap", "@"},
		Fingerprint: c.ACME.Fingerprint,
		ACMEOptions: tlsconf.ACMEOptions{
			Domains: []string{"imap.example.org", "*.example.org"}, Email: "a@example.org", Directory: tlsconf.LetsEncrypt,
			Challenge: tlsconf.ChallengeDNS, HTTPAddress: ":80", TLSALPNAddress: ":443",
			DemandTimeout: 7500 * time.Millisecond,
			Storage:       filepath.Join(filepath.Dir(path), "acme"),
			EAB:           &tlsconf.EAB{KeyID: "x", HMAC: "-_-_aQ"},
			DNS:           &tlsconf.DNSOptions{Provider: "rfc2136", Server: "192.0.2.1", KeyName: "k", KeyAlgorithm: "hmac-sha256", Key: "+/+/aQ==", Resolvers: []string{}},
		},
	}
	if diff := cmp.Diff(want, c.ACME); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if protocols := c.Listeners[0].Serve.TLSConfig.NextProtos; len(protocols) != 1 {
		t.Errorf("a listener has %v without tls-alpn-01", protocols)
	}
	if same := compile("-_-_aQ\n").ACME.Fingerprint; same != c.ACME.Fingerprint {
		t.Error("the same settings have two fingerprints")
	}
	if other := compile("AAAAaQ\n").ACME.Fingerprint; other == c.ACME.Fingerprint {
		t.Error("another key has the same fingerprint")
	}
}

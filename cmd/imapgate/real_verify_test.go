package main_test

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"
)

func TestRealDovecotIsVerifiedAsConfigured(t *testing.T) {
	t.Parallel()
	ca, proxies := newRealCA(t, "test"), newRealCA(t, "proxies")
	names := []string{"ca", "pin", "hex-pin", "pin-only", "none", "certificate", "no-certificate"}
	var accounts []realAccount
	var table strings.Builder
	var secrets []string
	for _, name := range names {
		a := realAccount{Name: name + "@example.org", Password: "Xq7-" + name + "-Vw2"}
		accounts = append(accounts, a)
		secrets = append(secrets, a.Password)
		table.WriteString(a.Name + " " + name + "\n")
	}
	d := startRealDovecot(t, realDovecotConfig{CA: ca, Accounts: accounts})
	strict := startRealDovecot(t, realDovecotConfig{CA: ca, Accounts: accounts, Extra: fmt.Sprintf(`
ssl_ca = <%s
ssl_verify_client_cert = yes
ssl_require_crl = no
auth_ssl_require_client_cert = yes
`, proxies.File)})

	leaf, err := x509.ParseCertificate(d.pair.Load(t).Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	key := sha256.Sum256(leaf.RawSubjectPublicKeyInfo)
	pin := "sha256/" + base64.StdEncoding.EncodeToString(key[:])
	own := proxies.Client(t, "proxy", "proxy@example.org")
	g := startRealGate(t, realGateConfig{
		CA: ca,
		Backends: realMap{
			"ca":             realBackend(ca, realMap{"address": d.IMAPS, "tls": "implicit"}),
			"pin":            realBackend(ca, realMap{"address": d.IMAPS, "tls": "implicit", "pins": []string{pin}}),
			"hex-pin":        realBackend(ca, realMap{"address": d.IMAP, "tls": "starttls", "pins": []string{hex.EncodeToString(key[:])}}),
			"pin-only":       realBackend(ca, realMap{"address": d.IMAPS, "tls": "implicit", "ca": nil, "tls_name": nil, "pins": []string{pin}}),
			"none":           realBackend(ca, realMap{"address": d.IMAP, "tls": "starttls", "ca": nil, "tls_name": nil, "verify": "none"}),
			"certificate":    realBackend(ca, realMap{"address": strict.IMAPS, "tls": "implicit", "cert": own.Cert, "key": own.Key}),
			"no-certificate": realBackend(ca, realMap{"address": strict.IMAPS, "tls": "implicit"}),
		},
		Table:   table.String(),
		Secrets: secrets,
	})
	for _, a := range accounts {
		t.Run(a.Name, func(t *testing.T) {
			c := g.Dial(t)
			_, tagged := c.Command("AUTHENTICATE PLAIN " + realPlain("", a.Name, a.Password))
			if strings.HasPrefix(a.Name, "no-certificate") {
				if !strings.HasPrefix(tagged, "NO ") {
					t.Errorf("got %q", tagged)
				}
			} else if !strings.HasPrefix(tagged, "OK ") {
				t.Errorf("got %q", tagged)
			}
			c.Logout()
		})
	}
	if !g.logged(t, "warn", "none") {
		t.Error("no warning in the log that a backend is not verified")
	}
}

package config

import (
	"crypto/tls"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// setup writes a configuration and what it may name to a directory of its own.
func setup(t *testing.T, text string) (path string) {
	t.Helper()
	dir := t.TempDir()
	ca := proxytest.NewCA(t)
	proxytest.WritePair(t, dir, "good", ca.Issue(t, proxytest.CertOptions{}))
	proxytest.WritePair(t, dir, "old", ca.Issue(t, proxytest.CertOptions{NotAfter: time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)}))
	caFile := ca.WritePEM(t, dir)
	for name, content := range map[string]string{
		"imapgate.yaml": strings.ReplaceAll(text, "CA_FILE", caFile),
		"users.map":     "alice@example.org mail1\nbob@example.org mail1\n",
		"bad.map":       "alice@example.org mail1\nbob@example.org nowhere\nbob\n",
		"secret":        "s3cret\n",
		"tickets":       "current " + time.Now().Add(-10*24*time.Hour).UTC().Format(time.RFC3339) + " AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n",
		"empty":         "\n",
		"garbage":       "this is no certificate\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "imapgate.yaml")
}

func noCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) { return nil, nil } //nolint:nilnil // never asked

func compileFile(t *testing.T, text string) (*Compiled, string, error) {
	t.Helper()
	path := setup(t, text)
	p, err := Load(path, System())
	if err != nil {
		t.Fatal(err)
	}
	c, err := p.Compile(noCertificate)
	return c, path, err
}

func TestCompile(t *testing.T) {
	c, _, err := compileFile(t, `listen:
  - {address: ":993", tls: implicit, client_auth: request, client_ca: CA_FILE, client_user: email}
  - {address: ":143", tls: starttls, proxy_protocol: {from: [10.0.0.0/8]}}
tls: {certificates: [{cert: good.pem, key: good.key}, {cert: old.pem, key: old.key}], min_version: "1.3"}
backends:
  mail1:
    {address: "mail1.example.org:993", tls: implicit, ca: CA_FILE, proxy_protocol: v1, pipelining: false, source: 10.0.0.9,
     master: {user: m, password_file: secret}, cert: good.pem, key: good.key}
route: {tables: [users.map]}
login: {id: {name: x, vendor: "y z"}, default_domain: Example.org, master_users: [Root], mechanisms: [EXTERNAL]}
`)
	if err != nil {
		t.Fatal(err)
	}
	l := c.Listeners[0].Serve
	if l.Name != ":993" || l.TLS != proxy.TLSImplicit || l.TLSConfig.MinVersion != tls.VersionTLS13 || l.TLSConfig.ClientAuth != tls.VerifyClientCertIfGiven || l.CertificateUser == nil {
		t.Errorf("listener 0 is %+v", l)
	}
	if l := c.Listeners[1].Serve; l.TLS != proxy.TLSStartTLS || len(l.ProxyFrom) != 1 || l.CertificateUser != nil {
		t.Errorf("listener 1 is %+v", l)
	}
	b := c.Proxy.Backends["mail1"]
	if b.Name != "mail1" || b.ProxyProtocol != 1 || !b.NoPipelining || b.Source.String() != "10.0.0.9" || b.TLSConfig.ServerName != "mail1.example.org" ||
		b.Warm != 8 || b.MasterUser != "m" || b.MasterPassword.Empty() {
		t.Errorf("backend is %+v", b)
	}
	if got := strings.Join(c.Proxy.ID, " "); got != "name x vendor y z" {
		t.Errorf("ID is %q", got)
	}
	if m := values[string](nil); m == nil {
		t.Error("an empty list is nil, which means the default")
	}
	if got := c.Proxy.MasterUsers[0]; got != "root@example.org" {
		t.Errorf("master user is %q", got)
	}
	if len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0].Error(), "expired") || c.Warnings[0].Pos.Line != 4 {
		t.Errorf("warnings: %v", c.Warnings)
	}
}

func TestFingerprintsFollowSettings(t *testing.T) {
	fingerprint := func(listen, tail string) string {
		c, _, err := compileFile(t, "listen: [{address: ':993', "+listen+"}]\ntls: {certificates: [{cert: good.pem, key: good.key}]"+tail+"}\n"+
			"backends: {mail1: {address: 'a.example:993', tls: implicit}}\nroute: {default: mail1}\n")
		if err != nil {
			t.Fatal(err)
		}
		return c.Listeners[0].Fingerprint
	}
	same, again := fingerprint("tls: implicit", ""), fingerprint("tls: implicit", "")
	if same != again {
		t.Errorf("the same settings differ: %q, %q", same, again)
	}
	for _, other := range []string{
		fingerprint("tls: starttls", ""),
		fingerprint("tls: implicit", ", min_version: 1.3"),
		fingerprint("tls: implicit", ", profile: compatible"),
		fingerprint("tls: implicit, proxy_protocol: {from: [10.0.0.0/8]}", ""),
		fingerprint("tls: implicit, client_auth: request, client_ca: CA_FILE", ""),
	} {
		if other == same {
			t.Errorf("other settings have the same fingerprint: %q", other)
		}
	}
}

func TestWhatCannotBeReadIsReportedWithItsPlace(t *testing.T) {
	const backend = "backends: {mail1: {address: 'a.example:993', tls: implicit}}\nroute: {default: mail1}\n"
	const listen = "listen: [{address: ':993', tls: implicit}]\n"
	for name, tc := range map[string]struct{ text, want string }{
		"missing key":   {listen + "tls: {certificates: [{cert: good.pem, key: none.key}]}\n" + backend, `2:44: cannot read DIR/none.key: no such file or directory`},
		"directory":     {listen + "tls: {certificates: [{cert: good.pem, key: .}]}\n" + backend, `2:44: cannot read DIR: it is not a regular file`},
		"garbage":       {listen + "tls: {certificates: [{cert: garbage, key: good.key}]}\n" + backend, `2:29: certificate cannot be used: .*garbage.*`},
		"wrong key":     {listen + "tls: {certificates: [{cert: good.pem, key: old.key}]}\n" + backend, `2:29: certificate cannot be used: .*old.key.*`},
		"client CA":     {"listen: [{address: ':993', tls: implicit, client_auth: require, client_ca: garbage}]\ntls: {certificates: [{cert: good.pem, key: good.key}]}\n" + backend, `1:76: client_ca cannot be used: .*garbage.*`},
		"backend CA":    {base + "pools: {}\n", ""},
		"ticket keys":   {listen + "tls: {certificates: [{cert: good.pem, key: good.key}], ticket_keys: garbage}\n" + backend, `2:69: tls.ticket_keys cannot be used: session ticket keys DIR/garbage: line 1: is not a role, a time and a key`},
		"no keys":       {listen + "tls: {certificates: [{cert: good.pem, key: good.key}], ticket_keys: none}\n" + backend, `2:69: tls.ticket_keys cannot be used: session ticket keys DIR/none: no such file \(imapgate ticket-key rotate makes it\)`},
		"missing CA":    {"listen: [{address: ':143', tls: none}]\nbackends: {mail1: {address: 'a.example:993', tls: implicit, ca: none.pem}}\nroute: {default: mail1}\n", `2:65: cannot read DIR/none.pem: no such file or directory`},
		"password file": {"listen: [{address: ':143', tls: none}]\nbackends: {mail1: {address: 'a.example:993', tls: implicit, master: {user: x, password_file: none}}}\nroute: {default: mail1}\n", `2:94: cannot read DIR/none: no such file or directory`},
		"no password":   {"listen: [{address: ':143', tls: none}]\nbackends: {mail1: {address: 'a.example:993', tls: implicit, master: {user: x, password_file: empty}}}\nroute: {default: mail1}\n", `2:94: no password in DIR/empty: it is empty`},
	} {
		t.Run(name, func(t *testing.T) {
			_, path, err := compileFile(t, tc.text)
			if tc.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			dir := filepath.Dir(path)
			want := "^" + regexp.QuoteMeta(path) + ":" + strings.ReplaceAll(tc.want, "DIR", regexp.QuoteMeta(dir)) + "$"
			if got := lines(t, err); len(got) != 1 || !regexp.MustCompile(want).MatchString(got[0]) {
				t.Errorf("errors:\n%s\nwant one that matches\n%s", strings.Join(got, "\n"), want)
			}
		})
	}
}

func TestTables(t *testing.T) {
	load := func(text string, inForce *Routing) (*Routing, string, error) {
		path := setup(t, text)
		p, err := Load(path, System())
		if err != nil {
			t.Fatal(err)
		}
		r, err := p.LoadTable(t.Context(), inForce, false)
		return r, filepath.Dir(path) + "/", err
	}
	const head = "listen: [{address: ':143', tls: none}]\nbackends: {mail1: {address: 'a:143', tls: none}}\n"

	good, _, err := load(head+"route: {tables: [users.map]}\n", nil)
	if err != nil {
		t.Fatal(err)
	}
	if s := good.Table.Stats(); s.Rows != 2 {
		t.Errorf("table has %d rows", s.Rows)
	}

	_, dir, err := load(head+"route: {tables: [bad.map, none.map]}\n", nil)
	if got := lines(t, err); len(got) != 1 || got[0] != dir+"imapgate.yaml:3:27: cannot read "+dir+"none.map: no such file or directory" {
		t.Errorf("errors:\n%s", strings.Join(got, "\n"))
	}
	_, dir, err = load(head+"route: {tables: [bad.map]}\n", nil)
	got := lines(t, err)
	if len(got) != 2 || !strings.HasPrefix(got[0], dir+"bad.map:2:17: ") || !strings.HasPrefix(got[1], dir+"bad.map:3:") {
		t.Errorf("errors:\n%s", strings.Join(got, "\n"))
	}

	// A configuration without the table would drop every row of the good one.
	_, dir, err = load(head+"route: {default: mail1}\n", good)
	if got := lines(t, err); len(got) != 1 || !strings.HasPrefix(got[0], dir+"imapgate.yaml:3:1: the table is refused: ") {
		t.Errorf("errors:\n%s", strings.Join(got, "\n"))
	}
	if _, _, err = load(head+"route: {default: mail1, max_shrink: 100}\n", good); err != nil {
		t.Errorf("with max_shrink: 100: %v", err)
	}
}

func TestTLSOfClientsAndBackends(t *testing.T) {
	c, path, err := compileFile(t, `listen:
  - {address: ":993", tls: implicit}
  - {address: ":994", tls: implicit, client_auth: request, client_ca: CA_FILE}
tls: {certificates: [{cert: good.pem, key: good.key}], profile: compatible, ticket_keys: tickets}
backends:
  mail1: {address: "mail1.example.org:993", tls: implicit, ca: CA_FILE}
  mail2: {address: "10.0.0.2:143", tls: none}
route: {default: mail1}
`)
	if err != nil {
		t.Fatal(err)
	}
	if open, asking := c.Listeners[0].Serve.TLSConfig, c.Listeners[1].Serve.TLSConfig; open.GetConfigForClient == nil || asking.GetConfigForClient != nil {
		t.Error("old clients should be let in, but not where certificates are asked for")
	}
	if c.TicketKeys == nil {
		t.Error("no ticket keys")
	}
	b := c.Proxy.Backends["mail1"]
	if len(c.BackendTLS) != 1 || b.CurrentTLS == nil || b.CurrentTLS() != c.BackendTLS["mail1"].Config() {
		t.Errorf("TLS of backends is %v", c.BackendTLS)
	}
	var got []string
	for _, w := range c.Warnings {
		got = append(got, strings.ReplaceAll(w.Error(), filepath.Dir(path)+"/", ""))
	}
	for i, want := range []string{
		"imapgate.yaml:4:65: clients may use TLS 1.0 and 1.1 (tls.profile: compatible), which are forbidden since 2021 (RFC 8996)",
		"imapgate.yaml:7:41: passwords go to backend mail2 in clear text (tls: none)",
		"imapgate.yaml:4:90: session ticket keys tickets: the last rotation was 10 days ago; `imapgate ticket-key rotate` should run every day",
	} {
		if i >= len(got) || !slices.Contains(got, want) {
			t.Errorf("warnings:\n%s\nwant %s", strings.Join(got, "\n"), want)
		}
	}
}

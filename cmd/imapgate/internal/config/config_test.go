package config

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// base is a configuration without mistakes; tests add theirs below it.
const base = `listen: [{address: ":143", tls: none}]
backends: {mail1: {address: "10.0.0.1:143", tls: none}, mail2: {address: "10.0.0.2:143", tls: none}}
route: {default: mail1}
`

// sources are an environment and files in memory.
func sources(env, files map[string]string) Sources {
	return Sources{
		LookupEnv: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
		ReadFile: func(name string) ([]byte, error) {
			if text, ok := files[name]; ok {
				return []byte(text), nil
			}
			return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
		},
	}
}

func parse(t *testing.T, text string) (*Parsed, error) {
	t.Helper()
	return Parse("x.yaml", []byte(text), sources(nil, nil))
}

// lines returns the errors of a parse, one a line.
func lines(t *testing.T, err error) []string {
	t.Helper()
	var errs Errors
	if !errors.As(err, &errs) {
		t.Fatalf("error is %T, not Errors: %v", err, err)
	}
	var list []string
	for _, e := range errs {
		list = append(list, e.Error())
	}
	return list
}

func TestAllMistakesAreReportedAtOnce(t *testing.T) {
	_, err := parse(t, `listen:
  - {addr: ":993", tls: implicit}
tls:
  certificates: [{cert: a.pem, key: a.key}]
backends:
  mail1: {address: 10.0.0.1, tls: implicit}
  mail2: {address: "10.0.0.2:993", tls: implicit, weight: heavy}
pools:
  shared: {backends: [mail1, mial2]}
route:
  default: shraed
login: {timeout: 60, exempt_networks: [10.0.0.1/8]}
`)
	want := []string{
		`x.yaml:2:6: unknown key "addr" in listen[0] (did you mean "address"?)`,
		`x.yaml:6:20: backends.mail1.address: "10.0.0.1" is not valid (the port is missing: write "10.0.0.1:993")`,
		`x.yaml:7:59: backends.mail2.weight: "heavy" is not valid (expected a whole number from 1 to 1000000)`,
		`x.yaml:9:30: pool shared: "mial2" is no backend (did you mean "mail2"?)`,
		`x.yaml:11:12: route.default: "shraed" is neither a backend nor a pool (did you mean "shared"?)`,
		`x.yaml:12:18: login.timeout: "60" is not valid (a unit is missing: write "60s")`,
		`x.yaml:12:40: login.exempt_networks[0]: "10.0.0.1/8" is not valid (bits of the host are set: write 10.0.0.0/8)`,
	}
	if diff := cmp.Diff(want, lines(t, err)); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
}

func TestMistakesAreShownWithACaret(t *testing.T) {
	_, err := parse(t, base+"log:\n\tlevel: info\n")
	var errs Errors
	if !errors.As(err, &errs) {
		t.Fatal(err)
	}
	var b strings.Builder
	errs.Print(&b, "imapgate: ")
	want := `imapgate: x.yaml:5:1: not valid YAML: found character that cannot start any token (YAML is indented with spaces, not tabs)
     5 |  level: info
       | ^
`
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	long := strings.Repeat("x", 150)
	text, caret := excerpt(long+"\x1bé"+long, Pos{Line: 1, Column: 152, Width: 1})
	if len([]rune(text)) > 100 || strings.Index(caret, "^") != strings.Index(text, "é") || strings.Contains(text, "\x1b") {
		t.Errorf("excerpt of a long line:\n%q\n%q", text, caret)
	}
}

func TestMistakes(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"empty file":           {"", `x.yaml:1:1: the file is empty (at least listen, backends and route are needed)`},
		"many handshakes":      {base + "limits: {handshakes: -1}\n", `x.yaml:4:22: limits.handshakes: "-1" is not valid (expected a whole number from 0 to 1000)`},
		"two documents":        {base + "---\n" + base, `x.yaml:1:1: the file holds more than one YAML document (keep the first one)`},
		"not UTF-8":            {base + "log: {level: \xff}\n", `x.yaml:4:14: byte 0xff is not UTF-8 (the file must be UTF-8 text)`},
		"control character":    {base + "log: {level: \x1b}\n", `x.yaml:4:14: control character U+001B (the file must be UTF-8 text)`},
		"unclosed list":        {"listen: [\n", `x.yaml:1:10: not valid YAML: did not find expected node content`},
		"scalar for mapping":   {base + "login: 5\n", `x.yaml:4:8: login is a single value (expected a mapping like {key: value})`},
		"list for scalar":      {base + "log: {level: [info]}\n", `x.yaml:4:14: log.level is a list (expected debug, info, warn or error)`},
		"mapping for list":     {base + "login: {mechanisms: {PLAIN: yes}}\n", `x.yaml:4:21: login.mechanisms is a mapping (expected a list like [a, b])`},
		"empty value":          {base + "log: {level: }\n", `x.yaml:4:14: log.level is empty (expected debug, info, warn or error)`},
		"duplicate key":        {base + "log: {level: info, level: warn}\n", `x.yaml:4:20: key "level" comes twice in log (the first is in line 4)`},
		"duplicate section":    {base + "route: {default: mail1}\n", `x.yaml:4:1: key "route" comes twice in the file (the first is in line 3)`},
		"key of another place": {base + "timeout: 5s\n", `x.yaml:4:1: unknown key "timeout" ("timeout" is a key of pools.NAME.health, login or health)`},
		"key of nothing":       {base + "log: {colour: x}\n", `x.yaml:4:7: unknown key "colour" in log (expected format or level)`},
		"merge key":            {base + "<<: {}\n", `x.yaml:4:1: unknown key "<<" (merge keys are not used here; write the keys out)`},
		"tag":                  {base + "log: {level: !!str info}\n", `x.yaml:4:14: log.level: tags such as !!str are not used here (remove it)`},
		"unknown anchor":       {base + "log: *x\n", `x.yaml:4:6: not valid YAML: unknown anchor 'x' referenced`},
		"yes for true":         {base + "login: {case_sensitive: yes}\n", `x.yaml:4:25: login.case_sensitive: "yes" is not valid (write true)`},
		"number out of bounds": {base + "login: {max_failures: 0}\n", `x.yaml:4:23: login.max_failures: "0" is not valid (expected a whole number from 1 to 1000)`},
		"negative duration":    {base + "login: {timeout: -5s}\n", `x.yaml:4:18: login.timeout: "-5s" is not valid (expected a duration like "30s", "5m" or "1h30m")`},
		"no network":           {base + "login: {exempt_networks: [lan]}\n", `x.yaml:4:27: login.exempt_networks[0]: "lan" is not valid (expected a network like "10.0.0.0/8" or an IP address)`},
		"unknown mechanism":    {base + "login: {mechanisms: [CRAM-MD5]}\n", `x.yaml:4:22: login.mechanisms[0]: "CRAM-MD5" is not valid (expected PLAIN, LOGIN, XOAUTH2, OAUTHBEARER, EXTERNAL, SCRAM-SHA-1 or SCRAM-SHA-256)`},
		"unset variable":       {base + "login: {greeting: \"${NOBODY}\"}\n", `x.yaml:4:19: login.greeting: environment variable NOBODY is not set (set it, or write the value here)`},
		"unclosed variable":    {base + "login: {greeting: \"${NOBODY\"}\n", `x.yaml:4:19: login.greeting: ${ without } (write $${ for a literal ${)`},
		"missing ${file:…}":    {base + "login: {greeting: \"${file:/nowhere}\"}\n", `x.yaml:4:19: login.greeting: ${file:…}: open /nowhere: file does not exist`},
		"domain with @":        {base + "login: {default_domain: \"@example.org\"}\n", `x.yaml:4:25: login.default_domain: "@example.org" is not valid (write "example.org" without the @)`},
		"greeting as a code":   {base + "login: {greeting: \"[ALERT] hi\"}\n", `x.yaml:4:19: login.greeting: "[ALERT] hi" is not valid (text that begins with [ would be a response code)`},
		"delays":               {base + "login: {failure_delay: 1m}\n", `x.yaml:4:24: failure_delay 1m0s is longer than failure_delay_max 15s (raise failure_delay_max too)`},
		"delays, misspelt":     {base + "login: {failure_delay: 1m, failure_dely_max: 5m}\n", `x.yaml:4:28: unknown key "failure_dely_max" in login (did you mean "failure_delay_max"?)`},
		"delays, invalid":      {base + "login: {failure_delay: 5s, failure_delay_max: much}\n", `x.yaml:4:47: login.failure_delay_max: "much" is not valid (expected a duration like "30s", "5m" or "1h30m")`},
		"misspelt and wrong":   {base + "login: {timeuot: [5]}\n", `x.yaml:4:9: unknown key "timeuot" in login (did you mean "timeout"?)`},
		"timeouts":             {base + "login: {connect_timeout: 1m}\n", `x.yaml:4:26: connect_timeout 1m0s is longer than backend_timeout 30s (connecting is a part of the login at a backend)`},
		"pool without members": {base + "pools: {all: {}}\n", `x.yaml:4:9: pools.all.backends is missing (add it: a list like [a, b])`},
		"pool like a backend":  {base + "pools: {mail1: {backends: [mail2]}}\n", `x.yaml:4:9: pool "mail1" is called like a backend (choose another name: routes name backends and pools alike)`},
		"member twice":         {base + "pools: {all: {backends: [mail1, mail1]}}\n", `x.yaml:4:33: pool all: backend "mail1" comes twice (remove one of them)`},
		"admin is a number":    {base + "admin: 0\n", `x.yaml:4:8: admin is a single value (expected a mapping like {key: value})`},
		"admin of nothing":     {base + "admin: {}\n", `x.yaml:4:1: admin says nothing: there would be no API (add socket: FILE, http: ADDRESS, or both)`},
		"API for everybody":    {base + "admin: {http: \":9143\"}\n", `x.yaml:4:15: admin.http: everybody who reaches :9143 could end sessions (add token_file, or listen on 127.0.0.1)`},
		"tokens for nothing":   {base + "admin: {socket: s, token_file: t}\n", `x.yaml:4:32: admin.token_file has no effect without admin.http (remove it)`},
		"long socket":          {base + "admin: {socket: /" + strings.Repeat("x", 107) + "}\n", `x.yaml:4:17: admin.socket: the path of a socket has at most 107 bytes (choose a shorter path)`},
		"probe alone":          {base + "health: {user: probe}\n", `x.yaml:4:16: user without password_file (add password_file)`},
		"password alone":       {base + "pools: {all: {backends: [mail1], health: {password_file: x}}}\n", `x.yaml:4:58: password_file without user (add user)`},
		"watched twice":        {base + "pools: {a: {backends: [mail1], health: {rise: 1}}, b: {backends: [mail1], health: {rise: 2}}}\n", `x.yaml:4:75: pool b: health is given for backend mail1 already, by pool a (remove one of them)`},
		"unlike any backend":   {base + "pools: {all: {backends: [zzz]}}\n", `x.yaml:4:26: pool all: "zzz" is no backend (expected mail1 or mail2)`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, tc.text)
			if diff := cmp.Diff([]string{tc.want}, lines(t, err)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMistakesOfListenersAndBackends(t *testing.T) {
	const file = `listen: [%s]
tls: {certificates: [{cert: a.pem, key: a.key}]}
backends: {mail1: {address: "a.example:993", %s}}
route: {default: mail1}
`
	for name, tc := range map[string]struct{ listen, backend, want string }{
		"no mode":                {`{address: ":1"}`, "tls: implicit", `x.yaml:1:10: listen[0].tls is missing (add it: implicit, starttls or none)`},
		"address twice":          {`{address: ":1", tls: none}, {address: ":1", tls: none}`, "tls: implicit", `x.yaml:1:48: address ":1" comes twice (the first is in line 1)`},
		"client_auth without CA": {`{address: ":1", tls: implicit, client_auth: require}`, "tls: implicit", `x.yaml:1:54: client_auth: require without client_ca (add client_ca: the CAs, in PEM, that client certificates are verified against)`},
		"client_ca alone":        {`{address: ":1", tls: implicit, client_ca: ca.pem}`, "tls: implicit", `x.yaml:1:52: client_ca has no effect without client_auth: request or require (remove it)`},
		"certificate in clear":   {`{address: ":1", tls: none, client_auth: request, client_ca: ca.pem}`, "tls: implicit", `x.yaml:1:50: client_auth: request on a listener without TLS (certificates need tls: implicit or starttls)`},
		"EXTERNAL, no master":    {`{address: ":1", tls: implicit, client_auth: request, client_ca: ca.pem, client_user: cn}`, "tls: implicit", `x.yaml:1:95: client_user needs a master user at every backend, and mail1 has none (add master: {user: NAME, password_file: FILE} to it)`},
		"PROXY TLS over TLS":     {`{address: ":1", tls: implicit, proxy_protocol: {from: [::1], tls: true}}`, "tls: implicit", `x.yaml:1:76: proxy_protocol.tls has no effect unless the listener has tls: none (remove it)`},
		"PROXY from nobody":      {`{address: ":1", tls: implicit, proxy_protocol: {from: []}}`, "tls: implicit", `x.yaml:1:64: listen[0].proxy_protocol.from is an empty list`},
		"warm behind PROXY":      {`{address: ":1", tls: implicit}`, "tls: none, proxy_protocol: v2, warm: 4", `x.yaml:3:83: warm has no effect with proxy_protocol, whose header names one client (remove it)`},
		"too warm":               {`{address: ":1", tls: implicit}`, "tls: none, warm: 1001", `x.yaml:3:63: backends.mail1.warm: "1001" is not valid (expected a whole number from 0 to 1000)`},
		"ca in clear":            {`{address: ":1", tls: implicit}`, "tls: none, ca: ca.pem", `x.yaml:3:61: ca has no effect with tls: none (remove it)`},
		"ca unverified":          {`{address: ":1", tls: implicit}`, "tls: implicit, verify: none, ca: ca.pem", `x.yaml:3:79: ca has no effect with verify: none (remove it)`},
		"cert without key":       {`{address: ":1", tls: implicit}`, "tls: implicit, cert: c.pem", `x.yaml:3:67: cert without key (add key: the file of its private key)`},
		"key without cert":       {`{address: ":1", tls: implicit}`, "tls: implicit, key: c.pem", `x.yaml:3:66: key without cert (add cert: the file of the certificate)`},
		"bad pin":                {`{address: ":1", tls: implicit}`, "tls: implicit, pins: [abc]", `x.yaml:3:68: backends.mail1.pins[0]: "abc" is not valid (expected "sha256/" and base64, or 64 hex digits: the SHA-256 of the public key)`},
		"master without file":    {`{address: ":1", tls: implicit}`, "tls: implicit, master: {user: x}", `x.yaml:3:61: backends.mail1.master.password_file is missing (add it: a file name)`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, fmt.Sprintf(file, tc.listen, tc.backend))
			if diff := cmp.Diff([]string{tc.want}, lines(t, err)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestMistakesOfTLS(t *testing.T) {
	const file = `listen: [%s]
tls: {certificates: [{cert: a.pem, key: a.key}], %s}
backends: {mail1: {address: "a.example:993", tls: implicit}}
route: {default: mail1}
`
	const open, asking = `{address: ":1", tls: implicit}`, `{address: ":1", tls: implicit, client_auth: require, client_ca: ca.pem}`
	for name, tc := range map[string]struct{ listen, tls, want string }{
		"old clients, but not too old": {open, `profile: compatible, min_version: 1.2`, `x.yaml:2:84: min_version 1.2 contradicts profile: compatible, which begins at TLS 1.0 (remove one of them)`},
		"unknown profile":              {open, `profile: modern`, `x.yaml:2:59: tls.profile: "modern" is not valid (expected rfc9325 or compatible)`},
		"TLS 1.0 by version":           {open, `min_version: 1.0`, `x.yaml:2:63: tls.min_version: "1.0" is not valid (expected 1.2 or 1.3)`},
		"tickets for nobody":           {asking, `ticket_keys: x`, `x.yaml:2:63: tls.ticket_keys has no effect without a listener that has TLS and asks for no client certificates (remove it)`},
		"tickets in the clear":         {`{address: ":1", tls: none}`, `ticket_keys: x`, `x.yaml:2:63: tls.ticket_keys has no effect without a listener that has TLS and asks for no client certificates (remove it)`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parse(t, fmt.Sprintf(file, tc.listen, tc.tls))
			if diff := cmp.Diff([]string{tc.want}, lines(t, err)); diff != "" {
				t.Errorf("errors (-want +got):\n%s", diff)
			}
		})
	}
}

func TestNobodyCouldLogIn(t *testing.T) {
	_, err := parse(t, "listen: [{address: ':993', tls: implicit}]\nbackends: {a: {address: 'a:1', tls: implicit}}\nroute: {}\n")
	want := []string{
		`x.yaml:1:33: a listener with TLS needs a certificate, and there is none (add tls: {certificates: [{cert: FILE, key: FILE}]}, or tls: {acme: {domains: [NAME], email: ADDRESS}})`,
		`x.yaml:3:1: route says nothing: nobody could log in (add tables: [FILE], default: BACKEND, or both)`,
	}
	if diff := cmp.Diff(want, lines(t, err)); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
}

func TestDefaults(t *testing.T) {
	p, err := parse(t, base)
	if err != nil {
		t.Fatal(err)
	}
	if p.Login.Timeout.V != time.Minute || p.Login.Timeout.Given() {
		t.Errorf("login.timeout is %+v", p.Login.Timeout)
	}
	if got, want := values(p.Login.Mechanisms), []string{"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "EXTERNAL"}; !slices.Equal(got, want) {
		t.Errorf("mechanisms are %v, want %v", got, want)
	}
	if w := p.Backends[0].V.Weight.V; w != 100 {
		t.Errorf("weight is %d", w)
	}
	if !p.Backends[0].V.Pipelining.V || p.Shutdown.Timeout.V != 30*time.Second || p.Log.Format.V != "auto" {
		t.Errorf("pipelining %v, shutdown.timeout %v, log.format %q", p.Backends[0].V.Pipelining, p.Shutdown.Timeout, p.Log.Format.V)
	}
}

func TestExpansion(t *testing.T) {
	text := `listen: [{address: "${ADDRESS}", tls: none}]
backends: {mail1: {address: "${file:host}:143", tls: none, weight: "${WEIGHT}"}}
route: {default: mail1}
login: {greeting: "$${ADDRESS} $5 ${NAME}", exempt_networks: ["10.1.2.3", "2001:db8::/32"]}
`
	p, err := Parse("/etc/x.yaml", []byte(text), sources(
		map[string]string{"ADDRESS": ":1143", "WEIGHT": "7", "NAME": "lion: [x]"},
		map[string]string{"/etc/host": "mail1.example.org\r\n"}))
	if err != nil {
		t.Fatal(err)
	}
	if got := p.Listen[0].Address.V; got != ":1143" {
		t.Errorf("address is %q", got)
	}
	if got := p.Backends[0].V; got.Address.V != "mail1.example.org:143" || got.Weight.V != 7 {
		t.Errorf("backend is %+v", got)
	}
	if got := p.Login.Greeting.V; got != "${ADDRESS} $5 lion: [x]" {
		t.Errorf("greeting is %q: values must not be parsed as YAML", got)
	}
	want := []netip.Prefix{netip.MustParsePrefix("10.1.2.3/32"), netip.MustParsePrefix("2001:db8::/32")}
	if got := values(p.Login.ExemptNetworks); !slices.Equal(got, want) {
		t.Errorf("networks are %v", got)
	}
}

func TestExpandedValuesStayOutOfMessages(t *testing.T) {
	_, err := Parse("x.yaml", []byte(base+`log: {level: "${SECRET}"}`), sources(map[string]string{"SECRET": "hunter2"}, nil))
	if err == nil || strings.Contains(err.Error(), "hunter2") || !strings.Contains(err.Error(), "${SECRET}") {
		t.Errorf("error is %v", err)
	}
}

func TestAnchorsMayBeUsed(t *testing.T) {
	p, err := parse(t, "listen: [{address: ':143', tls: &none none}]\nbackends:\n  a: &a {address: 'a:1', tls: *none}\n  b: *a\nroute: {default: b}\n")
	if err != nil {
		t.Fatal(err)
	}
	if b := p.Backends[1]; b.Name.V != "b" || b.V.Address.V != "a:1" {
		t.Errorf("backend is %+v", b)
	}
}

func TestAliasesCannotBlowUp(t *testing.T) {
	list := strings.Repeat("::1,", 2000)
	listen := strings.Repeat("*l,", 2000)
	_, err := parse(t, "pools: {}\nlogin: {id: {}}\nlisten: [&l {address: ':0', tls: none, proxy_protocol: {from: ["+list+"]}},"+listen+"]\nbackends: {a: {address: 'a:1', tls: none}}\nroute: {default: a}\n")
	if err == nil || !strings.Contains(err.Error(), "too large") {
		t.Errorf("error is %.200v", err)
	}
}

func TestWarnings(t *testing.T) {
	p, err := parse(t, `listen: [{address: ":143", tls: none}]
backends:
  mail1: {address: "10.0.0.1:143", tls: none}
  mail2: {address: "10.0.0.2:993", tls: implicit, verify: none}
route: {default: mail1}
`)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"x.yaml:1:33: listener :143 accepts passwords in clear text (tls: none)",
		"x.yaml:3:41: passwords go to backend mail1 in clear text (tls: none)",
		"x.yaml:4:59: the certificate of backend mail2 is not verified (verify: none): whoever is on the path can read passwords",
	}
	if diff := cmp.Diff(want, lines(t, p.Warnings)); diff != "" {
		t.Errorf("warnings (-want +got):\n%s", diff)
	}
}

func TestEveryKeyIsDescribed(t *testing.T) {
	if _, err := parse(t, base); err != nil {
		t.Fatal(err) // the description itself panics when it is wrong
	}
	for _, k := range Reference() {
		if k.Help == "" || !strings.HasSuffix(k.Help, ".") {
			t.Errorf("%s: help is %q", k.Path, k.Help)
		}
		if k.Needed && k.Default != "" {
			t.Errorf("%s is needed and has a default", k.Path)
		}
	}
}

func TestNearest(t *testing.T) {
	for _, tc := range []struct {
		written    string
		candidates []string
		want       string
	}{
		{"addr", []string{"address", "tls"}, "address"},
		{"tlsname", []string{"tls", "tls_name"}, "tls_name"},
		{"TLS-Name", []string{"tls_name"}, "tls_name"},
		{"cert_file", []string{"cert", "key"}, "cert"},
		{"mail3", []string{"mail1", "mail2"}, ""},
		{"ab", []string{"xy"}, ""},
		{"", []string{"xy"}, ""},
		{"backend", []string{"backends", "listen"}, "backends"},
		{"ruote", []string{"route"}, "route"},
	} {
		if got := nearest(tc.written, tc.candidates); got != tc.want {
			t.Errorf("nearest(%q, %q) = %q, want %q", tc.written, tc.candidates, got, tc.want)
		}
	}
}

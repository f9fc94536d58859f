package main

import (
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"imapgate/proxy/proxytest"
)

func TestMistakesOnTheCommandLine(t *testing.T) {
	for _, tc := range []struct {
		args   string
		stderr string
	}{
		{"chekc", `imapgate: unknown command "chekc"; did you mean check?`},
		{"frobnicate", `imapgate: unknown command "frobnicate"; see "imapgate -h"`},
		{"check --confg x", `imapgate: unknown flag: --confg; see "imapgate check -h"`},
		{"check x", `imapgate: unexpected argument "x"; see "imapgate check -h"`},
		{"check -c", `imapgate: flag needs an argument: 'c' in -c; see "imapgate check -h"`},
		{"lookup", `imapgate: USER is missing; see "imapgate lookup -h"`},
		{"lookup -o xml alice", `imapgate: unknown output format "xml"; it is table or json`},
		{"version -o xml", `imapgate: unknown output format "xml"; it is table or json`},
		{"demo --tls-port x", `imapgate: invalid argument "x" for "--tls-port" flag: strconv.ParseInt: parsing "x": invalid syntax; see "imapgate demo -h"`},
		{"demo --tls-port 70000", `imapgate: 70000 is no port`},
		{"serve -c /nowhere/x.yaml", `imapgate: /nowhere/x.yaml: cannot read the configuration: no such file or directory`},
		{"check -c /nowhere/x.yaml", `imapgate: /nowhere/x.yaml: cannot read the configuration: no such file or directory`},
	} {
		t.Run(tc.args, func(t *testing.T) {
			code, stdout, stderr := command(t, strings.Fields(tc.args)...)
			if code != exitUsage || stdout != "" || stderr != tc.stderr+"\n" {
				t.Errorf("exit code %d, standard output %q, standard error:\n%swant 2 and:\n%s", code, stdout, stderr, tc.stderr)
			}
		})
	}
}

func TestHelpTeaches(t *testing.T) {
	code, stdout, stderr := command(t)
	if code != exitOK || stderr != "" {
		t.Errorf("no arguments: exit code %d, %q", code, stderr)
	}
	for _, sub := range newRoot().Commands() {
		if !strings.Contains(stdout, "  "+sub.Name()) {
			t.Errorf("the help does not name %s", sub.Name())
		}
		code, help, _ := command(t, sub.Name(), "-h")
		if code != exitOK || !strings.Contains(help, "Examples:") || !strings.Contains(help, sub.Long) || len(sub.Long) < 100 {
			t.Errorf("%s -h: exit code %d\n%s", sub.Name(), code, help)
		}
	}
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, script, _ := command(t, "completion", shell); code != exitOK || !strings.Contains(script, "imapgate") {
			t.Errorf("completion %s: exit code %d", shell, code)
		}
	}
}

func TestVersion(t *testing.T) {
	code, stdout, _ := command(t, "version", "-o", "json")
	var b buildInfo
	if err := json.Unmarshal([]byte(stdout), &b); err != nil || code != exitOK || b.Version == "" || b.Go == "" || b.Platform == "" {
		t.Errorf("exit code %d, %v: %s", code, err, stdout)
	}
	if code, stdout, _ = command(t, "version"); code != exitOK || !strings.HasPrefix(stdout, "imapgate "+b.Version) {
		t.Errorf("exit code %d: %s", code, stdout)
	}
}

// site writes a configuration with certificates and a table, and returns its
// path.
func site(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	proxytest.WritePair(t, dir, "cert", proxytest.NewCA(t).Issue(t, proxytest.CertOptions{}))
	writeFiles(t, dir, map[string]string{
		"users.map": "alice@example.org mail1\nbob@example.org mail2 login=bob.smith\n@example.com both\n",
		"imapgate.yaml": `listen: [{address: "127.0.0.1:0", tls: implicit}]
tls: {certificates: [{cert: cert.pem, key: cert.key}]}
backends:
  mail1: {address: "10.0.0.1:993", tls: implicit}
  mail2: {address: "10.0.0.2:143", tls: none}
pools:
  both: {backends: [mail1, mail2], shared: true}
route: {tables: [users.map]}
login: {default_domain: example.org, master_separator: "*"}
`,
	})
	return filepath.Join(dir, "imapgate.yaml")
}

func TestCheckSumsUpAGoodConfiguration(t *testing.T) {
	path := site(t)
	code, stdout, stderr := command(t, "check", "-c", path)
	want := path + ` is good
listeners     127.0.0.1:0 (implicit)
certificates  localhost 127.0.0.1 ::1 (ECDSA, until 2099-01-01)
backends      mail1, mail2
pools         both
table         2 users, 1 domain, everybody else: refused
`
	if diff := cmp.Diff(want, stdout); diff != "" || code != exitOK {
		t.Errorf("exit code %d (-want +got):\n%s", code, diff)
	}
	if want := "imapgate: warning: " + path + ":5:41: passwords go to backend mail2 in clear text (tls: none)\n"; !strings.HasPrefix(stderr, want) {
		t.Errorf("standard error is\n%swant\n%s", stderr, want)
	}
}

func TestCheckReportsEveryMistake(t *testing.T) {
	path := site(t)
	writeFiles(t, filepath.Dir(path), map[string]string{"imapgate.yaml": `listen: [{address: "127.0.0.1:0", tls: implicid}]
tls: {certificates: [{cert: cert.pem, key: cert.key}]}
backends:
  mail1: {addr: "10.0.0.1:993", tls: implicit}
pools:
  both: {backends: [mail1, mail2]}
route: {tables: [users.map], default: botth}
login: {timeout: 60}
`})
	code, stdout, stderr := command(t, "check", "-c", path)
	want := strings.ReplaceAll(`imapgate: PATH:1:40: listen[0].tls: "implicid" is not valid (did you mean "implicit"?)
     1 | listen: [{address: "127.0.0.1:0", tls: implicid}]
       |                                        ^^^^^^^^
imapgate: PATH:4:11: unknown key "addr" in backends.mail1 (did you mean "address"?)
     4 |   mail1: {addr: "10.0.0.1:993", tls: implicit}
       |           ^^^^
imapgate: PATH:6:28: pool both: "mail2" is no backend (did you mean "mail1"?)
     6 |   both: {backends: [mail1, mail2]}
       |                            ^^^^^
imapgate: PATH:7:39: route.default: "botth" is neither a backend nor a pool (did you mean "both"?)
     7 | route: {tables: [users.map], default: botth}
       |                                       ^^^^^
imapgate: PATH:8:18: login.timeout: "60" is not valid (a unit is missing: write "60s")
     8 | login: {timeout: 60}
       |                  ^^
imapgate: 5 errors
`, "PATH", path)
	if diff := cmp.Diff(want, stderr); diff != "" || code != exitUsage || stdout != "" {
		t.Errorf("exit code %d, standard output %q (-want +got):\n%s", code, stdout, diff)
	}
}

func TestCheckReportsTablesAndCertificatesTogether(t *testing.T) {
	path := site(t)
	dir := filepath.Dir(path)
	if err := os.Remove(filepath.Join(dir, "cert.key")); err != nil {
		t.Fatal(err)
	}
	writeFiles(t, dir, map[string]string{"users.map": "alice@example.org mail9\n"})
	code, _, stderr := command(t, "check", "-c", path)
	if code != exitUsage ||
		!strings.Contains(stderr, "imapgate: "+path+":2:44: cannot read "+dir+"/cert.key: no such file or directory\n") ||
		!strings.Contains(stderr, "imapgate: "+dir+"/users.map:1:19: ") {
		t.Errorf("exit code %d:\n%s", code, stderr)
	}
}

func TestAnUnreadableKeyIsOneClearLine(t *testing.T) {
	path := site(t)
	dir := filepath.Dir(path)
	if err := os.Remove(filepath.Join(dir, "cert.key")); err != nil {
		t.Fatal(err)
	}
	for _, cmd := range []string{"serve", "check"} {
		code, stdout, stderr := command(t, cmd, "-c", path)
		want := "imapgate: " + path + ":2:44: cannot read " + dir + "/cert.key: no such file or directory\n"
		if code != exitUsage || stdout != "" || stderr != want {
			t.Errorf("%s: exit code %d, standard error:\n%swant\n%s", cmd, code, stderr, want)
		}
	}
}

func TestAPortInUseIsOneClearLine(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	path := site(t)
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	writeFiles(t, filepath.Dir(path), map[string]string{
		"imapgate.yaml": strings.Replace(string(text), "127.0.0.1:0", l.Addr().String(), 1),
	})
	code, stdout, stderr := command(t, "serve", "-c", path)
	want := "imapgate: " + path + ":1:20: cannot listen on " + l.Addr().String() + ": address already in use (another process listens there: see ss -ltnp)\n"
	if code != exitFailed || stdout != "" || stderr != want {
		t.Errorf("exit code %d, standard error:\n%swant\n%s", code, stderr, want)
	}
}

func TestLookup(t *testing.T) {
	path := site(t)
	dir := filepath.Dir(path)
	code, stdout, _ := command(t, "lookup", "-c", path, "BOB*admin")
	want := `user     BOB
master   admin
key      bob@example.org
backend  mail2
address  10.0.0.2:143
reason   user
source   ` + dir + `/users.map:2
login    bob.smith*admin
`
	if diff := cmp.Diff(want, stdout); diff != "" || code != exitOK {
		t.Errorf("exit code %d (-want +got):\n%s", code, diff)
	}

	code, stdout, _ = command(t, "lookup", "-c", path, "-o", "json", "carol@sub.example.com")
	var a answer
	if err := json.Unmarshal([]byte(stdout), &a); err != nil || code != exitOK {
		t.Fatalf("exit code %d, %v: %s", code, err, stdout)
	}
	if a.Pool != "both" || a.Reason != "domain" || a.Source != dir+"/users.map:3" || len(a.Failover) != 1 || a.Failover[0] == a.Backend || a.Login != "carol@sub.example.com" {
		t.Errorf("answer is %+v", a)
	}

	code, stdout, stderr := command(t, "lookup", "-c", path, "mallory")
	if code != exitNotFound || stdout != "" || stderr != "imapgate: mallory: unknown user: there is no row for mallory@example.org, none for its domain, and no default\n" {
		t.Errorf("exit code %d, %q, %q", code, stdout, stderr)
	}
}

func TestLookupNeedsNoCertificates(t *testing.T) {
	path := site(t)
	if err := os.Remove(filepath.Join(filepath.Dir(path), "cert.key")); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := command(t, "lookup", "-c", path, "alice"); code != exitOK {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"imapgate/cmd/imapgate/internal/admin"
	"imapgate/proxy/proxytest"
)

// newAdminPlant is a plant with an API, on TCP too if more keys say so.
func newAdminPlant(t *testing.T, tcp string) *plant {
	t.Helper()
	p := newPlant(t)
	p.tail = "admin: {socket: admin.sock" + tcp + "}\nstate_dir: .\nclose_spread: 1ms\n"
	p.writeConfig(t)
	return p
}

// ask runs a command that must succeed, and returns what it printed.
func (p *plant) ask(t *testing.T, args ...string) string {
	t.Helper()
	code, stdout, stderr := command(t, append(args, "-c", p.path())...)
	if code != exitOK {
		t.Fatalf("%s: exit code %d\n%s%s", args, code, stdout, stderr)
	}
	return stdout
}

// route asks where a user is sent.
func (p *plant) route(t *testing.T, user string) admin.Route {
	t.Helper()
	var r admin.Route
	if err := json.Unmarshal([]byte(p.ask(t, "lookup", "--explain", user, "-o", "json")), &r); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestChangesSurviveKillAndReload(t *testing.T) {
	p := newAdminPlant(t, "")
	proc := p.serving(t)
	p.ask(t, "drain", "mail2", "--why", "kernel", "--until", "2h", "--deadline", "1h")
	p.ask(t, "weight", "mail1", "7")
	p.ask(t, "pin", "alice@example.org", "mail2", "--why", "ticket")
	p.ask(t, "hold", "alice@example.org")
	p.ask(t, "reload")
	before := p.ask(t, "status", "-o", "json")
	if err := proc.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	proc.waitExit(t)

	// The socket that it left is replaced.
	proc = p.serving(t)
	var old, now fullStatus
	for text, s := range map[string]*fullStatus{before: &old, p.ask(t, "status", "-o", "json"): &now} {
		if err := json.Unmarshal([]byte(text), s); err != nil {
			t.Fatal(err)
		}
	}
	if len(now.Overrides) != 4 || fmt.Sprint(now.Overrides) != fmt.Sprint(old.Overrides) || now.Status.PID == old.Status.PID {
		t.Errorf("before:\n%+v\nafter:\n%+v", old.Overrides, now.Overrides)
	}
	if out := p.ask(t, "backends"); !strings.Contains(out, "mail2: drain by ") || !strings.Contains(out, "kernel; maint in ") {
		t.Errorf("the deadline is gone:\n%s", out)
	}
	p.ask(t, "release", "alice@example.org")
	p.ask(t, "ready", "mail2")
	proc.loginAt(t, p.listen[0], "alice@example.org", "mail2")
	if r := p.route(t, "alice@example.org"); r.Backend != "mail2" || r.Reason != "pin" || r.Pin.Why != "ticket" {
		t.Errorf("alice: %+v", r)
	}
	proc.signal(t, syscall.SIGTERM)
	if code := proc.waitExit(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Lstat(filepath.Join(p.dir, "admin.sock")); err == nil {
		t.Error("the socket is still there")
	}
	if code, _, stderr := command(t, "status", "-c", p.path()); code != exitUnreachable {
		t.Errorf("exit code %d: %s", code, stderr)
	}
}

// loginAt tries a login that goes to a backend which does not know the user.
func (p *process) loginAt(t *testing.T, address, user, backend string) {
	t.Helper()
	c, err := connect(t, address, 0)
	if err != nil {
		t.Fatal(err)
	}
	c.do(t, "LOGIN "+user+" "+demoPassword)
	if failed := p.waitLine(t, "login failed"); failed["backend"] != backend || failed["result"] != "rejected" {
		t.Errorf("login of %s: %v", user, failed)
	}
}

func TestMoveEndsSessionsAndSendsTheUserOn(t *testing.T) {
	p := newAdminPlant(t, "")
	proc := p.serving(t)
	old := login(t, p.listen[0], "alice@example.org")
	if out := p.ask(t, "move", "alice@example.org", "mail2", "--dry-run"); !strings.Contains(out, "would end 1 session") {
		t.Errorf("dry run: %s", out)
	}
	if reply := old.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
		t.Errorf("after the dry run: %s", reply)
	}
	if out := p.ask(t, "move", "alice@example.org", "mail2"); out != "alice@example.org: moved from mail1 to mail2, ended 1 session\n" {
		t.Errorf("move: %s", out)
	}
	old.expect(t, "* BYE [UNAVAILABLE] ")
	proc.loginAt(t, p.listen[0], "alice@example.org", "mail2")
	p.ask(t, "unpin", "alice@example.org")
	login(t, p.listen[0], "alice@example.org")
	if out := p.ask(t, "who", "127.0.0.0/8"); !strings.Contains(out, "alice@example.org  mail1    127.0.0.1  1.3") {
		t.Errorf("who:\n%s", out)
	}
	if code, _, _ := command(t, "who", "--backend", "mail2", "-c", p.path()); code != exitNotFound {
		t.Errorf("who at mail2: exit code %d", code)
	}
}

func TestKickAndMaintEndSessions(t *testing.T) {
	p := newAdminPlant(t, "")
	p.writeTable(t, "alice@example.org mail1\nbob@example.org mail2\n")
	p.serving(t)
	alice, bob := login(t, p.listen[0], "alice@example.org"), login(t, p.listen[0], "bob@example.org")
	if out := p.ask(t, "kick", "b*", "--rate", "100/s"); out != "1 session told to end\n" {
		t.Errorf("kick: %s", out)
	}
	bob.expect(t, "* BYE [UNAVAILABLE] ")
	if out := p.ask(t, "maint", "mail1", "--why", "disk"); out != "mail1 is in maintenance; being ended: 1 session of 1 user\n" {
		t.Errorf("maint: %s", out)
	}
	alice.expect(t, "* BYE [UNAVAILABLE] ")
	c, err := connect(t, p.listen[0], 0)
	if err != nil {
		t.Fatal(err)
	}
	if reply := c.do(t, "LOGIN alice@example.org "+demoPassword); !strings.HasPrefix(reply, "t NO [UNAVAILABLE]") {
		t.Errorf("login during maintenance: %s", reply)
	}
	if r := p.route(t, "alice@example.org"); r.Unavailable != "backend mail1: maint" {
		t.Errorf("route: %+v", r)
	}
}

func TestReloadSaysWhatIsWrong(t *testing.T) {
	p := newAdminPlant(t, "")
	p.writeTable(t, "a@example.org mail1\nb@example.org mail1\nc@example.org mail1\n")
	p.serving(t)
	p.ask(t, "reload")
	good, err := os.ReadFile(p.path())
	if err != nil {
		t.Fatal(err)
	}
	bad := strings.Replace(string(good), "tls: implicit, tls_name", "tls: implicid, tls_name", 1)
	bad = strings.Replace(bad, "log: {format", "log: {fromat", 1)
	writeFiles(t, p.dir, map[string]string{"imapgate.yaml": bad})
	code, stdout, stderr := command(t, "reload", "-c", p.path())
	if code != exitUsage || stdout != "" || strings.Count(stderr, "\n") != 3 ||
		!strings.HasPrefix(stderr, "imapgate: the configuration is refused, the old one stays in force\n  "+p.path()+":") ||
		!strings.Contains(stderr, `did you mean "implicit"?`) || !strings.Contains(stderr, `did you mean "format"?`) {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	writeFiles(t, p.dir, map[string]string{"imapgate.yaml": string(good)})

	var reloads admin.Reloads
	c := admin.NewClient(filepath.Join(p.dir, "admin.sock"), "")
	defer c.Close()
	p.writeTable(t, "a@example.org mail1\n")
	code, _, stderr = command(t, "reload", "-c", p.path())
	if code != exitUsage || !strings.Contains(stderr, "drops 2 of the 3 in force") {
		t.Errorf("a table that lost most of its rows: exit code %d\n%s", code, stderr)
	}
	if out := p.ask(t, "reload", "--force"); !strings.HasSuffix(out, "the table has 1 row\n") {
		t.Errorf("forced: %s", out)
	}
	if err := c.Get(t.Context(), "/v1/reloads", nil, &reloads); err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, r := range reloads.Reloads {
		if r.What == admin.ReloadedConfiguration {
			seen = append(seen, fmt.Sprint(r.OK, len(r.Errors)))
		}
	}
	if got := strings.Join(seen, ", "); got != "true 0, false 1, false 2, true 0, true 0" {
		t.Errorf("reloads, newest first: %s", got)
	}
}

func TestDiffComparesWithTheTableInForce(t *testing.T) {
	p := newAdminPlant(t, "")
	p.serving(t)
	login(t, p.listen[0], "alice@example.org")
	writeFiles(t, p.dir, map[string]string{"next.map": "alice@example.org mail2\nbob@example.org mail2\n", "bad.map": "alice@example.org mail9\n"})
	out := p.ask(t, "diff", filepath.Join(p.dir, "next.map"))
	for _, want := range []string{"rows added                  1\n", "users with another backend  2\n", "their sessions now          1\n", "~  alice@example.org  mail1  mail2  next.map:1\n"} {
		if !strings.Contains(out, want) {
			t.Errorf("%s\ndoes not have %q", out, want)
		}
	}
	code, _, stderr := command(t, "diff", filepath.Join(p.dir, "bad.map"), "-c", p.path())
	if code != exitUsage || !strings.Contains(stderr, "  bad.map:1:19: ") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	code, _, stderr = command(t, "diff", filepath.Join(p.dir, "next.map"), "--replaces", "other.map", "-c", p.path())
	if code != exitUsage || !strings.Contains(stderr, "the configuration has no table other.map") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
	if code, _, _ := command(t, "lookup", "--explain", "bob@example.org", "-c", p.path()); code != exitNotFound {
		t.Errorf("the table changed: exit code %d", code)
	}
}

// fetch sends a GET request and returns its status code and answer.
func fetch(t *testing.T, address, path, token string) (int, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestTheAPIOverTCP(t *testing.T) {
	address := proxytest.FreeAddress(t)
	p := newAdminPlant(t, fmt.Sprintf(", http: %q, token_file: tokens", address))
	const first, second = "0123456789abcdef", "fedcba9876543210"
	writeFiles(t, p.dir, map[string]string{"tokens": "prometheus " + first + "\n"})
	proc := p.serving(t)
	session := login(t, p.listen[0], "alice@example.org")
	if code, body := fetch(t, address, "/readyz", ""); code != http.StatusOK {
		t.Errorf("readyz: %d %s", code, body)
	}
	if code, _ := fetch(t, address, "/metrics", ""); code != http.StatusUnauthorized {
		t.Errorf("metrics without a token: %d", code)
	}
	code, body := fetch(t, address, "/metrics", first)
	for _, want := range []string{
		`imapgate_sessions_active{backend="mail1"} 1`, `imapgate_backend_up{backend="mail2"} 1`, `imapgate_table_rows{kind="user"} 1`,
		`imapgate_config_last_reload_successful 1`, `imapgate_cert_expiry_timestamp_seconds{name="localhost"} `, `imapgate_route_decisions_total{reason="user"} 1`,
		`imapgate_backend_connect_duration_seconds_count{backend="mail1"} `,
	} {
		if code != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("metrics: %d, no %s", code, want)
		}
	}

	// Other tokens, and what needs a restart.
	writeFiles(t, p.dir, map[string]string{"tokens": second + "\n"})
	p.tail = strings.Replace(p.tail, "state_dir: .", "state_dir: ..", 1)
	p.writeConfig(t)
	p.ask(t, "reload")
	proc.waitLine(t, "state_dir changes with a restart only")
	if code, _ := fetch(t, address, "/v1/status", first); code != http.StatusUnauthorized {
		t.Errorf("the old token: %d", code)
	}
	if code, _ := fetch(t, address, "/v1/status", second); code != http.StatusOK {
		t.Errorf("the new token: %d", code)
	}
	writeFiles(t, p.dir, map[string]string{"tokens": "short\n"})
	if code, _, stderr := command(t, "check", "-c", p.path()); code != exitUsage || !strings.Contains(stderr, "admin.token_file cannot be used: ") {
		t.Errorf("check: exit code %d\n%s", code, stderr)
	}

	if reply := session.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
		t.Errorf("the session: %s", reply)
	}
	proc.signal(t, syscall.SIGTERM)
	session.expect(t, "* BYE ")
	if code := proc.waitExit(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

func TestReadinessFollowsShutdown(t *testing.T) {
	address := proxytest.FreeAddress(t)
	p := newAdminPlant(t, fmt.Sprintf(", http: %q", address))
	stuck := startStuckBackend(t)
	p.extra = fmt.Sprintf("  stuck: {address: %q, tls: none}\n", stuck.Addr())
	p.writeTable(t, "carol@example.org stuck\n")
	p.writeConfig(t)
	proc := p.serving(t)
	c := login(t, p.listen[0], "carol@example.org")
	c.expect(t, "* 1 FETCH ") // its literal never ends: the shutdown takes a while
	proc.signal(t, syscall.SIGTERM)
	proc.waitLine(t, "shutting down")
	code, body := 0, ""
	for code != http.StatusServiceUnavailable {
		code, body = fetch(t, address, "/readyz", "")
	}
	if !strings.HasPrefix(body, "not ready: it is shutting down") {
		t.Errorf("readyz: %s", body)
	}
	if code, _, stderr := command(t, "reload", "-c", p.path()); code != exitFailed && code != exitUsage || !strings.Contains(stderr, "shutting down") {
		t.Errorf("reload: exit code %d\n%s", code, stderr)
	}
	if code := proc.waitExit(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// A deadline that has passed while nobody served, and changes of a backend that is
// not configured.
func TestOverdueAndStaleChangesAtTheStart(t *testing.T) {
	p := newAdminPlant(t, "")
	writeFiles(t, p.dir, map[string]string{"overrides.json": `{"version":1,"overrides":[
{"kind":"admin","name":"mail2","value":"drain","by":"ops","since":"2026-01-01T00:00:00Z","deadline":"2026-01-01T01:00:00Z"},
{"kind":"admin","name":"mail9","value":"drain","by":"ops","since":"2026-01-01T00:00:00Z"},
{"kind":"pin","name":"alice@example.org","value":"mail9","by":"ops","since":"2026-01-01T00:00:00Z"},
{"kind":"weight","name":"mail9","value":"7","by":"ops","since":"2026-01-01T00:00:00Z"}]}`})
	proc := startProcess(t, "serve", "-c", p.path())
	for _, want := range []string{"mail9", "alice@example.org", "mail9"} {
		if line := proc.waitLine(t, "change of a backend that is not configured"); line["name"] != want {
			t.Errorf("want %s: %v", want, line)
		}
	}
	proc.waitLine(t, "drain: deadline")
	if out := p.ask(t, "status"); strings.Count(out, " *  ") != 3 || !strings.Contains(out, "  * stale: no such backend is configured (any more)\n") {
		t.Errorf("status:\n%s", out)
	}
	if out := p.ask(t, "backends"); !strings.Contains(out, "mail2    maint") {
		t.Errorf("backends:\n%s", out)
	}
	if code, out, _ := command(t, "__complete", "ready", "-c", p.path(), ""); code != exitOK || out != "mail2\nmail9\n:4\n" {
		t.Errorf("completion of ready: %d\n%s", code, out)
	}
	if out := p.ask(t, "ready", "mail9"); out != "mail9 is not configured, and nothing is left of its drain\n" {
		t.Errorf("ready: %s", out)
	}
	p.ask(t, "weight", "mail9", "default")
	p.ask(t, "unpin", "alice@example.org")
	p.ask(t, "ready", "mail2")
	if out := p.ask(t, "status"); !strings.Contains(out, "changes      0, kept in ") {
		t.Errorf("status:\n%s", out)
	}
	if code, _, stderr := command(t, "ready", "mail9", "-c", p.path()); code != exitNotFound {
		t.Errorf("ready again: %d %s", code, stderr)
	}
}

func TestBrokenStateIsAnErrorAtTheStart(t *testing.T) {
	p := newAdminPlant(t, "")
	writeFiles(t, p.dir, map[string]string{"overrides.json": `{"version":1,"overrides":[{"kind":"admin"`})
	code, _, stderr := command(t, "serve", "-c", p.path())
	if code != exitUsage || !strings.Contains(stderr, "imapgate.yaml:11:12: state_dir cannot be used: load overrides: "+p.dir+"/overrides.json: unexpected EOF") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}

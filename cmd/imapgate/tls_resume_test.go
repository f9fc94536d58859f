package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"imapgate/proxy/proxytest"
)

// resumed logs in and says whether that was with the keys of an earlier session.
func (p *tlsPlant) resumed(t *testing.T, address string, conf *tls.Config) bool {
	t.Helper()
	c, state, err := connectTLS(t, address, false, conf)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	// With TLS 1.3 the ticket comes behind the handshake.
	if reply := c.do(t, "LOGIN alice@example.org "+demoPassword); !strings.HasPrefix(reply, "t OK") {
		t.Fatal(reply)
	}
	return state.DidResume
}

func TestSessionsAreResumedAfterARestartAndAtAnotherProxy(t *testing.T) {
	p := newTLSPlant(t)
	p.tls = ", ticket_keys: tickets"
	admin := proxytest.FreeAddress(t)
	p.tail = fmt.Sprintf("admin: {http: %q}\n", admin)
	p.writeConfig(t)
	keys := filepath.Join(p.dir, "tickets")
	rotate := func(want string) {
		t.Helper()
		code, stdout, stderr := command(t, "ticket-key", "rotate", "-c", p.path())
		if want = keys + ": " + want + "\n"; code != exitOK || stdout != want || stderr != "" {
			t.Fatalf("exit code %d, %q, %q; want %q", code, stdout, stderr, want)
		}
	}
	if code, _, stderr := command(t, "check", "-c", p.path()); code != exitUsage || !strings.Contains(stderr, "tickets: no such file (imapgate ticket-key rotate makes it)") {
		t.Errorf("without the file: exit code %d, %s", code, stderr)
	}
	rotate("created, with a key in use and the next one")

	second := newTLSPlant(t)
	second.ca, second.tls = p.ca, fmt.Sprintf(", ticket_keys: %q", keys)
	second.writeConfig(t)

	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		first := p.serving(t)
		other := second.serving(t)
		user := &tls.Config{InsecureSkipVerify: true, ServerName: "localhost", MaxVersion: version, ClientSessionCache: tls.NewLRUClientSessionCache(0)}
		want := func(where, address string, want bool) {
			t.Helper()
			if got := p.resumed(t, address, user); got != want {
				t.Errorf("%s, %s: resumed is %v, want %v", tls.VersionName(version), where, got, want)
			}
		}
		want("at first", p.listen[0], false)
		want("again", p.listen[0], true)
		want("at another proxy", second.listen[0], true)
		if got := handshakes(t, admin, tls.VersionName(version), "resumed"); got != "1" {
			t.Errorf("%s resumed handshakes are counted", got)
		}

		// The keys are changed while both serve.
		rotate(fmt.Sprintf("a new key is in use, there is a new next one, and %s may still be resumed with", map[uint16]string{
			tls.VersionTLS12: "1 previous key", tls.VersionTLS13: "2 previous keys",
		}[version]))
		first.waitLine(t, "session ticket keys reloaded")
		other.waitLine(t, "session ticket keys reloaded")
		want("with other keys", p.listen[0], true)

		for _, proc := range []*process{first, other} {
			proc.signal(t, syscall.SIGTERM)
			if code := proc.waitExit(t); code != exitOK {
				t.Errorf("exit code %d", code)
			}
		}
		first = p.serving(t)
		want("after a restart", p.listen[0], true)

		good := readFile(t, keys)
		writeFiles(t, p.dir, map[string]string{"tickets": "current key\n"})
		line := first.waitLine(t, "session ticket keys not reloaded, the old ones stay")
		if text := fmt.Sprint(line["error"]); text != "session ticket keys "+keys+": line 1: is not a role, a time and a key; the keys loaded before stay in use" {
			t.Errorf("logged: %s", text)
		}
		want("with a bad file", p.listen[0], true)
		writeFiles(t, p.dir, map[string]string{"tickets": good})
		first.waitLine(t, "session ticket keys reloaded")
		first.signal(t, syscall.SIGTERM)
		first.waitExit(t)
	}
}

// handshakes returns a counter of TLS handshakes.
func handshakes(t *testing.T, admin, version, result string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+admin+"/metrics", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	re := regexp.MustCompile(`(?m)^imapgate_tls_handshakes_total\{listener="[^"]*",result="` + result + `",version="` + regexp.QuoteMeta(version) + `"\} (\S+)$`)
	found := re.FindSubmatch(body)
	if found == nil {
		return "no"
	}
	return string(found[1])
}

func TestTicketKeyRotateSaysWhatIsWrong(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{"none.yaml": "tls: {}\n", "keys": "secret\n"})
	for name, test := range map[string]struct {
		args []string
		code int
		want string
	}{
		"no key in the configuration": {[]string{"-c", dir + "/none.yaml"}, exitUsage, "which file? " + dir + "/none.yaml: it has no tls.ticket_keys"},
		"no configuration":            {[]string{"-c", dir + "/x.yaml"}, exitUsage, "which file? " + dir + "/x.yaml: no such file or directory"},
		"a file of something else":    {[]string{dir + "/keys"}, exitFailed, "session ticket keys " + dir + "/keys: line 1: is not a role, a time and a key"},
		"too many keys":               {[]string{dir + "/new", "--keep", "31"}, exitUsage, "--keep 31 is not a number from 0 to 30"},
		"two files":                   {[]string{"a", "b"}, exitUsage, `unexpected argument "b"; see "imapgate ticket-key rotate -h"`},
		"no directory":                {[]string{dir + "/none/keys"}, exitFailed, "write session ticket keys: "},
	} {
		code, stdout, stderr := command(t, append([]string{"ticket-key", "rotate"}, test.args...)...)
		if code != test.code || stdout != "" || !strings.HasPrefix(stderr, "imapgate: "+test.want) {
			t.Errorf("%s: exit code %d, %q, %q", name, code, stdout, stderr)
		}
	}
	if code, _, stderr := command(t, "ticket-key", "rotat"); code != exitUsage {
		t.Errorf("exit code %d, %q", code, stderr)
	}
}

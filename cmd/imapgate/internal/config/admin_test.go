package config

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"imapgate/proxy"
)

func TestHealthOfAPoolCompletesThatOfAll(t *testing.T) {
	c, _, err := compileFile(t, `listen: [{address: ":143", tls: none}]
backends:
  alone: {address: "10.0.0.1:143", tls: none}
  often: {address: "10.0.0.2:143", tls: none}
  both: {address: "10.0.0.3:143", tls: none}
pools:
  plain: {backends: [both]}
  watched: {backends: [often, both], health: {interval: 2s, fall: 5, user: probe, password_file: secret}}
route: {default: alone}
health: {interval: 20s, rise: 4}
close_spread: 1m
`)
	if err != nil {
		t.Fatal(err)
	}
	all := proxy.Check{Interval: 20 * time.Second, Rise: 4, Fall: 3}
	often := proxy.Check{Interval: 2 * time.Second, Rise: 4, Fall: 5, User: "probe", Pools: []string{"watched"}}
	both := often
	both.Pools = []string{"plain", "watched"}
	got := c.Proxy.Checks
	for name, ck := range got {
		if ck.Password.Empty() != (ck.User == "") {
			t.Errorf("%s: user %q, password %v", name, ck.User, ck.Password.Empty())
		}
		ck.Password = proxy.Secret{}
		got[name] = ck
	}
	want := map[string]proxy.Check{"alone": all, "often": often, "both": both}
	ignore := cmp.FilterValues(func(_, _ proxy.Secret) bool { return true }, cmp.Ignore())
	if diff := cmp.Diff(want, got, ignore); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(all, c.Proxy.Check, ignore); diff != "" || c.Proxy.CloseSpread != time.Minute {
		t.Errorf("close_spread %s (-want +got):\n%s", c.Proxy.CloseSpread, diff)
	}
}

func TestAffinity(t *testing.T) {
	for text, want := range map[string]time.Duration{"": 15 * time.Minute, ", affinity: 1h": time.Hour, ", affinity: 0s": -1} {
		p, err := parse(t, strings.Replace(base, "default: mail1", "default: mail1"+text, 1))
		if err != nil {
			t.Fatal(err)
		}
		if got := p.definition().Affinity; got != want {
			t.Errorf("%q: %s, want %s", text, got, want)
		}
	}
}

func TestTheStateDirectoryMustBeThere(t *testing.T) {
	const file = "listen: [{address: ':143', tls: none}]\nbackends: {a: {address: 'a:1', tls: none}}\nroute: {default: a}\nstate_dir: "
	c, path, err := compileFile(t, file+".\n")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.OverridesPath(), filepath.Join(filepath.Dir(path), "overrides.json"); got != want {
		t.Errorf("overrides are in %s, want %s", got, want)
	}
	for value, want := range map[string]string{"nowhere": "no such file or directory", "secret": "it is not a directory"} {
		_, path, err := compileFile(t, file+value+"\n")
		want = path + ":4:12: cannot use state_dir " + filepath.Join(filepath.Dir(path), value) + ": " + want
		if diff := cmp.Diff([]string{want}, lines(t, err)); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

func TestTokensInClearTextAreWarnedAbout(t *testing.T) {
	for _, address := range []string{"127.0.0.1:9143", "[::1]:9143", "localhost:9143", "10.0.0.1:9143"} {
		p, err := parse(t, base+"admin: {http: \""+address+"\", token_file: x}\n")
		if err != nil {
			t.Fatal(err)
		}
		warned := slices.ContainsFunc(p.Warnings, func(e *Error) bool { return strings.Contains(e.Msg, "admin.http") })
		if warned != (address == "10.0.0.1:9143") {
			t.Errorf("%s: %v", address, p.Warnings)
		}
	}
}

func TestTheSocketIsFoundInABrokenFile(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "x.yaml")
	for text, want := range map[string]string{
		base + "admin: {socket: /run/x.sock}\n":                                  "/run/x.sock",
		base + "admin: {socket: x.sock}\n":                                       filepath.Join(dir, "x.sock"),
		"listen: 5\nadmin: {sokcet: y, socket: \"${SOCKET}\"}\nroute: ${file:x}": "/run/env.sock",
	} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		src := System()
		src.LookupEnv = sources(map[string]string{"SOCKET": "/run/env.sock"}, nil).LookupEnv
		if got, err := FindSocket(path, src); got != want || err != nil {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
		p, err := Load(path, src)
		if err == nil && p.SocketPath() != want {
			t.Errorf("SocketPath is %q, want %q", p.SocketPath(), want)
		}
	}
	for text, want := range map[string]string{
		base: "it has no admin.socket", "{}": "it has no admin.socket", "admin: [": "it is not valid YAML",
		"admin: {socket: \"${NOBODY}\"}": "environment variable NOBODY is not set",
	} {
		_, err := FindSocket("/x", sources(nil, map[string]string{"/x": text}))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
	if _, err := FindSocket("/nowhere", sources(nil, nil)); err == nil || err.Error() != "file does not exist" {
		t.Errorf("no file: %v", err)
	}
}

func TestDrainDelayIsAPartOfTheShutdown(t *testing.T) {
	for text, want := range map[string]string{
		"{timeout: 10s, drain_delay: 9s}":  "",
		"{timeout: 10s, drain_delay: 10s}": "drain_delay 10s leaves nothing of shutdown.timeout 10s (raise shutdown.timeout too)",
		"{drain_delay: 1m}":                "drain_delay 1m0s leaves nothing of shutdown.timeout 30s (raise shutdown.timeout too)",
	} {
		_, err := parse(t, base+"shutdown: "+text+"\n")
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.HasSuffix(strings.Join(lines(t, err), "\n"), want)):
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

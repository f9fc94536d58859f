package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"imapgate/proxy/proxytest"
)

func readFile(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func TestBackendsAreVerifiedWithTheFilesAsTheyAre(t *testing.T) {
	p := newPlant(t)
	p.tail = "health: {interval: 0s}\n"
	p.writeConfig(t)
	proc := p.serving(t)
	want := func(when, reply string) {
		t.Helper()
		c, err := connect(t, p.listen[0], 0)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if got := c.do(t, "LOGIN alice@example.org "+demoPassword); !strings.HasPrefix(got, "t "+reply) {
			t.Errorf("%s: %s", when, got)
		}
	}
	session := login(t, p.listen[0], "alice@example.org")
	ours := readFile(t, filepath.Join(p.dir, "authority.pem"))

	writeFiles(t, p.dir, map[string]string{"authority.pem": ours[:len(ours)/2]})
	for range 2 { // each backend has the file
		line := proc.waitLine(t, "TLS files of a backend not reloaded, the old ones stay")
		text := fmt.Sprint(line["error"])
		if !strings.HasPrefix(text, "CA "+filepath.Join(p.dir, "authority.pem")+": holds ") || !strings.HasSuffix(text, "; what was loaded before stays in use") {
			t.Errorf("logged: %s", text)
		}
	}
	want("with half a file", "OK")

	other := t.TempDir()
	writeFiles(t, p.dir, map[string]string{"authority.pem": readFile(t, proxytest.NewCA(t).WritePEM(t, other))})
	proc.waitLine(t, "TLS files of a backend reloaded")
	proc.waitLine(t, "TLS files of a backend reloaded")
	want("with another authority", "NO [SERVERBUG]")

	writeFiles(t, p.dir, map[string]string{"authority.pem": ours})
	proc.waitLine(t, "TLS files of a backend reloaded")
	proc.waitLine(t, "TLS files of a backend reloaded")
	want("with the first again", "OK")
	if reply := session.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
		t.Errorf("the session from before: %s", reply)
	}
}

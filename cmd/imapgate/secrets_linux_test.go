package main

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"imapgate/proxy/proxytest"
)

// TestSecretsAreGoneFromMemory logs in in every way, with secrets that are nowhere
// else, rightly and wrongly, and looks for them in all memory of the process while
// the connections are still there.
func TestSecretsAreGoneFromMemory(t *testing.T) {
	backend := startQuickBackend(t, 0)
	address, dir := proxytest.FreeAddress(t), t.TempDir()
	writeFiles(t, dir, map[string]string{"x.yaml": fmt.Sprintf(`listen: [{address: %q, tls: none}]
backends: {mail1: {address: %q, tls: none}}
route: {default: mail1}
login: {exempt_networks: [127.0.0.0/8]}
log: {format: json, level: debug}
debug: {core_dumps: true} # else nobody but root could look
`, address, backend.address)})
	// A thread that a signal interrupts has its registers written to its stack by the
	// kernel, with what was copied last. Go's scheduler sends such signals.
	t.Setenv("GODEBUG", "asyncpreemptoff=1")
	p := startProcess(t, "serve", "-c", dir+"/x.yaml")
	p.waitLine(t, "listening")

	b64 := func(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }
	ways := map[string]func(secret string) []string{
		"LOGIN with an atom":          func(s string) []string { return []string{"a LOGIN alice " + s} },
		"LOGIN with a quoted string":  func(s string) []string { return []string{`a LOGIN alice "\"` + s + `"`} },
		"LOGIN with a literal":        func(s string) []string { return []string{fmt.Sprintf("a LOGIN alice {%d}", len(s)), s} },
		"LOGIN with a quick literal":  func(s string) []string { return []string{fmt.Sprintf("a LOGIN alice {%d+}\r\n%s", len(s), s)} },
		"LOGIN with too much":         func(s string) []string { return []string{"a LOGIN alice " + s + " " + s} },
		"a password as a command":     func(s string) []string { return []string{"a " + s} },
		"PLAIN":                       func(s string) []string { return []string{"a AUTHENTICATE PLAIN " + b64("\x00alice\x00"+s)} },
		"PLAIN when asked":            func(s string) []string { return []string{"a AUTHENTICATE PLAIN", b64("\x00alice\x00" + s)} },
		"PLAIN that is malformed":     func(s string) []string { return []string{"a AUTHENTICATE PLAIN " + b64("alice\x00"+s)} },
		"PLAIN with bad base64":       func(s string) []string { return []string{"a AUTHENTICATE PLAIN", b64("\x00alice\x00"+s) + "!"} },
		"LOGIN as a mechanism":        func(s string) []string { return []string{"a AUTHENTICATE LOGIN", b64("alice"), b64(s)} },
		"LOGIN with the name at once": func(s string) []string { return []string{"a AUTHENTICATE LOGIN " + b64("alice"), b64(s)} },
		"a password for a name":       func(s string) []string { return []string{"a AUTHENTICATE LOGIN", b64("alice"), b64(s)} },
		"XOAUTH2": func(s string) []string {
			return []string{"a AUTHENTICATE XOAUTH2 " + b64("user=alice\x01auth=Bearer "+s+"\x01\x01")}
		},
		"OAUTHBEARER": func(s string) []string {
			return []string{"a AUTHENTICATE OAUTHBEARER " + b64("n,a=alice,\x01auth=Bearer "+s+"\x01\x01")}
		},
		"a long line":                 func(s string) []string { return []string{"a LOGIN alice " + strings.Repeat(s, 100)} },
		"a mechanism that is unknown": func(s string) []string { return []string{"a AUTHENTICATE X-FOO " + b64(s)} },
	}
	secrets := make(map[string]string) // by secret: how it was said
	for way, say := range ways {
		for _, kind := range []string{goodSecret, "wrong-"} {
			secret := kind + "c4" + rand.Text()
			secrets[secret] = way + ", " + kind
			c := dialClear(t, address)
			c.expect(t, "* OK")
			for _, line := range say(secret) {
				if _, err := c.Write([]byte(line + "\r\n")); err != nil {
					t.Fatal(err)
				}
				_ = c.line(t)
			}
		}
	}
	<-time.After(100 * time.Millisecond) // what is said last is not always waited for
	memory := memoryOf(t, p.cmd.Process.Pid)
	if !bytes.Contains(memory, []byte("alice")) || len(secrets) != 2*len(ways) {
		t.Fatalf("%d bytes of memory do not look like the process's", len(memory))
	}
	for secret, how := range secrets {
		forms := map[string]string{"itself": secret[2:], "in lower case": strings.ToLower(secret)[2:]}
		for pad := range 3 {
			forms[fmt.Sprintf("in base64, %d behind", pad)] = b64(strings.Repeat("x", pad) + secret)[8:36]
		}
		for form, text := range forms {
			if n := bytes.Count(memory, []byte(text)); n > 0 {
				i := bytes.Index(memory, []byte(text))
				t.Errorf("%s: found %s %d times: %q", how, form, n, memory[max(0, i-40):min(len(memory), i+80)])
			}
		}
	}
}

// memoryOf returns what a process can write to: heap, stacks, globals.
func memoryOf(t *testing.T, pid int) []byte {
	t.Helper()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	var all []byte
	for line := range strings.Lines(string(maps)) {
		var from, to int64
		var mode string
		if _, err := fmt.Sscanf(line, "%x-%x %s", &from, &to, &mode); err != nil || !strings.HasPrefix(mode, "rw") || to-from > 256<<20 {
			continue
		}
		part := make([]byte, to-from)
		n, _ := mem.ReadAt(part, from) // a hole in it is as good as its end
		all = append(all, part[:n]...)
	}
	return all
}

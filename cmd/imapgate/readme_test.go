package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"imapgate/cmd/imapgate/internal/config"
)

const readme = "../../README.md"

var update = flag.Bool("update", false, "rewrite the table of keys in the README")

func readREADME(t *testing.T) string {
	t.Helper()
	return readFile(t, readme)
}

func TestREADMEListsEveryKey(t *testing.T) {
	const begin, end = "<!-- keys -->\n", "<!-- end of keys -->\n"
	text := readREADME(t)
	head, rest, found := strings.Cut(text, begin)
	_, tail, foundEnd := strings.Cut(rest, end)
	if !found || !foundEnd {
		t.Fatal("the README has no table of keys")
	}
	want := head + begin + keyTable() + end + tail
	switch {
	case want == text:
	case *update:
		if err := os.WriteFile(readme, []byte(want), 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Error("the table of keys in the README is out of date; run this test with -update")
	}
}

// keyTable is the reference of the configuration, in Markdown.
func keyTable() string {
	escape := strings.NewReplacer("|", `\|`, "<", "&lt;").Replace
	var b strings.Builder
	b.WriteString("| key | value | default | what for |\n|---|---|---|---|\n")
	for _, k := range config.Reference() {
		def := ""
		switch {
		case k.Needed:
			def = "needed"
		case k.Default != "":
			def = "`" + k.Default + "`"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Path, escape(k.Type), def, escape(k.Help))
	}
	return b.String()
}

func TestREADMEShowsTheMinimalExample(t *testing.T) {
	text := readREADME(t)
	for _, name := range []string{"minimal.yaml", "minimal.map"} {
		example, err := os.ReadFile(filepath.Join(examples, name))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(text, "\n"+string(example)+"```\n") {
			t.Errorf("the README does not show configs/%s as it is", name)
		}
	}
}

func TestREADMEFail2banFilterMatchesTheLog(t *testing.T) {
	m := regexp.MustCompile(`(?m)^failregex = (.*)$`).FindStringSubmatch(readREADME(t))
	if m == nil {
		t.Fatal("no failregex in the README")
	}
	filter := regexp.MustCompile(strings.ReplaceAll(m[1], "<HOST>", `(?P<host>[0-9a-f.:]+)`))

	p := newPlant(t)
	proc := p.serving(t)
	for _, user := range []string{"alice@example.org", "mallory@example.org"} {
		c, err := connect(t, p.listen[0], 0)
		if err != nil {
			t.Fatal(err)
		}
		if reply := c.do(t, "LOGIN "+user+" wrong"); !strings.HasPrefix(reply, "t NO [AUTHENTICATIONFAILED]") {
			t.Errorf("wrong password of %s: %s", user, reply)
		}
		proc.waitLine(t, "login failed")
		line := proc.seen[len(proc.seen)-1]
		if m := filter.FindStringSubmatch(line); m == nil || m[1] != "127.0.0.1" {
			t.Errorf("the filter does not find the address in\n%s", line)
		}
		c.Close()
	}
	login(t, p.listen[0], "alice@example.org")
	proc.waitLine(t, "login")
	if line := proc.seen[len(proc.seen)-1]; filter.MatchString(line) {
		t.Errorf("the filter takes a login for a failed one:\n%s", line)
	}
}

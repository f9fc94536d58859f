package config

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// sections returns the parts of a file that begin with a key.
func sections(text string) (parts []string) {
	for line := range strings.Lines(text) {
		if line[0] > ' ' && line[0] != '#' || parts == nil {
			parts = append(parts, "")
		}
		if !strings.HasPrefix(strings.TrimLeft(line, " "), "#") {
			parts[len(parts)-1] += line
		}
	}
	return parts
}

// FuzzConfig checks that no file makes the parser panic, that a refused file has
// at least one error, and that each of them has a place and can be shown.
func FuzzConfig(f *testing.F) {
	examples, err := filepath.Glob("../../../../configs/*.yaml")
	if err != nil || len(examples) == 0 {
		f.Fatal("no examples: ", err)
	}
	for _, name := range examples {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		// Key by key, each with what is needed: whole examples would have been
		// tried much less often.
		for _, section := range sections(string(text)) {
			f.Add([]byte(section))
			if key, _, _ := strings.Cut(section, ":"); !strings.Contains(base, key+":") {
				f.Add([]byte(base + section))
			}
		}
	}
	for _, text := range []string{
		"", "a", "[", "a: [1,\nb", "? [a]\n: b", "a: &x {b: *x}", "listen: &l [*l]", "- *a", "--- a\n--- b", "%YAML 1.2\n---\n",
		"listen: {}\nbackends: []\nroute: 5\npools: ~", "<<: *x", "a: !!binary x", "\xef\xbb\xbflisten: []", "a:\r\n\tb: 1", "a: \u2028b: [\u0085",
		base + "login: {greeting: \"${\"}", base + "login: {greeting: \"${file:}${A}$${\"}",
	} {
		f.Add([]byte(text))
	}
	src := sources(map[string]string{"A": "b"}, map[string]string{"/etc/a": "c"})
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := Parse("x.yaml", text, src)
		var errs Errors
		switch {
		case err == nil && p == nil:
			t.Fatal("neither values nor an error")
		case err == nil:
			p.Warnings.Print(new(strings.Builder), "")
			p.definition()
			return
		case !errors.As(err, &errs) || len(errs) == 0:
			t.Fatalf("error is %T with nothing in it", err)
		}
		for _, e := range errs {
			if e.Pos.Line < 1 || e.Pos.Column < 1 {
				t.Errorf("no place: %v", e)
			}
		}
		errs.Print(new(strings.Builder), "imapgate: ")
	})
}

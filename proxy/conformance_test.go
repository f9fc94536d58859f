package proxy_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestConformanceTable reads the table that says which transcripts show which
// clauses of the standards. A row that names none, or one that does not exist,
// shows nothing.
func TestConformanceTable(t *testing.T) {
	t.Parallel()
	const heading = "\n## Conformance\n"
	text, err := os.ReadFile("../CONTRIBUTING.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), heading)
	if !found {
		t.Fatalf("CONTRIBUTING.md has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	name := regexp.MustCompile("`([^`]+)`")
	rows := make(map[string]int) // by RFC
	for line := range strings.Lines(section) {
		cells := strings.Split(strings.TrimSpace(line), "|")
		if len(cells) != 5 || strings.Trim(cells[1], " -") == "" || strings.TrimSpace(cells[1]) == "RFC" {
			if strings.HasPrefix(line, "|") && len(cells) != 5 {
				t.Errorf("a row has a clause's RFC, what it says, and what shows it: %s", line)
			}
			continue
		}
		rfc, _, _ := strings.Cut(strings.TrimSpace(cells[1]), " ")
		rows[rfc]++
		names := name.FindAllStringSubmatch(cells[3], -1)
		if len(names) == 0 {
			t.Errorf("nothing shows%s:%s", cells[1], cells[2])
		}
		for _, m := range names {
			if _, err := os.Stat(filepath.Join("testdata", m[1]+".txtar")); errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s:%s: there is no transcript %s", strings.TrimSpace(cells[1]), cells[2], m[1])
			}
		}
	}
	for _, rfc := range []string{"9051", "4959", "7888", "2971", "4616", "7628", "5530"} {
		if rows[rfc] == 0 {
			t.Errorf("no clause of RFC %s is in the table", rfc)
		}
	}
}

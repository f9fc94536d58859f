package tlsconf_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"imapgate/tlsconf"
)

// lines returns the lines of a file of keys, with letters for keys in the order in
// which they are met for the first time.
func lines(t *testing.T, file string, letters map[string]string) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(string(read(t, file))) {
		fields := strings.Fields(line)
		if strings.HasPrefix(line, "#") {
			continue
		}
		if len(fields) != 3 {
			t.Fatalf("line %q", line)
		}
		if letters[fields[2]] == "" {
			letters[fields[2]] = string(rune('a' + len(letters)))
		}
		out = append(out, fmt.Sprintf("%s %s %s", fields[0], fields[1], letters[fields[2]]))
	}
	return out
}

func TestRotationPutsTheNextKeyInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file, letters := filepath.Join(t.TempDir(), "keys"), make(map[string]string)
		for i, want := range [][]string{
			{"next 2000-01-02T00:00:00Z a", "current 2000-01-02T00:00:00Z b"},
			{"next 2000-01-03T00:00:00Z c", "current 2000-01-02T00:00:00Z a", "previous 2000-01-02T00:00:00Z b"},
			{"next 2000-01-04T00:00:00Z d", "current 2000-01-03T00:00:00Z c", "previous 2000-01-02T00:00:00Z a", "previous 2000-01-02T00:00:00Z b"},
			{"next 2000-01-05T00:00:00Z e", "current 2000-01-04T00:00:00Z d", "previous 2000-01-03T00:00:00Z c", "previous 2000-01-02T00:00:00Z a"},
		} {
			<-time.After(24 * time.Hour)
			done := rotate(t, file, 2)
			if diff := cmp.Diff(want, lines(t, file, letters)); diff != "" {
				t.Errorf("rotation %d (-want +got):\n%s", i, diff)
			}
			if diff := cmp.Diff(tlsconf.Rotation{Created: i == 0, InUse: true, Previous: min(i, 2)}, done); diff != "" {
				t.Errorf("rotation %d (-want +got):\n%s", i, diff)
			}
		}
		rotate(t, file, 0)
		if got := lines(t, file, letters); len(got) != 2 {
			t.Errorf("without previous keys: %q", got)
		}
	})
}

// A key that nobody else knows is not used at once, so a file without a next key
// gets one first.
func TestFileWithoutANextKeyGetsOneFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file, letters := filepath.Join(t.TempDir(), "keys"), make(map[string]string)
		const zeros, ones = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=", "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
		write(t, file, []byte("previous 1999-12-30T00:00:00Z "+ones+"\n  current\t1999-12-31T00:00:00Z "+zeros+" # mine\n"))
		lines := func() []string { return lines(t, file, letters) }
		letters[zeros], letters[ones] = "z", "o"
		if done := rotate(t, file, 2); done.InUse || done.Created || done.Previous != 1 {
			t.Errorf("got %+v", done)
		}
		if diff := cmp.Diff([]string{"next 2000-01-01T00:00:00Z c", "current 1999-12-31T00:00:00Z z", "previous 1999-12-30T00:00:00Z o"}, lines()); diff != "" {
			t.Error(diff)
		}
		rotate(t, file, 2)
		if diff := cmp.Diff([]string{
			"next 2000-01-01T00:00:00Z d", "current 2000-01-01T00:00:00Z c",
			"previous 1999-12-31T00:00:00Z z", "previous 1999-12-30T00:00:00Z o",
		}, lines()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestKeyFileIsForItsOwnerAlone(t *testing.T) {
	dir := t.TempDir()
	file, link := filepath.Join(dir, "keys"), filepath.Join(dir, "link")
	mode := func() os.FileMode {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode().Perm()
	}
	rotate(t, file, 2)
	if got := mode(); got != 0o600 {
		t.Errorf("a new file has mode %o", got)
	}
	for before, want := range map[os.FileMode]os.FileMode{0o640: 0o640, 0o644: 0o640, 0o400: 0o400} {
		if err := os.Chmod(file, before); err != nil {
			t.Fatal(err)
		}
		rotate(t, file, 2)
		if got := mode(); got != want {
			t.Errorf("mode %o has become %o, want %o", before, got, want)
		}
	}
	if err := os.Symlink("keys", link); err != nil {
		t.Fatal(err)
	}
	before := string(read(t, file))
	rotate(t, link, 2)
	if target, err := os.Readlink(link); err != nil || target != "keys" || string(read(t, file)) == before {
		t.Errorf("the link leads to %q, %v; changed is %v", target, err, string(read(t, file)) != before)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestBadKeyFilesAreRefusedWithoutShowingAKey(t *testing.T) {
	const key = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U="
	dir := t.TempDir()
	for text, want := range map[string]string{
		"":                                 "is empty",
		"# nothing ":                       "there is no current key; `imapgate ticket-key rotate` makes a file",
		"next 2026-11-25T03:00:00Z " + key: "there is no current key; `imapgate ticket-key rotate` makes a file",
		key:                                "line 1: is not a role, a time and a key",
		"\n\ncurrent 2026-11-25T03:00:00Z " + key + " 1":                                                 "line 3: is not a role, a time and a key",
		"first 2026-11-25T03:00:00Z " + key:                                                              "line 1: the role is none of next, current, previous",
		"current yesterday " + key:                                                                       "line 1: the time is not like 2026-11-25T03:00:00Z",
		"current 2026-11-25T03:00:00Z " + key[:40]:                                                       "line 1: the key is not the base64 of 32 bytes",
		"current 2026-11-25T03:00:00Z !" + key[1:]:                                                       "line 1: the key is not the base64 of 32 bytes",
		strings.Repeat("current 2026-11-25T03:00:00Z "+key+"\n", 2):                                      "line 2: there is a current key already",
		strings.Repeat("next 2026-11-25T03:00:00Z "+key+"\n", 2) + "current 2026-11-25T03:00:00Z " + key: "line 2: there is a next key already",
	} {
		file := filepath.Join(dir, "keys")
		write(t, file, []byte(text))
		_, err := tlsconf.NewTicketKeys(file)
		if want = "session ticket keys " + file + ": " + want; err == nil || err.Error() != want {
			t.Errorf("%q: got %v, want %s", text, err, want)
		}
		if _, err := tlsconf.RotateTicketKeys(file, 2, time.Now()); err == nil || string(read(t, file)) != text {
			t.Errorf("%q: rotation changed it, %v", text, err)
		}
	}
	if _, err := tlsconf.NewTicketKeys(filepath.Join(dir, "missing")); err == nil || !strings.HasSuffix(err.Error(), "missing: no such file") {
		t.Errorf("got %v", err)
	}
}

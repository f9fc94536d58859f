package source_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"imapgate/route"
	"imapgate/route/source"
)

func TestKeepCopiesWhatIsInForce(t *testing.T) {
	dir := t.TempDir()
	path, kept := filepath.Join(dir, "users.map"), filepath.Join(dir, "tables", "users")
	def := route.Definition{Backends: []route.Backend{{Name: "mail1"}}}
	write := func(text string, at int64) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(path, time.Unix(at, 0), time.Unix(at, 0)); err != nil {
			t.Fatal(err)
		}
	}
	keep := func(set *source.Set) string {
		t.Helper()
		if err := set.Keep(t.Context()); err != nil {
			t.Fatal(err)
		}
		text, _ := os.ReadFile(kept)
		return string(text)
	}
	open := func() (*source.File, *source.Set) {
		f := source.NewFile(path)
		f.Copy = kept
		return f, source.NewSet(route.New())
	}

	const good, more, bad = "alice mail1\n", "alice mail1\nbob mail1\n", "alice nowhere\n"
	write(good, 1000)
	f, set := open()
	if err := set.Load(t.Context(), def, []source.Source{f}, false); err != nil {
		t.Fatal(err)
	}
	if got := keep(set); got != good {
		t.Errorf("kept %q", got)
	}
	write(bad, 2000)
	if got := keep(set); got != good { // not read yet
		t.Errorf("kept %q", got)
	}
	if err := set.Reload(t.Context(), false); err == nil {
		t.Error("a bad table was loaded")
	}
	if got := keep(set); got != good { // read, and refused
		t.Errorf("kept %q", got)
	}
	write(more, 3000)
	if err := set.Reload(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if got := keep(set); got != more {
		t.Errorf("kept %q", got)
	}

	// A start that finds a bad file goes on with the copy, and then follows the file.
	write(bad, 4000)
	f, set = open()
	f.FromCopy = true
	if err := set.Load(t.Context(), def, []source.Source{f}, false); err != nil {
		t.Fatal(err)
	}
	if got := keep(set); got != more {
		t.Errorf("kept %q", got)
	}
	write(good, 5000)
	if err := set.Reload(t.Context(), true); err != nil {
		t.Fatal(err)
	}
	if got := keep(set); got != good {
		t.Errorf("kept %q", got)
	}
}

package source_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapgate/route"
	"imapgate/route/source"
)

var definition = route.Definition{Backends: []route.Backend{{Name: "mail1"}, {Name: "mail10"}}}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestReadSaysWhatIsWrongWithTheFile(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "missing.map")
	if _, err := source.NewFile(missing).Read(t.Context()); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("missing file: %v", err)
	}
	if _, err := source.NewFile(dir).Read(t.Context()); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("directory: %v", err)
	}
	cut := filepath.Join(dir, "cut.map")
	write(t, cut, "alice@example.org mail1\nbob@example.org mail1")
	rows, err := source.NewFile(cut).Read(t.Context())
	var bad *route.TableError
	if !errors.As(err, &bad) || rows.Len() != 1 || !strings.Contains(err.Error(), cut+":2:1: line 2 has no newline") {
		t.Errorf("cut file: %v, %v", rows, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := source.NewFile(cut).Read(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("canceled: %v", err)
	}
}

func TestSetTellsOfEveryMistakeInEverySource(t *testing.T) {
	dir := t.TempDir()
	a, b, c := filepath.Join(dir, "a.map"), filepath.Join(dir, "b.map"), filepath.Join(dir, "c.map")
	write(t, a, "alice@example.org mail1\nbob@example.org\n")
	write(t, b, "alice@example.org mial1\n")
	table := route.New()
	set := source.NewSet(table)
	if err := set.Reload(t.Context(), false); !errors.Is(err, route.ErrNotLoaded) {
		t.Errorf("reload before load: %v", err)
	}
	sources := []source.Source{source.NewFile(a), source.NewFile(b), source.NewFile(c)}
	err := set.Load(t.Context(), definition, sources, false)
	if err == nil {
		t.Fatal("loaded")
	}
	for _, want := range []string{
		a + `:2:16: the target of "bob@example.org" is missing`,
		b + `:1:1: "alice@example.org" is already at ` + a + ":1",
		b + `:1:19: unknown target "mial1" (did you mean "mail1"?)`,
		c + ": no such file",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if checked := set.Check(t.Context(), definition, sources, false); checked == nil || checked.Error() != err.Error() {
		t.Errorf("Check says %v", checked)
	}
	if last := set.Last(); last.Err == nil || last.Err.Error() != err.Error() || last.At.IsZero() || last.Stats.Generation != 0 {
		t.Errorf("last is %+v", last)
	}
}

func TestFailedLoadKeepsDefinitionAndSources(t *testing.T) {
	dir := t.TempDir()
	good, bad := filepath.Join(dir, "good.map"), filepath.Join(dir, "bad.map")
	write(t, good, "alice@example.org mail1\n")
	write(t, bad, "alice@example.org\n")
	table := route.New()
	set := source.NewSet(table)
	if err := set.Load(t.Context(), definition, []source.Source{source.NewFile(good)}, false); err != nil {
		t.Fatal(err)
	}
	if err := set.Load(t.Context(), route.Definition{Backends: []route.Backend{{Name: "other"}}}, []source.Source{source.NewFile(bad)}, false); err == nil {
		t.Fatal("loaded")
	}
	write(t, good, "alice@example.org mail10\n")
	if err := set.Reload(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	if p, err := table.Lookup("alice@example.org"); err != nil || p.Backends[0] != "mail10" {
		t.Errorf("got %+v, %v", p, err)
	}
	write(t, good, "")
	var shrink *route.ShrinkError
	if err := set.Reload(t.Context(), false); !errors.As(err, &shrink) {
		t.Errorf("empty file: %v", err)
	}
	if err := set.Reload(t.Context(), true); err != nil || table.Stats().Rows != 0 {
		t.Errorf("forced: %v, %+v", err, table.Stats())
	}
}

func TestFileCutAtEveryOctetNeverTakesTheLastGoodTableAway(t *testing.T) {
	const text = "alice@example.org mail10\nbob@example.org mail10 login=bob.smith\n@example.net mail10\n# end\n"
	path := filepath.Join(t.TempDir(), "users.map")
	table := route.New()
	set := source.NewSet(table)
	write(t, path, text)
	if err := set.Load(t.Context(), definition, []source.Source{source.NewFile(path)}, false); err != nil {
		t.Fatal(err)
	}
	for cut := range len(text) {
		write(t, path, text[:cut])
		err := set.Reload(t.Context(), false)
		if complete := cut > 0 && text[cut-1] == '\n'; !complete && err == nil {
			t.Errorf("cut at %d: loaded", cut)
		}
		if p, lookupErr := table.Lookup("alice@example.org"); lookupErr != nil || p.Backends[0] != "mail10" {
			t.Errorf("cut at %d: %+v, %v", cut, p, lookupErr)
		}
		if err == nil {
			write(t, path, text)
			if err := set.Reload(t.Context(), false); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// changing is a source that a test changes by hand.
type changing struct {
	rows    chan *route.Rows
	changed chan struct{}
	broken  chan error
}

func newChanging() *changing {
	return &changing{rows: make(chan *route.Rows, 1), changed: make(chan struct{}), broken: make(chan error)}
}

func (*changing) Name() string { return "changing" }

func (c *changing) Read(ctx context.Context) (*route.Rows, error) {
	select {
	case rows := <-c.rows:
		return rows, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *changing) Watch(ctx context.Context, changed func()) error {
	for {
		select {
		case <-c.changed:
			changed()
		case err := <-c.broken:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

func rowsFor(target string) *route.Rows {
	return route.NewRows(route.Row{Key: "alice@example.org", Target: target})
}

const soon = 20 * time.Second // far beyond what anything here takes

// watch runs set.Watch until the test ends, and returns what it reports.
func watch(t *testing.T, set *source.Set) <-chan source.Result {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	results, done := make(chan source.Result, 100), make(chan error, 1)
	go func() { done <- set.Watch(ctx, func(r source.Result) { results <- r }) }()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("watch: %v", err)
			}
		case <-time.After(soon):
			t.Error("watch does not end")
		}
	})
	return results
}

func next(t *testing.T, results <-chan source.Result) source.Result {
	t.Helper()
	select {
	case r := <-results:
		return r
	case <-time.After(soon):
		t.Fatal("nothing was reported")
		return source.Result{}
	}
}

func TestWatchFollowsSourcesThatAreReplaced(t *testing.T) {
	table := route.New()
	set := source.NewSet(table)
	first, second := newChanging(), newChanging()
	first.rows <- rowsFor("mail1")
	if err := set.Load(t.Context(), definition, []source.Source{first}, false); err != nil {
		t.Fatal(err)
	}
	results := watch(t, set)
	first.rows <- rowsFor("mail10")
	first.changed <- struct{}{}
	if r := next(t, results); r.Err != nil || r.Stats.Generation != 2 {
		t.Errorf("got %+v", r)
	}
	first.rows <- rowsFor("nowhere")
	first.changed <- struct{}{}
	if r := next(t, results); r.Err == nil || r.Stats.Generation != 2 {
		t.Errorf("got %+v", r)
	}
	second.rows <- rowsFor("mail1")
	if err := set.Load(t.Context(), definition, []source.Source{second}, false); err != nil {
		t.Fatal(err)
	}
	second.rows <- rowsFor("mail10")
	second.changed <- struct{}{}
	if r := next(t, results); r.Err != nil || r.Stats.Generation != 4 {
		t.Errorf("got %+v", r)
	}
}

func TestWatchEndsWhenASourceCannotBeWatched(t *testing.T) {
	set := source.NewSet(route.New())
	src := newChanging()
	src.rows <- rowsFor("mail1")
	if err := set.Load(t.Context(), definition, []source.Source{src}, false); err != nil {
		t.Fatal(err)
	}
	go func() { src.broken <- errors.New("no notifications") }()
	if err := set.Watch(t.Context(), func(source.Result) {}); err == nil || err.Error() != "watch changing: no notifications" {
		t.Errorf("got %v", err)
	}
}

package route_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"imapgate/route"
)

var update = flag.Bool("update", false, "rewrite what the table says in testdata")

// TestTexts runs testdata/*.txtar: text in, text out. In each, `definition` has
// the configuration, *.map files are loaded together, in order, and then
//
//	lookups  lists keys as typed; each is answered behind an arrow
//	errors   is what the load says is wrong, word for word
//
// A second generation, if there is one, is in `definition.2` and *.map.2, and so
// on; `errors.2` and `lookups.2` are about it.
func TestTexts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			runTexts(t, archive)
			if *update {
				if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func runTexts(t *testing.T, archive *txtar.Archive) {
	t.Helper()
	find := func(name string) *txtar.File {
		for i := range archive.Files {
			if archive.Files[i].Name == name {
				return &archive.Files[i]
			}
		}
		return nil
	}
	expect := func(name, got string) {
		t.Helper()
		f := find(name)
		switch {
		case f == nil && got != "":
			t.Errorf("%s is missing, and would be:\n%s", name, got)
		case f != nil && *update:
			f.Data = []byte(got)
		case f != nil:
			if d := cmp.Diff(string(f.Data), got); d != "" {
				t.Errorf("%s (-want +got):\n%s", name, d)
			}
		}
	}
	table := route.New()
	var def route.Definition
	for generation := 1; ; generation++ {
		suffix := ""
		if generation > 1 {
			suffix = "." + strconv.Itoa(generation)
		}
		rows := new(route.Rows)
		var errs []error
		ran := false
		if f := find("definition" + suffix); f != nil {
			def, ran = parseDefinition(t, string(f.Data)), true
		}
		for _, f := range archive.Files {
			if name, ok := strings.CutSuffix(f.Name, suffix); ok && strings.HasSuffix(name, ".map") {
				ran = true
				parsed, err := route.Parse(name, strings.NewReader(string(f.Data)))
				rows.AppendAll(parsed, nil)
				errs = append(errs, err)
			}
		}
		if !ran {
			return
		}
		err := route.JoinErrors(errs...)
		if err != nil {
			err = route.JoinErrors(err, table.Check(def, rows, true))
		} else {
			checked := table.Check(def, rows, false)
			err = table.Load(def, rows, false)
			if fmt.Sprint(checked) != fmt.Sprint(err) {
				t.Errorf("Check says %v and Load %v", checked, err)
			}
		}
		said := ""
		if err != nil {
			said = err.Error() + "\n"
		}
		expect("errors"+suffix, said)
		if f := find("lookups" + suffix); f != nil {
			expect(f.Name, answers(t, table, def.Names, string(f.Data)))
		}
	}
}

// answers looks up every line's first word.
func answers(t *testing.T, table *route.Table, names route.Names, queries string) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(queries) {
		typed, _, _ := strings.Cut(strings.TrimSpace(line), " → ")
		user, master := names.Split(typed)
		p, err := table.Lookup(names.Key(user))
		fmt.Fprintf(&b, "%s → ", typed)
		switch {
		case errors.Is(err, route.ErrUnknownUser):
			b.WriteString("unknown")
		case err != nil:
			b.WriteString("error: " + err.Error())
		default:
			b.WriteString(strings.Join(p.Backends, " ") + ", " + p.Reason.String())
			for _, field := range [][2]string{{"pool", p.Pool}, {"login", p.Login}, {"master", master}, {"at", p.Source}} {
				if field[1] != "" {
					b.WriteString(", " + field[0] + " " + field[1])
				}
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// parseDefinition reads lines like "backend mail1 weight=200",
// "pool shared mail1 mail2 shared" and "default_domain example.org".
func parseDefinition(t *testing.T, text string) route.Definition {
	t.Helper()
	var def route.Definition
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 2 && words[0] == "default":
			def.Default = words[1]
		case len(words) == 2 && words[0] == "default_domain":
			def.Names.DefaultDomain = words[1]
		case len(words) == 2 && words[0] == "master_separator":
			def.Names.MasterSeparator = words[1]
		case len(words) == 1 && words[0] == "case_sensitive":
			def.Names.CaseSensitive = true
		case len(words) == 2 && words[0] == "affinity":
			def.Affinity, _ = time.ParseDuration(words[1])
		case len(words) == 2 && words[0] == "max_shrink":
			def.MaxShrink, _ = strconv.Atoi(words[1])
		case len(words) >= 2 && words[0] == "backend":
			b := route.Backend{Name: words[1]}
			if len(words) == 3 {
				b.Weight, _ = strconv.Atoi(strings.TrimPrefix(words[2], "weight="))
			}
			def.Backends = append(def.Backends, b)
		case len(words) >= 2 && words[0] == "pool":
			p := route.Pool{Name: words[1], Backends: words[2:]}
			if n := len(p.Backends); n > 0 && p.Backends[n-1] == "shared" {
				p.Shared, p.Backends = true, p.Backends[:n-1]
			}
			def.Pools = append(def.Pools, p)
		default:
			t.Fatalf("bad definition: %s", line)
		}
	}
	return def
}

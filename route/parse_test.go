package route_test

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"imapgate/route"
)

// What cannot be seen in a text file.
func TestParseOctets(t *testing.T) {
	row := func(key, target string, line, column, targetColumn int) route.Row {
		return route.Row{Key: key, Target: target, Source: route.Position{File: "t.map", Line: line, Column: column}, TargetColumn: targetColumn}
	}
	long := strings.Repeat("x", route.MaxLine)
	for _, tt := range []struct {
		name, text string
		rows       []route.Row
		err        string
	}{
		{name: "empty"},
		{name: "blank lines", text: "\n \n\t\n\r\n"},
		{name: "crlf", text: "a mail1\r\nb mail2\r\n", rows: []route.Row{row("a", "mail1", 1, 1, 3), row("b", "mail2", 2, 1, 3)}},
		{name: "byte order mark", text: "\ufeffa mail1\n", rows: []route.Row{row("a", "mail1", 1, 1, 3)}},
		{name: "byte order mark alone", text: "\ufeff\n"},
		{name: "columns count characters", text: " ä@x.example\t mail1\n", rows: []route.Row{row("ä@x.example", "mail1", 1, 2, 15)}},
		{name: "comment behind a row", text: "a mail1#1 # mail2\n#\n", rows: []route.Row{row("a", "mail1#1", 1, 1, 3)}},
		{name: "comment instead of a target", text: "a # mail1\n", err: `t.map:1:2: the target of "a" is missing (a row is: user or @domain, target, options)`},
		{
			name: "no newline at the end", text: "a mail1\nb mail1", rows: []route.Row{row("a", "mail1", 1, 1, 3)},
			err: "t.map:2:1: line 2 has no newline at its end: the file looks cut (write the new file beside the old one and rename it)",
		},
		{
			name: "comment cut", text: "a mail1\n# and", rows: []route.Row{row("a", "mail1", 1, 1, 3)},
			err: "t.map:2:1: line 2 has no newline at its end: the file looks cut (write the new file beside the old one and rename it)",
		},
		{
			name: "cut inside a line end", text: "a mail1\r",
			err: "t.map:1:1: line 1 has no newline at its end: the file looks cut (write the new file beside the old one and rename it)",
		},
		{name: "nul", text: "a mail1\nb\x00 mail1\nc mail1\n", rows: []route.Row{row("a", "mail1", 1, 1, 3), row("c", "mail1", 3, 1, 3)}, err: "t.map:2:2: the line has a NUL (the file looks damaged)"},
		{name: "nul in a comment", text: "# \x00\n", err: "t.map:1:3: the line has a NUL (the file looks damaged)"},
		{name: "lone carriage return", text: "# a\ra mail1\rb mail2\r\n", err: "t.map:1:4: the line has a carriage return inside (lines end in LF or CRLF)"},
		{name: "utf-16", text: "\xff\xfea\x00 \x00m\x00\n\x00", err: "t.map:1:1: the file is UTF-16 (save it as UTF-8)\nt.map:2:1: line 2 has no newline at its end: the file looks cut (write the new file beside the old one and rename it)"},
		{name: "longest line", text: "# " + long[2:] + "\na mail1\n", rows: []route.Row{row("a", "mail1", 2, 1, 3)}},
		{name: "longest line, crlf", text: "# " + long[2:] + "\r\na mail1\n", rows: []route.Row{row("a", "mail1", 2, 1, 3)}},
		{name: "one octet too long", text: "# " + long[1:] + "\na mail1\n", rows: []route.Row{row("a", "mail1", 2, 1, 3)}, err: "t.map:1:1: the line is longer than 64 KiB (the file looks damaged)"},
		{name: "much too long", text: long + long + long + "\na mail1\n", rows: []route.Row{row("a", "mail1", 2, 1, 3)}, err: "t.map:1:1: the line is longer than 64 KiB (the file looks damaged)"},
		{name: "much too long and cut", text: long + long + long, err: "t.map:1:1: the line is longer than 64 KiB (the file looks damaged)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(tt.text), iotest.OneByteReader(strings.NewReader(tt.text))} {
				rows, err := route.Parse("t.map", r)
				if d := cmp.Diff(tt.rows, slices.Collect(rows.All())); d != "" {
					t.Errorf("rows (-want +got):\n%s", d)
				}
				got := ""
				if err != nil {
					got = err.Error()
				}
				if d := cmp.Diff(tt.err, got); d != "" {
					t.Errorf("error (-want +got):\n%s", d)
				}
			}
		})
	}
}

func TestReadErrorIsNoEndOfFile(t *testing.T) {
	broken := errors.New("disk on fire")
	_, err := route.Parse("t.map", io.MultiReader(strings.NewReader("a mail1\nb ma"), iotest.ErrReader(broken)))
	if err == nil || !strings.Contains(err.Error(), "disk on fire") {
		t.Errorf("got %v", err)
	}
}

func TestProblemsAreBounded(t *testing.T) {
	var text strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&text, "user%d\nuser%d mial%d\n", i, i, i%7)
	}
	rows, err := route.Parse("t.map", strings.NewReader(text.String()))
	err = route.JoinErrors(err, route.New().Check(route.Definition{Backends: []route.Backend{{Name: "mail1"}}}, rows, true))
	var bad *route.TableError
	if !errors.As(err, &bad) {
		t.Fatalf("got %v", err)
	}
	if len(bad.Problems) != route.MaxProblems || bad.More != 2000-route.MaxProblems {
		t.Errorf("%d problems and %d more", len(bad.Problems), bad.More)
	}
	if text := err.Error(); !strings.HasSuffix(text, "\n… and 1900 more") {
		t.Errorf("error ends in %q", text[len(text)-40:])
	}
}

// upper maps a–z to A–Z and nothing else.
func upper(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'a' <= c && c <= 'z' {
			b[i] = c - ('a' - 'A')
		}
	}
	return string(b)
}

// plain returns rows without their places.
func plain(rows *route.Rows) (plain []route.Row) {
	for row := range rows.All() {
		row.Source, row.TargetColumn = route.Position{}, 0
		plain = append(plain, row)
	}
	return plain
}

func FuzzParse(f *testing.F) {
	for _, seed := range []string{
		"", "\n", "alice@example.org mail1\n", "bob mail2 login=bob.smith # x\r\n", "@example.com shared\n* shared\n",
		"\ufeffa mail1\nA mail2\n", "a\x00b mail1\n", "a mail10", "a mail1 login=\n", "\xff\xfea\x00\n", "@*.x mail1\n*@x mail1\n@ mail1\n",
		"a mail1 login=a login=b c=d e\n", "ä@Ü.example mail1\n", "a\u00a0mail1 mail1\n", "# only\n\r\n",
	} {
		f.Add(seed)
	}
	def := route.Definition{
		Backends: []route.Backend{{Name: "mail1"}, {Name: "mail2"}},
		Pools:    []route.Pool{{Name: "shared", Backends: []string{"mail1", "mail2"}, Shared: true}},
		Names:    route.Names{DefaultDomain: "example.org", MasterSeparator: "*"},
	}
	f.Fuzz(func(t *testing.T, text string) {
		rows, err := route.Parse("f", strings.NewReader(text))
		if text != "" && !strings.HasSuffix(text, "\n") && err == nil {
			t.Fatal("a cut file was accepted")
		}
		if err == nil && strings.ContainsRune(text, 0) {
			t.Fatal("a NUL was accepted")
		}

		// What was read, written again, reads the same.
		var again strings.Builder
		for row := range rows.All() {
			again.WriteString(row.Key + " " + row.Target)
			if row.Login != "" {
				again.WriteString(" login=" + row.Login)
			}
			again.WriteString("\n")
		}
		rewritten := again.String()
		if !strings.HasPrefix(rewritten, "\ufeff") && !strings.HasPrefix(rewritten, "\xff\xfe") && !strings.HasPrefix(rewritten, "\xfe\xff") {
			again, err := route.Parse("f", strings.NewReader(rewritten))
			if err != nil {
				t.Fatalf("rewritten: %v", err)
			}
			written, reread := plain(rows), plain(again)
			if !slices.Equal(written, reread) {
				t.Fatalf("rewritten (-first +second):\n%s", cmp.Diff(written, reread))
			}
		}

		// Whatever a table accepts it finds.
		table := route.New()
		if table.Load(def, rows, false) != nil {
			return
		}
		for row := range rows.All() {
			key := row.Key
			switch {
			case key == "*":
				continue
			case strings.HasPrefix(key, "@"):
				key = "nobody.has.this.name" + upper(key)
			}
			p, err := table.Lookup(def.Names.Key(key))
			if err != nil {
				t.Fatalf("lookup of %q: %v", key, err)
			}
			if p.Pool != row.Target && p.Backends[0] != row.Target || p.Login != row.Login {
				t.Fatalf("lookup of %q: %+v, want %+v", key, p, row)
			}
		}
	})
}

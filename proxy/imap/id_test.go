package imap

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// fields returns n different pairs as they stand in a list.
func fields(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, ` "k%d" "v"`, i)
	}
	return strings.TrimPrefix(b.String(), " ")
}

var idTests = []struct {
	args string
	want []Pair
	err  string
}{
	{args: " NIL"},
	{args: " nil"},
	{args: " ()", want: []Pair{}},
	{args: ` ("name" "x")`, want: []Pair{{Key: "name", Value: "x"}}},
	{args: ` ("Name" "x" "NAME" "y")`, want: []Pair{{Key: "Name", Value: "x"}, {Key: "NAME", Value: "y"}}},
	{args: ` ("name" NIL "os" nil "v" "NIL" "w" "")`, want: []Pair{{Key: "name", Nil: true}, {Key: "os", Nil: true}, {Key: "v", Value: "NIL"}, {Key: "w"}}},
	{args: ` ("" "\"\\")`, want: []Pair{{Value: `"\`}}},
	{args: " ({4}\r\nname {1}\r\nx)", want: []Pair{{Key: "name", Value: "x"}}},
	{args: " ({4+}\r\nname {1+}\r\nx)", want: []Pair{{Key: "name", Value: "x"}}},
	{args: " (\"name\" {2+}\r\n)( \"os\" {0}\r\n)", want: []Pair{{Key: "name", Value: ")("}, {Key: "os"}}},
	{args: " (\"name\" \"\u00fc\")", want: []Pair{{Key: "name", Value: "\u00fc"}}},
	{args: ` ("` + strings.Repeat("k", 30) + `" "` + strings.Repeat("v", 1024) + `")`, want: []Pair{{Key: strings.Repeat("k", 30), Value: strings.Repeat("v", 1024)}}},
	{args: "", err: "Missing argument"},
	{args: " ", err: "ID takes NIL or one list"},
	{args: " x", err: "ID takes NIL or one list"},
	{args: ` "x"`, err: "ID takes NIL or one list"},
	{args: "  NIL", err: "ID takes NIL or one list"},
	{args: " NIL ", err: "Unexpected text after the last argument"},
	{args: " NILX", err: "Unexpected text after the last argument"},
	{args: " () ", err: "Unexpected text after the last argument"},
	{args: " ()()", err: "Unexpected text after the last argument"},
	{args: ` ("a" "b"))`, err: "Unexpected text after the last argument"},
	{args: " (", err: "Missing argument"},
	{args: ` ("a" "b"`, err: "Missing argument"},
	{args: ` ("a"`, err: "Missing argument"},
	{args: ` ("a" `, err: "Missing argument"},
	{args: ` ("a" "b" `, err: "Missing argument"},
	{args: ` ("a")`, err: "Space expected between arguments"},
	{args: ` ("a" "b" "c")`, err: "Space expected between arguments"},
	{args: ` ("a""b")`, err: "Space expected between arguments"},
	{args: ` ("a" "b""c" "d")`, err: "Space expected between arguments"},
	{args: ` ("a" NIL"c" "d")`, err: "Space expected between arguments"},
	{args: ` ("a" NILX)`, err: "Space expected between arguments"},
	{args: " ({1+}\r\na{1+}\r\nb)", err: "Space expected between arguments"},
	{args: " (\"a\" {1+}\r\nbc)", err: "Space expected between arguments"},
	{args: ` ( "a" "b")`, err: "Invalid argument"},
	{args: ` ("a" "b" )`, err: "Invalid argument"},
	{args: ` ("a"  "b")`, err: "Invalid argument"},
	{args: ` (NIL "b")`, err: "Invalid argument"},
	{args: ` (a "b")`, err: "Invalid argument"},
	{args: ` ("a" b)`, err: "Invalid argument"},
	{args: ` ("a" ("b" "c"))`, err: "Invalid argument"},
	{args: ` (("a" "b"))`, err: "Invalid argument"},
	{args: " " + strings.Repeat("(", 4000) + strings.Repeat(")", 4000), err: "Invalid argument"},
	{args: ` ("` + strings.Repeat("k", 31) + `" "v")`, err: "ID field too long"},
	{args: ` ("k" "` + strings.Repeat("v", 1025) + `")`, err: "ID field too long"},
	{args: " (\"k\" {1025+}\r\n" + strings.Repeat("v", 1025) + ")", err: "ID field too long"},
	{args: " (\"k\" {1+}\r\n\x00)", err: "NUL in an ID field"},
	{args: " (\"k\" \"\t\")", err: "Control character in a quoted string"},
	{args: " (" + fields(31) + ")", err: "Too many ID fields"},
}

func TestID(t *testing.T) {
	for _, test := range idTests {
		c, err := readCommand(t, "a ID"+test.args+"\r\n")
		if err != nil {
			if got := text(t, err, "ID"); got != test.err {
				t.Errorf("%.60q: %q, want %q", test.args, got, test.err)
			}
			continue
		}
		for range 2 {
			got, err := c.ID()
			if test.err != "" {
				if s := text(t, err, "ID"); s != test.err || got != nil {
					t.Errorf("%.60q: %v, %q; want %q", test.args, got, s, test.err)
				}
				continue
			}
			if diff := cmp.Diff(test.want, got); diff != "" || err != nil {
				t.Errorf("%.60q: %v\n%s", test.args, err, diff)
			}
		}
		c.Wipe()
	}
}

func TestIDTakesThirtyFields(t *testing.T) {
	c, err := readCommand(t, "a ID ("+fields(MaxIDPairs)+")\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if pairs, err := c.ID(); len(pairs) != MaxIDPairs || err != nil {
		t.Errorf("%d pairs, %v", len(pairs), err)
	}
}

func TestIDPairsOutliveTheCommand(t *testing.T) {
	c, err := readCommand(t, `a ID ("name" "x\\y")`+"\r\n")
	if err != nil {
		t.Fatal(err)
	}
	pairs, err := c.ID()
	c.Wipe()
	if diff := cmp.Diff([]Pair{{Key: "name", Value: `x\y`}}, pairs); diff != "" || err != nil {
		t.Error(err, diff)
	}
}

// Nesting is refused at the second parenthesis, so its depth costs nothing.
func TestNestedIDCostsNothing(t *testing.T) {
	c, err := readCommand(t, "a ID "+strings.Repeat("(", 4000)+"\r\n")
	if err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _, _ = c.ID() }); n > 1 { // the error
		t.Errorf("%v allocations", n)
	}
}

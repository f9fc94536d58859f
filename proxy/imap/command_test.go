package imap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// describe prints what ReadCommand returned in one line.
func describe(c *Command, err error) string {
	var (
		syntax   *SyntaxError
		tooBig   *TooBigError
		rejected *RejectedError
	)
	switch {
	case err == nil:
		return fmt.Sprintf("%s %s%q", c.Tag, c.Name, c.buf[c.args:])
	case errors.As(err, &syntax):
		return fmt.Sprintf("bad %q %q: %s", syntax.Tag, syntax.Name, syntax.Text)
	case errors.As(err, &tooBig):
		return fmt.Sprintf("too big %q fatal=%v", tooBig.Tag, tooBig.Fatal)
	case errors.As(err, &rejected):
		return fmt.Sprintf("rejected %q: %v", rejected.Tag, rejected.Err)
	default:
		return err.Error()
	}
}

// dialogue describes all that is read from src, continuation requests included, until an error that ends
// the connection.
func dialogue(src io.Reader) (got []string) {
	cr := &CommandReader{R: NewReader(src)}
	cr.Continue = func(tag, name string) error {
		if name == "ID" && tag == "deny" {
			return io.ErrClosedPipe
		}
		got = append(got, "continue "+tag+" "+name)
		return nil
	}
	for {
		c, err := cr.ReadCommand()
		got = append(got, describe(c, err))
		if err != nil && !goesOn(err) {
			return got
		}
	}
}

// goesOn reports whether the next command can be read after err.
func goesOn(err error) bool {
	var (
		syntax   *SyntaxError
		tooBig   *TooBigError
		rejected *RejectedError
	)
	return errors.As(err, &syntax) || errors.As(err, &rejected) || errors.As(err, &tooBig) && !tooBig.Fatal
}

// commandTests are used as seeds for fuzzing too.
var commandTests = []struct {
	name, input string
	want        []string
}{
	{"plain", "a NOOP\r\n", []string{`a NOOP""`}},
	{"bare LF", "a NOOP\nb noop\n", []string{`a NOOP""`, `b NOOP""`}},
	{"lower case", "a1 capability\r\n", []string{`a1 CAPABILITY""`}},
	{"unknown command", "a xyzzy (foo {} \"\r\n", []string{`a XYZZY" (foo {} \""`}},
	{"pipelined", "a NOOP\r\nb LOGIN x y\r\nc LOGOUT\r\n", []string{`a NOOP""`, `b LOGIN" x y"`, `c LOGOUT""`}},
	{"tags", "a/b.1 NOOP\r\n]!#$&',-./:;<=>?@[^_`|}~ NOOP\r\n", []string{`a/b.1 NOOP""`, "]!#$&',-./:;<=>?@[^_`|}~ NOOP\"\""}},
	{"longest tag", strings.Repeat("x", 64) + " NOOP\r\n", []string{strings.Repeat("x", 64) + ` NOOP""`}},
	{"over-long tag", strings.Repeat("x", 65) + " NOOP\r\n", []string{`bad "" "": Invalid tag`}},
	{"illegal tags", "+ NOOP\r\na+ NOOP\r\n* NOOP\r\na% NOOP\r\na\"b NOOP\r\n\xc3\xa9 NOOP\r\na{ NOOP\r\na\\ NOOP\r\n NOOP\r\n", []string{
		`bad "" "": Invalid tag`, `bad "" "": Invalid tag`, `bad "" "": Invalid tag`, `bad "" "": Invalid tag`, `bad "" "": Invalid tag`,
		`bad "" "": Invalid tag`, `bad "" "": Invalid tag`, `bad "" "": Invalid tag`, `bad "" "": Invalid tag`,
	}},
	{"empty line", "\r\na NOOP\r\n", []string{`bad "" "": Invalid tag`, `a NOOP""`}},
	{"tag alone", "a\r\nb \r\n", []string{`bad "a" "": Missing command`, `bad "b" "": Invalid command name`}},
	{"two spaces before the name", "a  NOOP\r\n", []string{`bad "a" "": Invalid command name`}},
	{"name with a digit", "a NOOP1\r\na X-FOO\r\n", []string{`bad "a" "": Invalid command name`, `bad "a" "": Invalid command name`}},
	{"name too long", "a " + strings.Repeat("n", 33) + "\r\n", []string{`bad "a" "": Invalid command name`}},
	{"trailing space", "a NOOP \r\n", []string{`a NOOP" "`}},
	{"NUL", "a LOGIN x \"\x00\"\r\nb NOOP\r\n", []string{`bad "a" "LOGIN": NUL or CR in a line`, `b NOOP""`}},
	{"bare CR", "a LOGIN x y\rb NOOP\r\nc NOOP\r\r\n", []string{`bad "a" "LOGIN": NUL or CR in a line`, `bad "c" "": Invalid command name`}},
	{"HTTP", "GET / HTTP/1.1\r\n", []string{`bad "GET" "": Invalid command name`}},

	{"synchronizing literals", "a LOGIN {3}\r\nfoo {4}\r\nbar \r\nb NOOP\r\n", []string{
		"continue a LOGIN", "continue a LOGIN", `a LOGIN" {3}foo {4}bar "`, `b NOOP""`,
	}},
	{"non-synchronizing literals", "a LOGIN {3+}\r\nfoo {4+}\r\nb\r\nr\r\nb NOOP\r\n", []string{`a LOGIN" {3+}foo {4+}b\r\nr"`, `b NOOP""`}},
	{"empty literal", "a LOGIN {0}\r\n {0+}\r\n\r\n", []string{"continue a LOGIN", `a LOGIN" {0} {0+}"`}},
	{"literals in ID", "a ID ({4}\r\nname {1+}\r\nx)\r\n", []string{"continue a ID", `a ID" ({4}name {1+}x)"`}},
	{"literal rejected", "deny ID ({4}\r\nb NOOP\r\n", []string{`rejected "deny": io: read/write on closed pipe`, `b NOOP""`}},
	{"largest literal", "a LOGIN {4096}\r\n" + strings.Repeat("x", 4096) + " y\r\n", []string{"continue a LOGIN", `a LOGIN" {4096}` + strings.Repeat("x", 4096) + ` y"`}},
	{"literal too big", "a LOGIN {4097}\r\nb LOGIN {99999999999}\r\nc LOGIN {18446744073709551617}\r\nd LOGIN {100000000000000000000000000001}\r\n", []string{
		`too big "a" fatal=false`, `too big "b" fatal=false`, `too big "c" fatal=false`, `too big "d" fatal=false`,
	}},
	{"non-synchronizing literal too big", "a LOGIN {4097+}\r\nb NOOP\r\n", []string{`too big "a" fatal=true`}},
	{"size that overflows to a small one", "a LOGIN {18446744073709551617+}\r\nb NOOP\r\n", []string{`too big "a" fatal=true`}},
	{"leading zeros", "a LOGIN {00000000000000000001}\r\nx {0000000000000000000000000000000001+}\r\ny\r\n", []string{
		"continue a LOGIN", `a LOGIN" {00000000000000000001}x {0000000000000000000000000000000001+}y"`,
	}},
	{"too big with a bad tag", "+ LOGIN {4097+}\r\nb NOOP\r\n", []string{`too big "" fatal=true`}},
	{"no literals", "a LOGIN {-1}\r\na LOGIN {}\r\na LOGIN { 5}\r\na LOGIN {+}\r\na LOGIN {5+ }\r\na LOGIN {5++}\r\na LOGIN {+5}\r\na LOGIN {0x5}\r\na LOGIN 5}\r\n", []string{
		`a LOGIN" {-1}"`, `a LOGIN" {}"`, `a LOGIN" { 5}"`, `a LOGIN" {+}"`, `a LOGIN" {5+ }"`, `a LOGIN" {5++}"`, `a LOGIN" {+5}"`, `a LOGIN" {0x5}"`, `a LOGIN" 5}"`,
	}},

	{"rejected line with a literal", "+ NOOP {8+}\r\nx LOGOUT\r\nb NOOP\r\n", []string{`bad "" "": Invalid tag`, `b NOOP""`}},
	{"rejected line with literals and the rest of its command", "a APPEND x {10+}\r\nb LOGOUT\r\n {11+}\r\nc LOGOUT\r\n\x00 more\r\nd NOOP\r\n", []string{
		`bad "a" "APPEND": Command takes no literals`, `d NOOP""`,
	}},
	{"unknown command with a literal", "a FROB {11+}\r\nb LOGOUT\r\n\x00\r\nc NOOP\r\n", []string{`bad "a" "FROB": Command takes no literals`, `c NOOP""`}},
	{"name that is not a name, with a literal", "a {8+}\r\nb LOGOUT\r\nc NOOP\r\n", []string{`bad "a" "": Invalid command name`, `c NOOP""`}},
	{"NUL in a line with a literal", "a LOGIN \x00 {8+}\r\nb LOGOUT\r\nc NOOP\r\n", []string{`bad "a" "LOGIN": NUL or CR in a line`, `c NOOP""`}},
	{"NUL behind a literal", "a LOGIN {1+}\r\nx \x00{8+}\r\nb LOGOUT\r\nc NOOP\r\n", []string{`bad "a" "LOGIN": NUL or CR in a line`, `c NOOP""`}},
	{"AUTHENTICATE takes no literal", "a AUTHENTICATE {5+}\r\nPLAIN\r\nb AUTHENTICATE {5}\r\nc NOOP\r\n", []string{
		`bad "a" "AUTHENTICATE": Command takes no literals`, `bad "b" "AUTHENTICATE": Command takes no literals`, `c NOOP""`,
	}},
	{"synchronizing literal of a bad line", "+ LOGIN {5}\r\na NOOP {5}\r\na FROB {5}\r\na LOGIN \x00{5}\r\nb NOOP\r\n", []string{
		`bad "" "": Invalid tag`, `bad "a" "NOOP": Command takes no literals`, `bad "a" "FROB": Command takes no literals`, `bad "a" "LOGIN": NUL or CR in a line`, `b NOOP""`,
	}},
	{"synchronizing literal behind a rejected one", "a FROB {1+}\r\nx {5}\r\nb NOOP\r\n", []string{`bad "a" "FROB": Command takes no literals`, `b NOOP""`}},
	{"too big behind a rejected one", "a FROB {1+}\r\nx {5000+}\r\nb NOOP\r\n", []string{`too big "a" fatal=true`}},
	{"third literal", "a LOGIN {1+}\r\nx {1+}\r\ny {8+}\r\nb LOGOUT\r\nc NOOP\r\n", []string{`bad "a" "LOGIN": Too many literals`, `c NOOP""`}},
	{"third argument", "a LOGIN x y {5}\r\nb NOOP\r\n", []string{`bad "a" "LOGIN": Unexpected text after the last argument`, `b NOOP""`}},
	{"literal without a space", "a LOGIN{5}\r\na LOGIN x{5}\r\na LOGIN \"x\"{5}\r\na LOGIN ~{5}\r\na LOGIN {1+}\r\nx{5}\r\nb NOOP\r\n", []string{
		`bad "a" "": Invalid command name`, `bad "a" "LOGIN": Space expected between arguments`, `bad "a" "LOGIN": Space expected between arguments`,
		`bad "a" "LOGIN": Space expected between arguments`, `bad "a" "LOGIN": Space expected between arguments`, `b NOOP""`,
	}},
	{"literal in an open quoted string", "a LOGIN x \"{5}\r\nb LOGIN x \"{8+}\r\nb LOGOUT\"\r\nc NOOP\r\n", []string{
		`bad "a" "LOGIN": Unterminated quoted string`, `bad "b" "LOGIN": Unterminated quoted string`, `c NOOP""`,
	}},
	{"literal behind a bad argument", "a LOGIN (x {5}\r\nb ID x {5}\r\nc ID (x {5}\r\nd NOOP\r\n", []string{
		`bad "a" "LOGIN": Invalid argument`, `bad "b" "ID": ID takes NIL or one list`, `bad "c" "ID": Invalid argument`, `d NOOP""`,
	}},

	{"longest line", "a LOGIN x " + strings.Repeat("y", MaxLine-10) + "\r\n", []string{`a LOGIN" x ` + strings.Repeat("y", MaxLine-10) + `"`}},
	{"over-long line", "a LOGIN x " + strings.Repeat("y", MaxLine-9) + "\r\n", []string{ErrLineTooLong.Error()}},
	{"longest AUTHENTICATE", "a authenticate x " + strings.Repeat("y", MaxAuthLine-17) + "\r\nb NOOP\r\n", []string{`a AUTHENTICATE" x ` + strings.Repeat("y", MaxAuthLine-17) + `"`, `b NOOP""`}},
	{"AUTHENTICATE just over MaxLine", "a AUTHENTICATE x " + strings.Repeat("y", MaxLine-16) + "\nb NOOP\n", []string{`a AUTHENTICATE" x ` + strings.Repeat("y", MaxLine-16) + `"`, `b NOOP""`}},
	{"over-long AUTHENTICATE", "a AUTHENTICATE x " + strings.Repeat("y", MaxAuthLine-16) + "\r\n", []string{ErrLineTooLong.Error()}},
	{"AUTHENTICATE with an illegal tag is bounded as any line", "+ AUTHENTICATE x " + strings.Repeat("y", MaxLine) + "\r\n", []string{ErrLineTooLong.Error()}},
	{"lines of one command together", "a LOGIN \"" + strings.Repeat("y", 5000) + "\" {1+}\r\nx" + strings.Repeat("y", 5000) + "\r\n", []string{ErrLineTooLong.Error()}},

	{"end in a tag", "a", []string{io.ErrUnexpectedEOF.Error()}},
	{"end in a long AUTHENTICATE", "a AUTHENTICATE x " + strings.Repeat("y", MaxLine), []string{io.ErrUnexpectedEOF.Error()}},
	{"end in a literal", "a LOGIN {3+}\r\nab", []string{io.ErrUnexpectedEOF.Error()}},
	{"end behind a literal", "a LOGIN {3+}\r\nabc", []string{io.ErrUnexpectedEOF.Error()}},
	{"end in a rejected literal", "a FROB {3+}\r\nab", []string{io.ErrUnexpectedEOF.Error()}},
	{"end behind a rejected literal", "a FROB {3+}\r\nabc", []string{io.ErrUnexpectedEOF.Error()}},
}

func TestReadCommand(t *testing.T) {
	for _, test := range commandTests {
		for name, source := range sources {
			t.Run(test.name+"/"+name, func(t *testing.T) {
				got := dialogue(source(strings.NewReader(test.input)))
				want := test.want
				if last := want[len(want)-1]; strings.HasSuffix(last, `"`) || strings.HasPrefix(last, "bad ") || strings.HasSuffix(last, "=false") {
					want = append(slices.Clip(want), "EOF")
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func TestLiteralsAreBoundedPerConnection(t *testing.T) {
	one := "a LOGIN {4096}\r\n" + strings.Repeat("x", 4096) + " y\r\n"
	got := dialogue(strings.NewReader(strings.Repeat(one, MaxLiteralTotal/MaxLiteral) + "b LOGIN {1}\r\nc LOGIN {0}\r\n y\r\nd LOGIN {1+}\r\nx y\r\n"))
	want := []string{`too big "b" fatal=false`, "continue c LOGIN", `c LOGIN" {0} y"`, `too big "d" fatal=true`}
	if diff := cmp.Diff(want, got[len(got)-len(want):]); diff != "" {
		t.Error(diff)
	}
	// Those of rejected commands count too.
	one = "a FROB {4096+}\r\n" + strings.Repeat("x", 4096) + "\r\n"
	got = dialogue(strings.NewReader(strings.Repeat(one, MaxLiteralTotal/MaxLiteral+1)))
	if n := len(got); n != MaxLiteralTotal/MaxLiteral+1 || got[n-1] != `too big "a" fatal=true` {
		t.Errorf("%d commands, last %s", n, got[n-1])
	}
}

func TestEndlessInputEndsWithinTheBounds(t *testing.T) {
	tests := []struct {
		pattern string
		most    int
	}{
		{"x", MaxLine},
		{"a LOGIN ", MaxLine},
		{"\x00", MaxLine},
		{"{", MaxLine},
		{"(", MaxLine},
		{"a ID (((((", MaxLine},
		{"a {0+}\r\n", 2 * MaxLine},
		{"a LOGIN {0+}\r\n", 2 * MaxLine},
		{"{1+}\r\nx", 2 * MaxLine},
		{"a AUTHENTICATE x", MaxAuthLine},
	}
	for _, test := range tests {
		src := &endless{pattern: test.pattern}
		cr := &CommandReader{R: NewReader(src)}
		for commands := 0; ; commands++ {
			_, err := cr.ReadCommand()
			if err == nil || commands > 1000 {
				t.Fatalf("%q: command %d accepted", test.pattern, commands)
			}
			if !goesOn(err) {
				break
			}
		}
		if src.taken > test.most+readerSize {
			t.Errorf("%q: %d bytes were read", test.pattern, src.taken)
		}
	}
}

func TestCommandsHoldNoMoreThanTheBounds(t *testing.T) {
	pad := strings.Repeat("y", 4000)
	literal := strings.Repeat("x", MaxLiteral)
	input := `a LOGIN {4096+}` + "\r\n" + literal + " {4096+}\r\n" + literal + "\r\n" + "b ID (\"" + pad + "\" {4096+}\r\n" + literal + pad + ")\r\n"
	cr := &CommandReader{R: NewReader(strings.NewReader(input))}
	for range 2 {
		c, err := cr.ReadCommand()
		if err != nil {
			continue
		}
		if most := MaxLine + MaxLiterals*MaxLiteral + len("\r\n"); cap(c.buf) > most {
			t.Errorf("%s holds %d bytes, more than %d", c.Name, cap(c.buf), most)
		}
	}
}

func TestContinueNilAcceptsNoSynchronizingLiterals(t *testing.T) {
	cr := &CommandReader{R: NewReader(strings.NewReader("a LOGIN {3}\r\nb NOOP\r\n"))}
	if got, want := describe(cr.ReadCommand()), `bad "a" "LOGIN": Synchronizing literals are not accepted`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := describe(cr.ReadCommand()), `b NOOP""`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestRejectedErrorUnwraps(t *testing.T) {
	refusal := errors.New("before TLS")
	cr := &CommandReader{
		R:        NewReader(strings.NewReader("a LOGIN {3}\r\n")),
		Continue: func(string, string) error { return refusal },
	}
	_, err := cr.ReadCommand()
	var rejected *RejectedError
	if !errors.Is(err, refusal) || !errors.As(err, &rejected) || rejected.Tag != "a" || !strings.HasSuffix(err.Error(), "before TLS") {
		t.Errorf("err = %v", err)
	}
}

func TestCommandErrorsNeverHoldWhatWasReceived(t *testing.T) {
	const canary = "hunter2"
	for _, input := range []string{
		canary + "\x00 LOGIN\r\n",
		"a " + canary + "\r\n",
		"a LOGIN " + canary + "(\r\n",
		"a LOGIN \"" + canary + "\r\n",
		"a LOGIN {7+}\r\n" + canary + "x\r\n",
		"a LOGIN \"" + canary + "\" {9999}\r\n",
		"a AUTHENTICATE PLAIN " + canary + "!\r\n",
		"a ID (" + canary + ")\r\n",
	} {
		c, err := (&CommandReader{R: NewReader(strings.NewReader(input))}).ReadCommand()
		if err == nil {
			switch c.Name {
			case "LOGIN":
				_, _, err = c.Login()
			case "AUTHENTICATE":
				_, _, _, err = c.Authenticate()
			case "ID":
				_, err = c.ID()
			}
		}
		if err == nil || strings.Contains(fmt.Sprintf("%v %+v", err, err), canary) {
			t.Errorf("%q: %v", input, err)
		}
	}
}

func TestWipeZeroesTheCommand(t *testing.T) {
	cr := &CommandReader{R: NewReader(strings.NewReader("a LOGIN \"us\\\"er\" {6+}\r\nsecret\r\n"))}
	c, err := cr.ReadCommand()
	if err != nil {
		t.Fatal(err)
	}
	user, pass, err := c.Login()
	if err != nil {
		t.Fatal(err)
	}
	buf, scratch := c.buf, c.scratch
	c.Wipe()
	for _, b := range [][]byte{user, pass, buf[:cap(buf)], scratch[:cap(scratch)]} {
		if len(bytes.Trim(b, "\x00")) != 0 {
			t.Errorf("%q is left", b)
		}
	}
	if err := c.NoArgs(); err != nil || c.Tag != "a" || c.Name != "LOGIN" {
		t.Errorf("after Wipe: %s %s, %v", c.Tag, c.Name, err)
	}
	if _, _, err := c.Login(); err == nil {
		t.Error("Login works after Wipe")
	}
}

func BenchmarkReadCommand(b *testing.B) {
	for _, bench := range []struct{ name, input string }{
		{"noop", "a001 NOOP\r\n"},
		{"login", "a001 LOGIN alice@example.org \"correct horse battery staple\"\r\n"},
		{"literals", "a001 LOGIN {17+}\r\nalice@example.org {7+}\r\nhunter2\r\n"},
		{"authenticate", "a001 AUTHENTICATE PLAIN " + strings.Repeat("QUJD", 20) + "\r\n"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			src := strings.NewReader(bench.input)
			cr := &CommandReader{R: NewReader(src)}
			b.SetBytes(int64(len(bench.input)))
			b.ReportAllocs()
			for b.Loop() {
				src.Reset(bench.input)
				cr.literals = 0
				c, err := cr.ReadCommand()
				if err != nil {
					b.Fatal(err)
				}
				if c.Name == "LOGIN" {
					if _, _, err := c.Login(); err != nil {
						b.Fatal(err)
					}
				}
				c.Wipe()
			}
		})
	}
}

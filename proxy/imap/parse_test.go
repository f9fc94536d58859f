package imap

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
)

// readCommand reads the one command in input, synchronizing literals included.
func readCommand(tb testing.TB, input string) (*Command, error) {
	tb.Helper()
	cr := &CommandReader{R: NewReader(strings.NewReader(input)), Continue: func(string, string) error { return nil }}
	c, err := cr.ReadCommand()
	if cr.R.Buffered() > 0 {
		tb.Fatalf("%q is not one command", input)
	}
	return c, err
}

// text returns the text of a *SyntaxError that has the tag "a" and the name it should have.
func text(tb testing.TB, err error, name string) string {
	tb.Helper()
	var syntax *SyntaxError
	if !errors.As(err, &syntax) || syntax.Tag != "a" || syntax.Name != name {
		tb.Errorf("not a SyntaxError of a %s: %#v", name, err)
		return ""
	}
	return syntax.Text
}

var loginTests = []struct {
	args, user, pass string
	err              string
}{
	{args: " alice secret", user: "alice", pass: "secret"},
	{args: ` "alice" "secret"`, user: "alice", pass: "secret"},
	{args: " {5}\r\nalice {6}\r\nsecret", user: "alice", pass: "secret"},
	{args: " {5+}\r\nalice {6+}\r\nsecret", user: "alice", pass: "secret"},
	{args: " alice {6+}\r\nsecret", user: "alice", pass: "secret"},
	{args: " {5+}\r\nalice \"secret\"", user: "alice", pass: "secret"},
	{args: ` "" ""`},
	{args: " {0+}\r\n {0}\r\n"},
	{args: ` a]b+c]]`, err: "Missing argument"},
	{args: ` a]b ]+~}&'/`, user: "a]b", pass: "]+~}&'/"},
	{args: ` "a b" "(){%*]+"`, user: "a b", pass: "(){%*]+"},
	{args: ` "a\\b" "\"\\\""`, user: `a\b`, pass: `"\"`},
	{args: ` "\\" {2+}` + "\r\n\\\\", user: `\`, pass: `\\`},
	{args: " jos\u00e9 \u65e5\u672c", user: "jos\u00e9", pass: "\u65e5\u672c"},
	{args: " \"jos\u00e9\" \"\u65e5\u672c\"", user: "jos\u00e9", pass: "\u65e5\u672c"},
	{args: " \"jos\xe9\" pass\xff", user: "jos\xe9", pass: "pass\xff"},
	{args: " {3+}\r\na\r\n {4+}\r\n\"\x00\\\"", user: "a\r\n", pass: "\"\x00\\\""},
	{args: " {5+}\r\n{3+}\r {5+}\r\n a b ", user: "{3+}\r", pass: " a b "},
	{args: " nil NIL", user: "nil", pass: "NIL"},
	{args: "", err: "Missing argument"},
	{args: " ", err: "Missing argument"},
	{args: " x", err: "Missing argument"},
	{args: " x ", err: "Missing argument"},
	{args: ` dom\user x`, user: `dom\user`, pass: "x"}, // a backslash stands for itself in an atom
	{args: ` user*master x%`, user: "user*master", pass: "x%"},
	{args: ` \"x y`, err: "Space expected between arguments"},
	{args: " {1+}\r\nx", err: "Missing argument"},
	{args: "  x y", err: "Invalid argument"},
	{args: " x  y", err: "Invalid argument"},
	{args: " x y ", err: "Unexpected text after the last argument"},
	{args: " x y z", err: "Unexpected text after the last argument"},
	{args: ` x "y"z`, err: "Unexpected text after the last argument"},
	{args: ` x "y""z"`, err: "Unexpected text after the last argument"},
	{args: ` "x""y"`, err: "Space expected between arguments"},
	{args: ` x" y`, err: "Space expected between arguments"},
	{args: " x\ty", err: "Space expected between arguments"},
	{args: " {1+}\r\nxy z", err: "Space expected between arguments"},
	{args: " {1+}\r\nx\ty", err: "Space expected between arguments"},
	{args: " x {1+}\r\nyz", err: "Unexpected text after the last argument"},
	{args: " x {1+}\r\ny ", err: "Unexpected text after the last argument"},
	{args: " x {1+}\r\ny)", err: "Unexpected text after the last argument"},
	{args: ` (x) y`, err: "Invalid argument"},
	{args: ` x (y)`, err: "Invalid argument"},
	{args: ` x y)`, err: "Unexpected text after the last argument"},
	{args: ` x {}`, err: "Invalid argument"},
	{args: ` x {-1}`, err: "Invalid argument"},
	{args: ` x { 5}`, err: "Invalid argument"},
	{args: ` x {5+} `, err: "Invalid argument"},
	{args: ` x {5`, err: "Invalid argument"},
	{args: " x y\x7f", err: "Unexpected text after the last argument"},
	{args: ` x "y`, err: "Unterminated quoted string"},
	{args: ` x "`, err: "Unterminated quoted string"},
	{args: ` x "\"`, err: "Unterminated quoted string"},
	{args: ` x "\`, err: "Invalid escape in a quoted string"},
	{args: ` x "\n"`, err: "Invalid escape in a quoted string"},
	{args: ` "DOM\user" y`, err: "Invalid escape in a quoted string"},
	{args: " x \"y\tz\"", err: "Control character in a quoted string"},
	{args: " x \"\x7f\"", err: "Control character in a quoted string"},
	{args: " x \"\x1b[2J\"", err: "Control character in a quoted string"},
}

func TestLogin(t *testing.T) {
	for _, test := range loginTests {
		t.Run(fmt.Sprintf("%q", test.args), func(t *testing.T) {
			c, err := readCommand(t, "a LOGIN"+test.args+"\r\n")
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the same every time
				user, pass, err := c.Login()
				if test.err != "" {
					if got := text(t, err, "LOGIN"); got != test.err || user != nil || pass != nil {
						t.Errorf("%q, %q, %q; want %q", user, pass, got, test.err)
					}
				} else if string(user) != test.user || string(pass) != test.pass || err != nil {
					t.Errorf("%q, %q, %v; want %q, %q", user, pass, err, test.user, test.pass)
				}
			}
		})
	}
}

// One string has the same bytes however it is sent; where it cannot be sent in a form, that form is refused.
func TestStringsAreTheSameInEveryForm(t *testing.T) {
	for _, s := range []string{
		"x", "", `\`, `\\`, `"`, `a\"b`, "{3}", "{3+}", "]", "+", "NIL", "a b", "(a)", "%00", "50%", "*", "jos\u00e9", "\xff", "a\r\nb", "\x00", "\t",
	} {
		forms := map[string]string{
			"atom":   s,
			"quoted": string(AppendQuoted(nil, []byte(s))),
			"{n}":    fmt.Sprintf("{%d}\r\n%s", len(s), s),
			"{n+}":   fmt.Sprintf("{%d+}\r\n%s", len(s), s),
		}
		for name, form := range forms {
			if strings.ContainsAny(s, "\x00\r\n") && name[0] != '{' {
				continue
			}
			for _, input := range []string{"a LOGIN x " + form + "\r\n", "a LOGIN " + form + " x\r\n"} {
				c, err := readCommand(t, input)
				if err != nil {
					if name != "atom" {
						t.Errorf("%q: %v", input, err)
					}
					continue
				}
				user, pass, err := c.Login()
				got := pass
				if string(pass) == "x" {
					got = user
				}
				switch {
				case err != nil && name != "atom" && s != "\t":
					t.Errorf("%q: %v", input, err)
				case err == nil && string(got) != s:
					t.Errorf("%q: got %q, want %q", input, got, s)
				}
			}
		}
	}
}

func TestLoginResultsDoNotOverlap(t *testing.T) {
	for _, input := range []string{"a LOGIN user pass\r\n", "a LOGIN \"user\" \"pass\"\r\n", "a LOGIN \"u\\\\r\" \"\\\\ass\"\r\n", "a LOGIN {4+}\r\nuser {4+}\r\npass\r\n"} {
		c, err := readCommand(t, input)
		if err != nil {
			t.Fatal(err)
		}
		user, pass, err := c.Login()
		if err != nil {
			t.Fatal(err)
		}
		want := string(pass)
		_ = append(user, "overwritten"...)
		if string(pass) != want {
			t.Errorf("%q: appending to the name changed the password to %q", input, pass)
		}
	}
}

func TestNoArgs(t *testing.T) {
	for args, want := range map[string]string{"": "", " ": "Command takes no arguments", " x": "Command takes no arguments"} {
		c, err := readCommand(t, "a NOOP"+args+"\r\n")
		if err != nil {
			t.Fatal(err)
		}
		if err := c.NoArgs(); (err == nil) != (want == "") || err != nil && text(t, err, "NOOP") != want {
			t.Errorf("%q: %v, want %q", args, err, want)
		}
	}
}

func TestAuthenticate(t *testing.T) {
	token := strings.Repeat("QUJD", 15000)
	tests := []struct {
		args, mechanism, ir string
		hasIR               bool
		err                 string
	}{
		{args: " PLAIN", mechanism: "PLAIN"},
		{args: " plain", mechanism: "PLAIN"},
		{args: " Scram-SHA-256", mechanism: "SCRAM-SHA-256"},
		{args: " x_1-", mechanism: "X_1-"},
		{args: " PLAIN AGEAYg==", mechanism: "PLAIN", ir: "AGEAYg==", hasIR: true},
		{args: " PLAIN =", mechanism: "PLAIN", hasIR: true},
		{args: " PLAIN ==", mechanism: "PLAIN", ir: "==", hasIR: true}, // ParseBase64 refuses it
		{args: " XOAUTH2 " + token, mechanism: "XOAUTH2", ir: token, hasIR: true},
		{args: " " + strings.Repeat("A", 20), mechanism: strings.Repeat("A", 20)},
		{args: "", err: "Missing mechanism"},
		{args: " ", err: "Invalid mechanism"},
		{args: "  PLAIN", err: "Invalid mechanism"},
		{args: " " + strings.Repeat("A", 21), err: "Invalid mechanism"},
		{args: " PLAIN\x00", err: "-"},
		{args: ` "PLAIN"`, err: "Invalid mechanism"},
		{args: " PL.AIN", err: "Invalid mechanism"},
		{args: " PLAIN ", err: "Invalid initial response"},
		{args: " PLAIN  AGEAYg==", err: "Invalid initial response"},
		{args: " PLAIN AGEAYg== ", err: "Invalid initial response"},
		{args: " PLAIN AGEAYg== x", err: "Invalid initial response"},
		{args: " PLAIN *", err: "Invalid initial response"},
		{args: " PLAIN \"AGEAYg==\"", err: "Invalid initial response"},
		{args: " PLAIN AG-_", err: "Invalid initial response"},
		{args: " PLAIN {5}", err: "-"},
	}
	for _, test := range tests {
		c, err := readCommand(t, "a AUTHENTICATE"+test.args+"\r\n")
		if err != nil {
			if test.err != "-" {
				t.Errorf("%.40q: %v", test.args, err)
			}
			continue
		}
		mechanism, ir, hasIR, err := c.Authenticate()
		if test.err != "" {
			if got := text(t, err, "AUTHENTICATE"); got != test.err || mechanism != "" || ir != nil || hasIR {
				t.Errorf("%.40q: %q, want %q", test.args, got, test.err)
			}
			continue
		}
		if mechanism != test.mechanism || string(ir) != test.ir || hasIR != test.hasIR || (ir != nil) != hasIR || err != nil {
			t.Errorf("%.40q: %q, %.40q, %v, %v", test.args, mechanism, ir, hasIR, err)
		}
	}
}

func TestParseBase64(t *testing.T) {
	for src, want := range map[string]string{"": "", "YQ==": "a", "YWI=": "ab", "YWJj": "abc", "+/+/": "\xfb\xff\xbf"} {
		if got, err := ParseBase64([]byte("x"), []byte(src)); string(got) != "x"+want || err != nil {
			t.Errorf("%q: %q, %v", src, got, err)
		}
	}
	for _, src := range []string{"=", "Y", "YQ", "YQ=", "YQ===", "YR==", "YQ==YQ==", "YW Jj", "YWJj\r\n", "YW\nJj", "\r\n", "-_-_", "YQ==\x00", "*", "\xff"} {
		dst := append(make([]byte, 0, 16), 'x')
		if got, err := ParseBase64(dst, []byte(src)); string(got) != "x" || err == nil {
			t.Errorf("%q: %q, %v", src, got, err)
		}
		if rest := dst[1:cap(dst)]; len(bytes.Trim(rest, "\x00")) != 0 {
			t.Errorf("%q: %q is left behind", src, rest)
		}
	}
}

package imap

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// transcripts returns what the speaker says in the conversations of package proxy: the whole of each conversation,
// with CRLF line ends.
func transcripts(tb testing.TB, speaker string) (said []string) {
	tb.Helper()
	names, err := filepath.Glob(filepath.Join("..", "testdata", "*.txtar"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, name := range names {
		data, err := os.ReadFile(name)
		if err != nil {
			continue // just being written or removed
		}
		for _, file := range txtar.Parse(data).Files {
			if file.Name != "conversation" {
				continue
			}
			var b strings.Builder
			for line := range strings.Lines(string(file.Data)) {
				if words, ok := strings.CutPrefix(line, speaker+": "); ok {
					b.WriteString(strings.TrimRight(words, "\r\n") + "\r\n")
				}
			}
			if b.Len() > 0 {
				said = append(said, b.String())
			}
		}
	}
	return said
}

// FuzzCommand reads a client's bytes as commands. They mean the same in whatever pieces they come, stay within the
// bounds, and a Follower sees the same ends.
func FuzzCommand(f *testing.F) {
	for _, test := range commandTests {
		if len(test.input) < 2*MaxLine {
			f.Add([]byte(test.input))
		}
	}
	for _, test := range loginTests {
		f.Add([]byte("a LOGIN" + test.args + "\r\n"))
	}
	for _, said := range transcripts(f, "C") {
		f.Add([]byte(said))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		whole := dialogue(bytes.NewReader(input))
		if slow := dialogue(iotest.OneByteReader(bytes.NewReader(input))); !slices.Equal(whole, slow) {
			t.Errorf("byte by byte: %s", cmp.Diff(whole, slow))
		}

		src := bytes.NewReader(input)
		cr := &CommandReader{R: NewReader(src), Continue: func(string, string) error { return nil }}
		position := func() int { return len(input) - src.Len() - cr.R.Buffered() }
		for {
			start := position()
			c, err := cr.ReadCommand()
			if err != nil {
				checkError(t, err)
				if !goesOn(err) {
					return
				}
				continue
			}
			checkCommand(t, c)
			if sent := input[start:position()]; !tooManyDigits(sent) {
				follower := Follower{Client: true}
				if got := follower.Advance(sent); got != len(sent) || !follower.AtBoundary() {
					t.Errorf("%q: a Follower sees the end at %d", sent, got)
				}
			}
		}
	})
}

// tooManyDigits reports whether a stream may announce a literal with more digits than a Follower looks at.
func tooManyDigits(stream []byte) bool {
	return bytes.Contains(stream, bytes.Repeat([]byte{'0'}, 10))
}

func checkError(t *testing.T, err error) {
	t.Helper()
	var (
		syntax *SyntaxError
		tooBig *TooBigError
	)
	tag := ""
	if errors.As(err, &syntax) {
		tag = syntax.Tag
	} else if errors.As(err, &tooBig) {
		tag = tooBig.Tag
	}
	if tag != "" && (len(tag) > MaxTag || !isTagString(tag)) {
		t.Errorf("illegal tag %q", tag)
	}
	if syntax != nil && strings.Trim(syntax.Name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		t.Errorf("illegal name %q", syntax.Name)
	}
}

func checkCommand(t *testing.T, c *Command) {
	t.Helper()
	if len(c.Tag) > MaxTag || !isTagString(c.Tag) {
		t.Errorf("illegal tag %q", c.Tag)
	}
	if c.Name == "" || strings.Trim(c.Name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		t.Errorf("illegal name %q", c.Name)
	}
	most := MaxLine + MaxLiterals*MaxLiteral
	if c.Name == "AUTHENTICATE" {
		most = MaxAuthLine
	}
	if cap(c.buf) > most+2 {
		t.Errorf("holds %d bytes", cap(c.buf))
	}
	_ = c.NoArgs()
	user, pass, err := c.Login()
	if err == nil {
		checkLogin(t, user, pass)
	}
	if mechanism, ir, hasIR, err := c.Authenticate(); err == nil {
		if mechanism == "" || len(mechanism) > maxMechanism || (ir != nil) != hasIR {
			t.Errorf("%q, %q, %v", mechanism, ir, hasIR)
		}
		if plain, err := ParseBase64(nil, ir); err != nil && len(plain) > 0 {
			t.Errorf("%q: %q, %v", ir, plain, err)
		}
	}
	if pairs, err := c.ID(); err == nil {
		checkID(t, pairs)
	}
	c.Wipe()
	if len(bytes.Trim(user, "\x00"))+len(bytes.Trim(pass, "\x00")) > 0 {
		t.Errorf("%q and %q are left", user, pass)
	}
}

// checkLogin sends what was received again, in other forms.
func checkLogin(t *testing.T, user, pass []byte) {
	t.Helper()
	var inputs []string
	if len(user) <= MaxLiteral && len(pass) <= MaxLiteral {
		inputs = append(inputs, fmt.Sprintf("b LOGIN {%d+}\r\n%s {%d}\r\n%s\r\n", len(user), user, len(pass), pass))
	}
	quoted := fmt.Sprintf("b LOGIN %s %s", AppendQuoted(nil, user), AppendQuoted(nil, pass))
	if len(quoted) <= MaxLine && !slices.ContainsFunc(user, isControl) && !slices.ContainsFunc(pass, isControl) {
		inputs = append(inputs, quoted+"\r\n")
	}
	for _, input := range inputs {
		c, err := readCommand(t, input)
		if err != nil {
			t.Fatalf("%q: %v", input, err)
		}
		if u, p, err := c.Login(); !bytes.Equal(u, user) || !bytes.Equal(p, pass) || err != nil {
			t.Errorf("%q: %q, %q, %v", input, u, p, err)
		}
	}
}

// checkID sends what was received again.
func checkID(t *testing.T, pairs []Pair) {
	t.Helper()
	if len(pairs) > MaxIDPairs {
		t.Errorf("%d pairs", len(pairs))
	}
	for _, p := range pairs {
		if len(p.Key) > MaxIDKey || len(p.Value) > MaxIDValue || p.Nil && p.Value != "" || strings.Contains(p.Key+p.Value, "\x00") {
			t.Errorf("pair %q: %q", p.Key, p.Value)
		}
	}
	sent := AppendID(nil, pairs)
	if bytes.ContainsAny(sent, "\x00\r\n") || !isASCII(string(sent)) {
		t.Fatalf("AppendID = %q", sent)
	}
	if len(sent) > MaxLine-10 || slices.ContainsFunc(sent, isControl) {
		return
	}
	c, err := readCommand(t, "b ID "+string(sent)+"\r\n")
	if err != nil {
		t.Fatalf("%q: %v", sent, err)
	}
	again, err := c.ID()
	if err != nil || len(again) != len(pairs) {
		t.Fatalf("%q: %d pairs, %v", sent, len(again), err)
	}
	if len(pairs) > 0 && !bytes.Equal(AppendID(nil, again), sent) {
		t.Errorf("%q became %q", sent, AppendID(nil, again))
	}
}

// FuzzLiteral compares the reading of one literal with arithmetic that cannot overflow.
func FuzzLiteral(f *testing.F) {
	for _, digits := range []string{"", "0", "3", "4096", "4097", "-1", " 5", "5 ", "+", "+5", "00000000000000000001", "18446744073709551615", "18446744073709551617", "99999999999999999999999999999999", "0x5", "\u0665"} {
		f.Add(digits, true, []byte("abc x"))
		f.Add(digits, false, []byte("abc x\r\nb LOGIN y z"))
	}
	f.Fuzz(func(t *testing.T, digits string, sync bool, rest []byte) {
		if strings.ContainsAny(digits, "\r\n\x00{") || len(digits) > 4000 {
			return // another line, or another literal
		}
		plus := "+"
		if sync {
			plus = ""
		}
		input := "a LOGIN {" + digits + plus + "}\r\n" + string(rest) + "\r\n"
		asked := 0
		cr := &CommandReader{R: NewReader(strings.NewReader(input)), Continue: func(string, string) error { asked++; return nil }}
		c, err := cr.ReadCommand()

		isNumber := digits != "" && strings.Trim(digits, "0123456789") == ""
		if !isNumber && sync && strings.HasSuffix(digits, "+") {
			return // as without sync
		}
		if !isNumber {
			if err != nil || asked > 0 {
				t.Fatalf("%q: %v, asked %d times", input, err, asked)
			}
			if _, _, err := c.Login(); err == nil {
				t.Fatalf("%q was accepted", input)
			}
			return
		}
		size, _ := new(big.Int).SetString(digits, 10)
		if size.Cmp(big.NewInt(MaxLiteral)) > 0 {
			var tooBig *TooBigError
			if !errors.As(err, &tooBig) || tooBig.Fatal == sync || tooBig.Tag != "a" || asked > 0 {
				t.Fatalf("%q: %v, asked %d times", input, err, asked)
			}
			return
		}
		if sync && asked == 0 {
			t.Fatalf("%q: not asked", input)
		}
		n := int(size.Int64())
		if n > len(rest)+2 {
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("%q: %v", input, err)
			}
			return
		}
		if err != nil {
			return // FuzzCommand has the rest of the command
		}
		want := input[strings.Index(input, "\n")+1:][:n]
		if user, _, err := c.Login(); err == nil && string(user) != want {
			t.Fatalf("%q: %q, want %q", input, user, want)
		}
		if got := string(c.buf[c.literals[0].start:c.literals[0].end]); got != want {
			t.Fatalf("%q: literal %q, want %q", input, got, want)
		}
	})
}

// FuzzID reads the arguments of an ID command.
func FuzzID(f *testing.F) {
	for _, test := range idTests {
		f.Add([]byte(test.args))
	}
	for _, said := range transcripts(f, "C") {
		if _, args, ok := strings.Cut(said, " ID"); ok {
			f.Add([]byte(args))
		}
	}
	f.Fuzz(func(t *testing.T, args []byte) {
		cr := &CommandReader{
			R:        NewReader(io.MultiReader(strings.NewReader("a ID"), bytes.NewReader(args), strings.NewReader("\r\n"))),
			Continue: func(string, string) error { return nil },
		}
		c, err := cr.ReadCommand()
		if err != nil {
			checkError(t, err)
			return
		}
		pairs, err := c.ID()
		if err != nil {
			text(t, err, c.Name)
			return
		}
		checkID(t, pairs)
		if nested := bytes.Count(args, []byte("(")); len(pairs) == 0 && nested > 1 && cr.R.Buffered() == 0 {
			t.Errorf("%q was accepted", args)
		}
	})
}

// FuzzResponse reads a backend's bytes as responses.
func FuzzResponse(f *testing.F) {
	for _, test := range responseTests {
		f.Add([]byte(test.input))
	}
	for _, said := range transcripts(f, "B") {
		f.Add([]byte(said))
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		const budget = 16 << 10
		src := bytes.NewReader(input)
		rr := &ResponseReader{R: NewReader(src), Budget: budget}
		slow := &ResponseReader{R: NewReader(iotest.OneByteReader(bytes.NewReader(input))), Budget: budget}
		position := func() int { return len(input) - src.Len() - rr.R.Buffered() }
		for {
			start := position()
			resp, err := rr.ReadResponse()
			again, slowErr := slow.ReadResponse()
			if same := err == nil && slowErr == nil || err != nil && slowErr != nil && err.Error() == slowErr.Error(); resp != again || !same {
				t.Fatalf("byte by byte: %v, %v\n%s", err, slowErr, cmp.Diff(resp, again))
			}
			if position() > budget+2 || cap(rr.buf) > MaxLine+2 {
				t.Fatalf("%d bytes consumed, %d held", position(), cap(rr.buf))
			}
			if _, ok := errors.AsType[*SyntaxError](err); ok {
				continue
			}
			if err != nil {
				return
			}
			checkResponse(t, resp)
			if sent := input[start:position()]; !tooManyDigits(sent) {
				var follower Follower
				if got := follower.Advance(sent); got != len(sent) || !follower.AtBoundary() {
					t.Errorf("%q: a Follower sees the end at %d", sent, got)
				}
			}
		}
	})
}

func checkResponse(t *testing.T, resp Response) {
	t.Helper()
	for _, s := range []string{resp.Tag, resp.Name, resp.Code, resp.CodeArgs, resp.Text, resp.Line} {
		if strings.ContainsAny(s, "\x00\r\n") {
			t.Errorf("%q in %q", s, resp.Line)
		}
	}
	if (resp.Kind == Tagged) != (resp.Tag != "") || (resp.Kind == Continuation) != (resp.Name == "") || resp.Code != "" && !resp.IsStatus() {
		t.Errorf("%#v", resp)
	}
	if resp.Kind == Tagged && !resp.IsStatus() {
		t.Errorf("%#v", resp)
	}
	if caps, ok := resp.Capabilities(); ok {
		for i, c := range caps {
			if !isAtomString(c) || slices.Contains(caps[:i], c) || !HasCapability(caps, strings.ToLower(c)) {
				t.Errorf("capabilities %q", caps)
			}
		}
	}
}

// FuzzFollower compares a Follower with a slow parser that sees the whole stream at once.
func FuzzFollower(f *testing.F) {
	for _, parts := range followerTests {
		f.Add([]byte(strings.Join(parts, "")), uint16(7))
	}
	for _, said := range transcripts(f, "B") {
		f.Add([]byte(said), uint16(20))
	}
	f.Fuzz(func(t *testing.T, stream []byte, cut uint16) {
		if len(stream) <= 48 {
			followEverywhere(t, stream)
			return
		}
		var every []int
		for at := 1 + int(cut)%97; at < len(stream); at += 1 + int(cut)%97 {
			every = append(every, at)
		}
		for _, client := range []bool{false, true} {
			r := refer(stream, client)
			r.follow(t)
			r.follow(t, every...)
			r.follow(t, int(cut)%len(stream))
		}
	})
}

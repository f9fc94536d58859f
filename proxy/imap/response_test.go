package imap

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

// responseTests are used as seeds for fuzzing too. Line is filled in by the tests.
var responseTests = []struct {
	input string
	want  Response
	err   string
}{
	{input: "* OK IMAP server ready.\r\n", want: Response{Name: "OK", Text: "IMAP server ready."}},
	{input: "* ok [CAPABILITY IMAP4rev1 ID] Dovecot ready.\r\n", want: Response{Name: "OK", Code: "CAPABILITY", CodeArgs: "IMAP4rev1 ID", Text: "Dovecot ready."}},
	{input: "* PREAUTH hello\n", want: Response{Name: "PREAUTH", Text: "hello"}},
	{input: "* BYE [unavailable] Later\r\n", want: Response{Name: "BYE", Code: "UNAVAILABLE", Text: "Later"}},
	{input: "x1 OK [READ-WRITE] Logged in\r\n", want: Response{Kind: Tagged, Tag: "x1", Name: "OK", Code: "READ-WRITE", Text: "Logged in"}},
	{input: "A/b.1 No [AUTHENTICATIONFAILED] \u00c9chec\r\n", want: Response{Kind: Tagged, Tag: "A/b.1", Name: "NO", Code: "AUTHENTICATIONFAILED", Text: "\u00c9chec"}},
	{input: "x BAD \r\n", want: Response{Kind: Tagged, Tag: "x", Name: "BAD"}},
	{input: "x OK\r\n", want: Response{Kind: Tagged, Tag: "x", Name: "OK"}},
	{input: "x OK [ALERT]\r\n", want: Response{Kind: Tagged, Tag: "x", Name: "OK", Code: "ALERT"}},
	{input: "x OK [ALERT]text\r\n", want: Response{Kind: Tagged, Tag: "x", Name: "OK", Code: "ALERT", Text: "text"}},
	{input: "x OK [ALERT]  text ]\r\n", want: Response{Kind: Tagged, Tag: "x", Name: "OK", Code: "ALERT", Text: " text ]"}},
	{input: "x OK  [ALERT] text\r\n", want: Response{Kind: Tagged, Tag: "x", Name: "OK", Text: " [ALERT] text"}},
	{input: "x NO [REFERRAL imap://;AUTH=*@other/] elsewhere\r\n", want: Response{Kind: Tagged, Tag: "x", Name: "NO", Code: "REFERRAL", CodeArgs: "imap://;AUTH=*@other/", Text: "elsewhere"}},
	{input: "x OK [PERMANENTFLAGS (\\Deleted \\*)] Flags\r\n", want: Response{Kind: Tagged, Tag: "x", Name: "OK", Code: "PERMANENTFLAGS", CodeArgs: `(\Deleted \*)`, Text: "Flags"}},
	{input: "x OK [ALERT text\r\n", want: Response{Kind: Tagged, Tag: "x", Name: "OK", Text: "[ALERT text"}},
	{input: "x OK text {5}\r\n", want: Response{Kind: Tagged, Tag: "x", Name: "OK", Text: "text {5}"}},
	{input: "x OK [ALERT] text {5}\r\n", want: Response{Kind: Tagged, Tag: "x", Name: "OK", Code: "ALERT", Text: "text {5}"}},
	{input: "* OK text {5+}\r\n", want: Response{Name: "OK", Text: "text {5+}"}},
	{input: "x NO [BADCHARSET ({5}\r\nab]\r\n)] text {7}\r\n", want: Response{Kind: Tagged, Tag: "x", Name: "NO", Text: "[BADCHARSET ({5}"}},
	{input: "+ \r\n", want: Response{Kind: Continuation}},
	{input: "+\r\n", want: Response{Kind: Continuation}},
	{input: "+ idling {5}\r\n", want: Response{Kind: Continuation, Text: "idling {5}"}},
	{input: "+ eyJzdGF0dXMiOiI0MDEifQ==\r\n", want: Response{Kind: Continuation, Text: "eyJzdGF0dXMiOiI0MDEifQ=="}},
	{input: "* capability IMAP4rev1 AUTH=PLAIN\r\n", want: Response{Name: "CAPABILITY", Text: "IMAP4rev1 AUTH=PLAIN"}},
	{input: "* ID NIL\r\n", want: Response{Name: "ID", Text: "NIL"}},
	{input: "* ID (\"name\" {7}\r\nDove\r\nc \"x\" {1+}\r\ny)\r\n", want: Response{Name: "ID", Text: `("name" {7}`}},
	{input: "* 5 EXISTS\r\n", want: Response{Name: "5", Text: "EXISTS"}},
	{input: "* 5 FETCH (BINARY[1] ~{0}\r\n)\r\n", want: Response{Name: "5", Text: "FETCH (BINARY[1] ~{0}"}},
	{input: "\r\n", err: "Invalid tag"},
	{input: "*\r\n", err: "Invalid response"},
	{input: "* \r\n", err: "Invalid response"},
	{input: "*  OK\r\n", err: "Invalid response"},
	{input: "x\r\n", err: "Invalid response"},
	{input: "+x\r\n", err: "Invalid tag"},
	{input: "(x OK y\r\n", err: "Invalid tag"},
	{input: "\xff OK y\r\n", err: "Invalid tag"},
	{input: "* O\xffK y\r\n", err: "Invalid response"},
	{input: "* \"OK\" y\r\n", err: "Invalid response"},
	{input: "x BYE y\r\n", err: "Invalid tagged response"},
	{input: "x PREAUTH y\r\n", err: "Invalid tagged response"},
	{input: "x CAPABILITY y\r\n", err: "Invalid tagged response"},
	{input: "x OK [] y\r\n", err: "Invalid response code"},
	{input: "x OK [A\"] y\r\n", err: "Invalid response code"},
	{input: "x OK [A \xff] y\r\n", err: "Invalid response code"},
	{input: "* OK a\x00b\r\n", err: "NUL or CR in a line"},
	{input: "* OK a\rb\r\n", err: "NUL or CR in a line"},
	{input: "HTTP/1.1 400 Bad Request\r\n", err: "Invalid tagged response"},
	{input: "SSH-2.0-OpenSSH_9.9\r\n", err: "Invalid response"},
	{input: "220 mail ESMTP\r\n", err: "Invalid tagged response"},
}

func TestReadResponse(t *testing.T) {
	for _, test := range responseTests {
		for name, source := range sources {
			rr := &ResponseReader{R: NewReader(source(strings.NewReader(test.input + "* NEXT\r\n"))), Budget: 1000}
			got, err := rr.ReadResponse()
			if test.err != "" {
				var syntax *SyntaxError
				if !errors.As(err, &syntax) || syntax.Text != test.err || syntax.Tag != "" || got != (Response{}) {
					t.Errorf("%s: %q: %v, %v; want %s", name, test.input, got, err, test.err)
				}
			} else {
				want := test.want
				want.Line = strings.TrimRight(strings.SplitAfter(test.input, "\n")[0], "\r\n")
				if diff := cmp.Diff(want, got); diff != "" || err != nil {
					t.Errorf("%s: %q: %v\n%s", name, test.input, err, diff)
				}
			}
			if next, err := rr.ReadResponse(); next.Name != "NEXT" || err != nil {
				t.Errorf("%s: behind %q: %q, %v", name, test.input, next.Line, err)
			}
			if end, err := rr.ReadResponse(); err != io.EOF { //nolint:errorlint // exactly io.EOF
				t.Errorf("%s: at the end: %v, %v", name, end, err)
			}
		}
	}
}

func TestReadResponseBoundsWhatItReads(t *testing.T) {
	const budget = 64 << 10
	short := strings.Repeat("x", 100) + "\r\n"
	tests := []struct {
		name string
		src  io.Reader
		want error
	}{
		{"endless line", &endless{pattern: "x"}, ErrLineTooLong},
		{"endless NULs", &endless{pattern: "\x00"}, ErrLineTooLong},
		{"endless lines", &endless{pattern: "* " + short}, ErrBudget},
		{"endless empty lines", &endless{pattern: "\n"}, ErrBudget},
		{"endless continuations", &endless{pattern: "+ \r\n"}, ErrBudget},
		{"endless literals", &endless{pattern: "* A {0}\r\n"}, ErrBudget},
		{"endless empty literals in a code", &endless{pattern: "* OK [A {0}\r\n"}, ErrBudget},
		{"literal over the budget", strings.NewReader("* A {4294967296}\r\n"), ErrBudget},
		{"literal over 64 bits", strings.NewReader("* A {99999999999999999999999}\r\n"), ErrBudget},
		{"literal at the budget", io.MultiReader(strings.NewReader(fmt.Sprintf("* A {%d}\r\n", budget-len("* A {65000}\r\n"))), &endless{pattern: "x"}), ErrBudget},
		{"end in a line", strings.NewReader("* A"), io.ErrUnexpectedEOF},
		{"end in a literal", strings.NewReader("* A {5}\r\nab"), io.ErrUnexpectedEOF},
		{"end behind a literal", strings.NewReader("* A {2}\r\nab"), io.ErrUnexpectedEOF},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			src := &counted{src: test.src}
			rr := &ResponseReader{R: NewReader(src), Budget: budget}
			var err error
			for n := 0; n <= budget; n++ {
				var syntax *SyntaxError
				if _, err = rr.ReadResponse(); err != nil && !errors.As(err, &syntax) {
					break
				}
			}
			if !errors.Is(err, test.want) {
				t.Errorf("err = %v, want %v", err, test.want)
			}
			if src.n > budget+readerSize {
				t.Errorf("%d bytes were read", src.n)
			}
			if cap(rr.buf) > MaxLine+2 {
				t.Errorf("holds %d bytes", cap(rr.buf))
			}
		})
	}
}

type counted struct {
	src io.Reader
	n   int
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.src.Read(p)
	c.n += n
	return n, err
}

func TestResponseBudgetIsExact(t *testing.T) {
	input := "* A {3}\r\nabc\r\n"
	for budget := -1; budget <= len(input); budget++ {
		rr := &ResponseReader{R: NewReader(strings.NewReader(input)), Budget: budget}
		_, err := rr.ReadResponse()
		if budget < len(input) && !errors.Is(err, ErrBudget) || budget == len(input) && (err != nil || rr.Budget != 0) {
			t.Errorf("budget %d: %v, %d left", budget, err, rr.Budget)
		}
	}
	rr := &ResponseReader{R: NewReader(iotest.ErrReader(errors.New("read although there was no budget")))}
	if _, err := rr.ReadResponse(); !errors.Is(err, ErrBudget) {
		t.Errorf("zero budget: %v", err)
	}
}

func TestReadResponseTakesLinesOfMaxLine(t *testing.T) {
	line := "* OK " + strings.Repeat("x", MaxLine-5)
	rr := &ResponseReader{R: NewReader(strings.NewReader(line + "\r\n" + line + "x\r\n")), Budget: 1 << 20}
	if resp, err := rr.ReadResponse(); resp.Line != line || err != nil {
		t.Errorf("%d bytes, %v", len(resp.Line), err)
	}
	if _, err := rr.ReadResponse(); !errors.Is(err, ErrLineTooLong) {
		t.Errorf("one byte more: %v", err)
	}
}

func TestResponseCapabilities(t *testing.T) {
	for input, want := range map[string][]string{
		"* CAPABILITY IMAP4rev1 ID":             {"IMAP4REV1", "ID"},
		"* OK [CAPABILITY IMAP4rev1 ID] ready":  {"IMAP4REV1", "ID"},
		"x OK [capability IMAP4rev1] logged in": {"IMAP4REV1"},
	} {
		resp, _, err := parseResponse(input)
		got, ok := resp.Capabilities()
		if diff := cmp.Diff(want, got); diff != "" || !ok || err != nil {
			t.Errorf("%q: %v, %v\n%s", input, ok, err, diff)
		}
	}
	for _, input := range []string{"* OK CAPABILITY IMAP4rev1", "+ CAPABILITY x", "x OK [ALERT] x", "* ID NIL"} {
		resp, _, err := parseResponse(input)
		if got, ok := resp.Capabilities(); got != nil || ok || err != nil {
			t.Errorf("%q: %v, %v, %v", input, got, ok, err)
		}
	}
}

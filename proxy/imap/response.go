package imap

import (
	"bytes"
	"errors"
	"strings"
)

// A ResponseReader reads the responses of a backend that is not trusted yet: no line is longer than MaxLine, and
// all of them together, literals included, are not longer than Budget.
//
// A ResponseReader may be used by one goroutine at a time.
type ResponseReader struct {
	// R is where responses are read from.
	R *Reader
	// Budget is how many bytes may still be consumed. Zero means none.
	Budget int

	buf []byte // the line, reused
}

// ResponseKind is what a response begins with.
type ResponseKind uint8

// The kinds of responses. See RFC 9051, Section 2.2.2.
const (
	Untagged     ResponseKind = iota // "* ": a status response or data
	Tagged                           // a tag: the end of a command
	Continuation                     // "+ ": the backend waits for more
)

// A Response is one response of a backend. Its strings hold no NUL, CR or LF.
type Response struct {
	// Kind is what the response began with.
	Kind ResponseKind
	// Tag is the tag of a Tagged response, as it was received.
	Tag string
	// Name is the first word behind the tag in upper case, such as OK, CAPABILITY, or the number in "* 5 EXISTS".
	// Empty for a Continuation.
	Name string
	// Code is the response code of a status response in upper case, without brackets or arguments: "ALERT". Empty
	// when there is none.
	Code string
	// CodeArgs is what followed the code inside the brackets, as it was received.
	CodeArgs string
	// Text is the human text of a status response, what follows Name in data, and what follows "+ " in a Continuation.
	Text string
	// Line is the line as it was received, without its CRLF; of a response with literals, the first line.
	Line string
}

// ReadResponse reads the next response. Literals are consumed and not kept. It returns ErrBudget, ErrLineTooLong,
// a *SyntaxError, or an error of the source; io.EOF only between two responses, in the middle of one it is
// io.ErrUnexpectedEOF. Only after a *SyntaxError can reading go on, and then at the next line.
func (rr *ResponseReader) ReadResponse() (Response, error) {
	if err := rr.readLine(); err != nil {
		return Response{}, err
	}
	resp, openCode, err := parseResponse(string(rr.buf))
	if err != nil {
		return Response{}, err
	}
	// Only data and response codes have literals: human text may look like one and announces nothing.
	if openCode || resp.Kind == Untagged && !resp.IsStatus() {
		err = rr.skipLiterals(openCode)
	}
	return resp, err
}

// skipLiterals consumes the rest of a response whose first line is in buf, openCode when that ended inside of the
// brackets of a response code.
func (rr *ResponseReader) skipLiterals(openCode bool) error {
	for {
		lit, ok := announcement(rr.buf)
		if !ok {
			return nil
		}
		if lit.size > int64(rr.Budget) {
			return ErrBudget
		}
		rr.Budget -= int(lit.size)
		if err := rr.R.discard(int(lit.size)); err != nil {
			return err
		}
		if err := rr.readLine(); err != nil {
			return unexpected(err)
		}
		if openCode && bytes.IndexByte(rr.buf, ']') >= 0 {
			return nil
		}
	}
}

// readLine reads a line into buf. Its end counts as two bytes of the budget even when it is a bare LF.
func (rr *ResponseReader) readLine() (err error) {
	const end = len("\r\n")
	limit := min(MaxLine, rr.Budget-end)
	if limit < 0 {
		return ErrBudget
	}
	rr.buf, err = rr.R.ReadLine(rr.buf[:0], limit)
	if errors.Is(err, ErrLineTooLong) && limit < MaxLine {
		err = ErrBudget
	}
	rr.Budget -= len(rr.buf) + end
	return err
}

// parseResponse takes a line apart. It reports whether the line ends inside of the brackets of a response code.
func parseResponse(line string) (resp Response, openCode bool, err error) {
	if strings.ContainsAny(line, "\x00\r") {
		return Response{}, false, &SyntaxError{Text: "NUL or CR in a line"}
	}
	resp.Line = line
	tag, rest, _ := strings.Cut(line, " ")
	switch {
	case tag == "+":
		resp.Kind, resp.Text = Continuation, rest
		return resp, false, nil
	case tag == "*":
		resp.Kind = Untagged
	case isTagString(tag):
		resp.Kind, resp.Tag = Tagged, tag
	default:
		return Response{}, false, &SyntaxError{Text: "Invalid tag"}
	}
	name, rest, _ := strings.Cut(rest, " ")
	if !isAtomString(name) {
		return Response{}, false, &SyntaxError{Text: "Invalid response"}
	}
	resp.Name, resp.Text = strings.ToUpper(name), rest
	switch resp.Name {
	case "OK", "NO", "BAD":
	case "BYE", "PREAUTH":
		if resp.Kind == Tagged {
			return Response{}, false, &SyntaxError{Text: "Invalid tagged response"}
		}
	default:
		if resp.Kind == Tagged {
			return Response{}, false, &SyntaxError{Text: "Invalid tagged response"}
		}
		return resp, false, nil
	}
	if !strings.HasPrefix(rest, "[") {
		return resp, false, nil
	}
	inside, text, closed := strings.Cut(rest[1:], "]")
	if !closed {
		return resp, true, nil
	}
	code, args, _ := strings.Cut(inside, " ")
	if !isAtomString(code) || !isASCII(args) {
		return Response{}, false, &SyntaxError{Text: "Invalid response code"}
	}
	resp.Code, resp.CodeArgs = strings.ToUpper(code), args
	resp.Text = strings.TrimPrefix(text, " ")
	return resp, false, nil
}

// IsStatus reports whether r is a status response: OK, NO, BAD, BYE or PREAUTH. See RFC 9051, Section 7.1.
func (r Response) IsStatus() bool {
	switch r.Name {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
		return true
	default:
		return false
	}
}

// Capabilities returns the list that r carries, and whether it carries one: as untagged CAPABILITY data, or as the
// CAPABILITY code of a status response. See RFC 9051, Sections 7.1 and 7.2.2.
func (r Response) Capabilities() ([]string, bool) {
	switch {
	case r.Kind == Untagged && r.Name == "CAPABILITY":
		return ParseCapabilities(r.Text), true
	case r.Code == "CAPABILITY":
		return ParseCapabilities(r.CodeArgs), true
	default:
		return nil, false
	}
}

func isTagString(s string) bool {
	for i := range len(s) {
		if !isTag(s[i]) {
			return false
		}
	}
	return s != ""
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

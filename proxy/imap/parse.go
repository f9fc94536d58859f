package imap

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
)

// maxMechanism is the longest name of a SASL mechanism. See RFC 4422, Section 3.1.
const maxMechanism = 20

// NoArgs returns a *SyntaxError when the command has arguments.
func (c *Command) NoArgs() error {
	if c.args < len(c.buf) {
		return c.syntaxError("Command takes no arguments")
	}
	return nil
}

// Login returns the arguments of a LOGIN command: two astrings, which are the same bytes whether they were sent
// as atoms, quoted strings or literals. Both alias the command's memory and are gone after Wipe. Literals may hold
// any octet; atoms and quoted strings hold no control characters. The error is a *SyntaxError. See RFC 9051,
// Section 6.2.3.
func (c *Command) Login() (user, pass []byte, err error) {
	s, user, pass := c.login()
	if s.err != nil {
		return nil, nil, s.err
	}
	return user, pass, nil
}

func (c *Command) login() (s scanner, user, pass []byte) {
	s = c.scan()
	s.space()
	user = s.astring()
	s.space()
	pass = s.astring()
	s.end()
	return s, user, pass
}

// Authenticate returns the arguments of an AUTHENTICATE command: the mechanism in upper case, and the initial
// response when there is one. That is still in base64, and aliases the command's memory; the "=" that stands for
// an empty one is turned into an empty slice, which is not nil. The error is a *SyntaxError. See RFC 9051, Section
// 6.2.2, and RFC 4959, Section 3.
func (c *Command) Authenticate() (mechanism string, ir []byte, hasIR bool, err error) {
	args := c.buf[c.args:]
	if len(args) == 0 {
		return "", nil, false, c.syntaxError("Missing mechanism")
	}
	name, ir, hasIR := bytes.Cut(args[1:], []byte{' '})
	if len(name) == 0 || len(name) > maxMechanism {
		return "", nil, false, c.syntaxError("Invalid mechanism")
	}
	for _, b := range name {
		if !isLetter(b) && !isDigit(b) && b != '-' && b != '_' {
			return "", nil, false, c.syntaxError("Invalid mechanism")
		}
	}
	mechanism = strings.ToUpper(string(name))
	if !hasIR {
		return mechanism, nil, false, nil
	}
	if string(ir) == "=" {
		return mechanism, ir[:0:0], true, nil
	}
	if len(ir) == 0 {
		return "", nil, false, c.syntaxError("Invalid initial response")
	}
	for _, b := range ir {
		if !isLetter(b) && !isDigit(b) && b != '+' && b != '/' && b != '=' {
			return "", nil, false, c.syntaxError("Invalid initial response")
		}
	}
	return mechanism, ir, true, nil
}

var (
	errBase64    = errors.New("imap: invalid base64")
	strictBase64 = base64.StdEncoding.Strict()
)

// ParseBase64 appends what src stands for to dst: the alphabet of RFC 4648, Section 4, with padding, and nothing
// else, line ends included. After an error the bytes decoded so far are zeroed.
func ParseBase64(dst, src []byte) ([]byte, error) {
	if bytes.ContainsAny(src, "\r\n") {
		return dst, errBase64
	}
	start := len(dst)
	out, err := strictBase64.AppendDecode(dst, src)
	if err != nil {
		clear(out[start:min(cap(out), start+strictBase64.DecodedLen(len(src)))])
		return dst, errBase64
	}
	return out, nil
}

// A scanner reads a command's arguments from left to right. After the first error it reads nothing more.
type scanner struct {
	c       *Command
	pos     int
	lit     int // the next literal of c
	err     *SyntaxError
	pending bool // err is only that a literal is announced and not read yet
}

func (c *Command) scan() scanner {
	c.scratch = c.scratch[:0]
	return scanner{c: c, pos: c.args}
}

func (s *scanner) fail(text string) {
	if s.err == nil {
		s.err = s.c.syntaxError(text)
	}
}

// text returns what comes next, up to the next literal's announcement: quoted strings and atoms end before it.
func (s *scanner) text() []byte {
	if s.lit < s.c.nlit {
		return s.c.buf[s.pos:s.c.literals[s.lit].open]
	}
	return s.c.buf[s.pos:]
}

// peek returns the next byte of text, or 0 at an announcement or at the end.
func (s *scanner) peek() byte {
	if t := s.text(); s.err == nil && len(t) > 0 {
		return t[0]
	}
	return 0
}

// accept consumes the next byte of text if it is b.
func (s *scanner) accept(b byte) bool {
	if s.peek() != b {
		return false
	}
	s.pos++
	return true
}

// space consumes the one space between two arguments.
func (s *scanner) space() {
	switch {
	case s.err != nil || s.accept(' '):
	case s.pos == len(s.c.buf):
		s.fail("Missing argument")
	default:
		s.fail("Space expected between arguments")
	}
}

// end wants the command to end here.
func (s *scanner) end() {
	if s.err == nil && s.pos != len(s.c.buf) {
		s.fail("Unexpected text after the last argument")
	}
}

// astring reads an atom, a quoted string or a literal. See RFC 9051, Section 9, "astring".
//
// Deviation: octets from 0x80 are taken in atoms too, and are not checked to be UTF-8; so are "*", "%" and a
// backslash, which stands for itself there. Clients send what their user typed ("user*master", "domain\user"), Dovecot
// takes it, and a literal may hold any octets anyway.
func (s *scanner) astring() []byte {
	t := s.text()
	n := 0
	for n < len(t) && (isAstring(t[n]) || t[n] == '*' || t[n] == '%' || t[n] == '\\') {
		n++
	}
	if s.err != nil || n == 0 {
		return s.string()
	}
	s.pos += n
	return t[:n:n]
}

// string reads a quoted string or a literal. See RFC 9051, Section 9, "string".
func (s *scanner) string() []byte {
	if s.err != nil {
		return nil
	}
	if s.peek() == '"' {
		return s.quoted()
	}
	if s.lit == s.c.nlit || s.pos != s.c.literals[s.lit].open {
		if s.pos == len(s.c.buf) {
			s.fail("Missing argument")
		} else {
			s.fail("Invalid argument")
		}
		return nil
	}
	l := s.c.literals[s.lit]
	if l.end < 0 {
		s.fail("Literal expected")
		s.pending = true
		return nil
	}
	s.lit++
	s.pos = l.end
	return s.c.buf[l.start:l.end:l.end]
}

// quoted reads a quoted string. Only here does a backslash mean anything, and only before a quote or a backslash.
// See RFC 9051, Section 4.3.
func (s *scanner) quoted() []byte {
	t := s.text()[1:]
	escapes := 0
	for i := 0; i < len(t); i++ {
		switch b := t[i]; {
		case b == '"':
			s.pos += i + 2
			if escapes == 0 {
				return t[:i:i]
			}
			return s.unescape(t[:i])
		case b == '\\':
			i++
			if i == len(t) || (t[i] != '"' && t[i] != '\\') {
				s.fail("Invalid escape in a quoted string")
				return nil
			}
			escapes++
		case isControl(b):
			s.fail("Control character in a quoted string")
			return nil
		}
	}
	s.fail("Unterminated quoted string")
	return nil
}

// unescape copies a quoted string without its backslashes to memory that Wipe knows of. That memory is allocated
// once, large enough for all strings of the command, so that slices of it stay valid.
func (s *scanner) unescape(t []byte) []byte {
	c := s.c
	if cap(c.scratch) < len(c.buf) {
		// Still empty: once it is large enough it is so for the whole scan.
		clear(c.scratch[:cap(c.scratch)])
		c.scratch = make([]byte, 0, len(c.buf))
	}
	start := len(c.scratch)
	for i := 0; i < len(t); i++ {
		if t[i] == '\\' {
			i++
		}
		c.scratch = append(c.scratch, t[i])
	}
	return c.scratch[start:len(c.scratch):len(c.scratch)]
}

func isLetter(b byte) bool { return 'a' <= b|0x20 && b|0x20 <= 'z' }

func isDigit(b byte) bool { return '0' <= b && b <= '9' }

func isControl(b byte) bool { return b < ' ' || b == 0x7f }

// isTag reports whether b may be in a tag: any ASTRING-CHAR but "+".
func isTag(b byte) bool { return b < 0x80 && b != '+' && isAstring(b) }

// isAstring reports whether b is an ASTRING-CHAR, or above ASCII.
func isAstring(b byte) bool {
	switch b {
	case '(', ')', '{', ' ', '%', '*', '"', '\\':
		return false
	}
	return !isControl(b)
}

// isAtom reports whether b is an ATOM-CHAR.
func isAtom(b byte) bool { return b < 0x80 && b != ']' && isAstring(b) }

// upperName returns a command's name in upper case, without allocating for those that are common.
func upperName(name []byte) string {
	var up [maxName]byte
	for i, b := range name {
		up[i] = b &^ 0x20
	}
	switch s := up[:len(name)]; string(s) {
	case "CAPABILITY":
		return "CAPABILITY"
	case "NOOP":
		return "NOOP"
	case "LOGOUT":
		return "LOGOUT"
	case "ID":
		return "ID"
	case "STARTTLS":
		return "STARTTLS"
	case "LOGIN":
		return "LOGIN"
	case "AUTHENTICATE":
		return "AUTHENTICATE"
	default:
		return string(s)
	}
}

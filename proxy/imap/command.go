package imap

import (
	"bytes"
	"math"
)

// maxName is the longest command name that is taken for one; RFC 8437's UNAUTHENTICATE has 14 letters.
const maxName = 32

// A CommandReader reads the commands of a client that is not authenticated, literals included, one after the
// other. Nothing that the client sends makes it hold more than the bounds of this package.
//
// A CommandReader may be used by one goroutine at a time.
type CommandReader struct {
	// R is where commands are read from. What was consumed stays in its buffer until Reader.Wipe.
	R *Reader

	// Continue is asked when a command announces a synchronizing literal that is within the bounds. It writes
	// the continuation request, or returns an error that rejects the command: the literal is then not read, and
	// ReadCommand returns that error in a RejectedError. Nil rejects every synchronizing literal as a SyntaxError.
	Continue func(tag, name string) error

	literals int // octets of literals so far, at most MaxLiteralTotal
}

// A Command is one command of a client, as it was sent. It owns its memory, and is valid until Wipe.
type Command struct {
	// Tag is a legal tag of at most MaxTag octets. See RFC 9051, Section 9, "tag".
	Tag string
	// Name is the command's name in upper case: letters only, but not necessarily one that exists.
	Name string

	buf      []byte            // text without line ends, each literal's octets behind its announcement
	args     int               // where in buf the arguments begin: at a space, or at the end
	literals [MaxLiterals]span // of buf
	nlit     int               // literals in use
	scratch  []byte            // unescaped quoted strings
}

// A span is a literal in a command's buffer.
type span struct {
	open  int // of the "{" that announces it
	start int // of its octets
	end   int // behind its octets; -1 while they are not read yet
}

// ReadCommand reads the next command. It returns one of these errors:
//
//   - *SyntaxError: the stream is at the next command. A non-synchronizing literal at the end of a line that
//     was rejected has been consumed, together with the rest of its command, and was not looked at. A
//     synchronizing one has not been asked for. See RFC 7888, Section 4.
//   - *TooBigError: the connection goes on, unless it is Fatal.
//   - *RejectedError: the stream is at the next command.
//   - ErrLineTooLong: the connection has to end.
//   - io.EOF between two commands, and any other error of the source, as it is; the end in the middle of
//     a command is io.ErrUnexpectedEOF.
func (cr *CommandReader) ReadCommand() (*Command, error) {
	c := new(Command)
	if err := cr.read(c); err != nil {
		c.Wipe()
		return nil, err
	}
	return c, nil
}

func (cr *CommandReader) read(c *Command) error {
	var bad *SyntaxError // why the command will be rejected once it is consumed
	room := MaxLine      // for the rest of the command's text
	for first := true; ; first = false {
		start := len(c.buf)
		left, err := cr.readLine(c, first, room)
		if err != nil {
			return err
		}
		room = left
		line := c.buf[start:]
		if bad == nil && first {
			bad = c.parseHead()
		}
		if bad == nil && (bytes.IndexByte(line, 0) >= 0 || bytes.IndexByte(line, '\r') >= 0) {
			bad = c.syntaxError("NUL or CR in a line")
		}
		lit, ok := announcement(line)
		if !ok {
			if bad != nil {
				return bad
			}
			return nil
		}
		if bad == nil {
			bad = c.announce(span{open: start + lit.open, start: len(c.buf), end: -1})
		}
		if bad != nil && lit.sync {
			return bad
		}
		if lit.size > MaxLiteral || int(lit.size) > MaxLiteralTotal-cr.literals {
			return &TooBigError{Tag: c.Tag, Fatal: !lit.sync}
		}
		if lit.sync {
			if cr.Continue == nil {
				return c.syntaxError("Synchronizing literals are not accepted")
			}
			if err := cr.Continue(c.Tag, c.Name); err != nil {
				return &RejectedError{Tag: c.Tag, Err: err}
			}
		}
		cr.literals += int(lit.size)
		if err := cr.readLiteral(c, int(lit.size), bad != nil); err != nil {
			return err
		}
	}
}

// readLine appends a line to the command, and returns how much room is left for the text of the lines after it.
func (cr *CommandReader) readLine(c *Command, first bool, room int) (left int, err error) {
	start := len(c.buf)
	var done bool
	c.buf, done, err = cr.R.line(c.buf, start, room)
	if err != nil {
		if !first {
			err = unexpected(err)
		}
		return 0, err
	}
	if n := len(c.buf) - start; first && n > room && c.parseHead() == nil && c.Name == "AUTHENTICATE" {
		room = MaxAuthLine
		if !done {
			c.buf, done, err = cr.R.line(c.buf, start, room)
		}
		if err != nil {
			return 0, unexpected(err)
		}
	}
	n := len(c.buf) - start
	if !done || n > room {
		return 0, ErrLineTooLong
	}
	return room - n, nil
}

// readLiteral consumes a literal, and forgets it together with the line before it when the command is bad.
func (cr *CommandReader) readLiteral(c *Command, size int, bad bool) error {
	if bad {
		clear(c.buf)
		c.buf = c.buf[:0]
		return cr.R.discard(size)
	}
	var err error
	if c.buf, err = cr.R.readFull(c.buf, size); err != nil {
		return err
	}
	c.literals[c.nlit-1].end = len(c.buf)
	return nil
}

// announce adds a literal that is not read yet, and says what would be wrong with it: a literal that cannot be
// part of a good command is not worth a continuation request.
func (c *Command) announce(s span) *SyntaxError {
	switch {
	case c.Name != "LOGIN" && c.Name != "ID":
		return c.syntaxError("Command takes no literals")
	case c.nlit == MaxLiterals:
		return c.syntaxError("Too many literals")
	}
	c.literals[c.nlit] = s
	c.nlit++
	var sc scanner
	if c.Name == "LOGIN" {
		sc, _, _ = c.login()
	} else {
		sc, _ = c.id()
	}
	if sc.pending {
		return nil
	}
	return sc.err
}

// parseHead finds the tag and the name. It may be called again, with more of the same line in the buffer.
func (c *Command) parseHead() *SyntaxError {
	c.Tag, c.Name, c.args = "", "", 0
	n := 0
	for n < len(c.buf) && isTag(c.buf[n]) {
		n++
	}
	switch {
	case n == 0 || n > MaxTag || (n < len(c.buf) && c.buf[n] != ' '):
		return c.syntaxError("Invalid tag")
	case n == len(c.buf):
		c.Tag = string(c.buf)
		return c.syntaxError("Missing command")
	}
	c.Tag = string(c.buf[:n])
	name := c.buf[n+1:]
	n = 0
	for n < len(name) && isLetter(name[n]) {
		n++
	}
	if n == 0 || n > maxName || (n < len(name) && name[n] != ' ') {
		return c.syntaxError("Invalid command name")
	}
	c.Name = upperName(name[:n])
	c.args = len(c.Tag) + 1 + n
	return nil
}

// Wipe zeroes all bytes of the command, those that Login and Authenticate returned among them. What ID returned
// stays. The command has no arguments afterwards.
func (c *Command) Wipe() {
	clear(c.buf[:cap(c.buf)])
	clear(c.scratch[:cap(c.scratch)])
	*c = Command{Tag: c.Tag, Name: c.Name}
}

func (c *Command) syntaxError(text string) *SyntaxError {
	return &SyntaxError{Tag: c.Tag, Name: c.Name, Text: text}
}

// A literal is what the end of a line announces.
type literal struct {
	open int   // of the "{" in the line
	size int64 // MaxInt64 for whatever is more
	sync bool  // whoever sends it waits for a continuation request
}

// announcement looks for a literal at the end of a line: "{" 1*DIGIT ["+"] "}". It does not ask whether a literal
// may be there. See RFC 9051, Section 4.3.
func announcement(line []byte) (literal, bool) {
	i := len(line) - 1
	if i < 0 || line[i] != '}' {
		return literal{}, false
	}
	sync := true
	if i > 0 && line[i-1] == '+' {
		sync = false
		i--
	}
	end := i
	for i > 0 && line[i-1] >= '0' && line[i-1] <= '9' {
		i--
	}
	if i == end || i == 0 || line[i-1] != '{' {
		return literal{}, false
	}
	var size int64
	for _, digit := range line[i:end] {
		if size > (math.MaxInt64-9)/10 {
			size = math.MaxInt64
			break
		}
		size = size*10 + int64(digit-'0')
	}
	return literal{open: i - 1, size: size, sync: sync}, true
}

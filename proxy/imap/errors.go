package imap

import "errors"

// Bounds on what a client may send before it is authenticated, and a backend before the splice.
const (
	// MaxTag is the longest tag in octets that is accepted, and so echoed.
	MaxTag = 64
	// MaxLine is how many octets a command may have outside its literals, line ends not counted. It bounds
	// a response line too.
	MaxLine = 8 << 10
	// MaxAuthLine is MaxLine for AUTHENTICATE, whose initial response may hold an OAuth token, and for the
	// lines that answer its challenges.
	MaxAuthLine = 64 << 10
	// MaxLiteral is the longest literal in octets. See RFC 7888, Section 5.
	MaxLiteral = 4096
	// MaxLiterals is how many literals one command may have.
	MaxLiterals = 2
	// MaxLiteralTotal is how many octets of literals one CommandReader reads in all.
	MaxLiteralTotal = 64 << 10
	// MaxIDPairs is how many pairs an ID list may have. See RFC 2971, Section 3.3.
	MaxIDPairs = 30
	// MaxIDKey is the longest key of an ID list in octets. See RFC 2971, Section 3.3.
	MaxIDKey = 30
	// MaxIDValue is the longest value of an ID list in octets. See RFC 2971, Section 3.3.
	MaxIDValue = 1024
)

var (
	// ErrLineTooLong is returned when a line passes its bound. The rest of the line is still in the stream,
	// so nothing useful can be read after it.
	ErrLineTooLong = errors.New("imap: line too long")
	// ErrBudget is returned when a backend has sent more than its ResponseReader's Budget. Nothing useful can
	// be read after it.
	ErrBudget = errors.New("imap: more bytes than the budget allows")
)

// A SyntaxError says that a command or a response does not follow the grammar. For a command the stream is
// at the next command, and the reply is BAD.
type SyntaxError struct {
	// Tag is the command's tag; empty when it was missing, illegal or longer than MaxTag, and then the reply
	// is untagged. Always empty for a response.
	Tag string
	// Name is the command's name in upper case; empty when it was missing or illegal.
	Name string
	// Text says what is wrong. It is constant, holds nothing that was received, and may be shown to a client.
	Text string
}

// Error returns the text.
func (e *SyntaxError) Error() string { return "imap: syntax error: " + e.Text }

// A TooBigError says that a literal is over MaxLiteral, or that the connection's literals together are over
// MaxLiteralTotal. None of its octets were read.
type TooBigError struct {
	// Tag is the command's tag; empty when it was missing or illegal.
	Tag string
	// Fatal is set when the literal is a non-synchronizing one: its octets follow unasked, and the connection
	// has to end. Otherwise the stream is at the next command.
	Fatal bool
}

// Error returns a constant text.
func (e *TooBigError) Error() string { return "imap: literal too big" }

// A RejectedError says that CommandReader.Continue refused a literal. The stream is at the next command.
type RejectedError struct {
	// Tag is the tag of the command that was rejected.
	Tag string
	// Err is what Continue returned.
	Err error
}

// Error returns the text of the error that Continue returned.
func (e *RejectedError) Error() string { return "imap: literal rejected: " + e.Err.Error() }

// Unwrap returns Err.
func (e *RejectedError) Unwrap() error { return e.Err }

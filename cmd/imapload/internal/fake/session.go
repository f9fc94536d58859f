//go:build linux

package fake

import (
	"bytes"
	"strconv"
)

const capabilities = "IMAP4rev1 SASL-IR LITERAL+ ENABLE ID IDLE NAMESPACE UIDPLUS AUTH=PLAIN"

const (
	greeting    = "* OK [CAPABILITY " + capabilities + "] ready.\r\n"
	selectReply = "* FLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft)\r\n* OK [PERMANENTFLAGS (\\*)] ok.\r\n" +
		"* 1 EXISTS\r\n* 0 RECENT\r\n* OK [UIDVALIDITY 1] ok.\r\n* OK [UIDNEXT 2] ok.\r\n"
	loggedIn = " OK [CAPABILITY " + capabilities + "] Logged in.\r\n"
	newMail  = "* 1 EXISTS\r\n"
)

// keptLiteral bounds the literals that are kept as part of a command; longer ones
// are mail, and thrown away.
const keptLiteral = 4096

// defaultBody is the size of the one message, until SELECT BODY-<n> sets another.
const defaultBody = 1 << 20

// session is the protocol of one connection, for any user with any password. It
// does no I/O: feed takes what has arrived and appends the replies. A FETCH stops
// it, so that the caller can send the message by whatever is cheapest.
type session struct {
	command []byte // so far, when it did not arrive in one piece
	tag     []byte // of the command that waits for more: IDLE, AUTHENTICATE, FETCH
	skip    int64  // octets of a literal still to be thrown away
	keep    int    // octets of a literal still to be kept
	line    int    // where in command the line after the last literal begins
	body    int64  // size of the message
	state   sessionState
	bye     bool // the connection ends once the replies are sent
}

type sessionState uint8

const (
	inCommand sessionState = iota
	inAuthenticate
	inIdle
)

// feed takes input up to the first command that sends a message. It returns how
// much it took, the replies, and the size of that message, or -1.
func (s *session) feed(in, out []byte) (used int, replies []byte, body int64) {
	for used < len(in) && !s.bye {
		switch {
		case s.skip > 0:
			n := min(int64(len(in)-used), s.skip)
			s.skip -= n
			used += int(n)
			s.line = len(s.command)
			continue
		case s.keep > 0:
			n := min(len(in)-used, s.keep)
			s.command = append(s.command, in[used:used+n]...)
			s.keep -= n
			used += n
			s.line = len(s.command)
			continue
		}
		end := bytes.IndexByte(in[used:], '\n')
		if end < 0 {
			s.command = append(s.command, in[used:]...)
			return len(in), out, -1
		}
		command := in[used : used+end+1]
		used += end + 1
		if len(s.command) > 0 {
			s.command = append(s.command, command...)
			command = s.command
		}
		if s.state == inCommand {
			if n, synchronizing, ok := literal(command[s.line:]); ok {
				if len(s.command) == 0 {
					s.command = append(s.command, command...)
				}
				if n > keptLiteral {
					s.skip = n
				} else {
					s.keep = int(n)
				}
				if synchronizing {
					out = append(out, "+ OK\r\n"...)
				}
				continue
			}
		}
		out, body = s.do(bytes.TrimRight(command, "\r\n"), out)
		s.command, s.line = s.command[:0], 0
		if body >= 0 {
			return used, out, body
		}
	}
	return used, out, -1
}

// literal reads {n} or {n+} at the end of a line.
func literal(line []byte) (n int64, synchronizing, ok bool) {
	line, ok = bytes.CutSuffix(bytes.TrimRight(line, "\r\n"), []byte("}"))
	open := bytes.LastIndexByte(line, '{')
	if !ok || open < 0 {
		return 0, false, false
	}
	digits, nonSynchronizing := bytes.CutSuffix(line[open+1:], []byte("+"))
	n, err := strconv.ParseInt(string(digits), 10, 63)
	return n, !nonSynchronizing, err == nil && n >= 0
}

// do appends the replies to one command, and returns the size of the message to
// send behind them, or -1.
func (s *session) do(command, out []byte) (replies []byte, body int64) {
	switch s.state {
	case inAuthenticate:
		s.state = inCommand
		return append(append(out, s.tag...), loggedIn...), -1
	case inIdle:
		s.state = inCommand
		return append(append(out, s.tag...), " OK Idle completed.\r\n"...), -1
	case inCommand:
	}
	tag, rest, _ := bytes.Cut(command, []byte(" "))
	name, args, hasArgs := bytes.Cut(rest, []byte(" "))
	if len(name) == 0 {
		return append(out, "* BAD no command\r\n"...), -1
	}
	reply := " OK done.\r\n"
	switch {
	case is(name, "LOGIN"):
		reply = loggedIn
	case is(name, "AUTHENTICATE"):
		if !bytes.Contains(args, []byte(" ")) { // no initial response
			s.tag = append(s.tag[:0], tag...)
			s.state = inAuthenticate
			return append(out, "+ \r\n"...), -1
		}
		reply = loggedIn
	case is(name, "CAPABILITY"):
		out = append(out, "* CAPABILITY "+capabilities+"\r\n"...)
	case is(name, "ID"):
		out = append(out, "* ID NIL\r\n"...)
	case is(name, "SELECT"), is(name, "EXAMINE"):
		if size, ok := bytes.CutPrefix(args, []byte("BODY-")); ok {
			if n, err := strconv.ParseInt(string(size), 10, 63); err == nil && n >= 0 {
				s.body = n
			}
		}
		out = append(out, selectReply...)
		reply = " OK [READ-WRITE] Select completed.\r\n"
	case is(name, "FETCH") && hasArgs:
		s.tag = append(s.tag[:0], tag...)
		out = append(out, "* 1 FETCH (BODY[] {"...)
		out = strconv.AppendInt(out, s.body, 10)
		return append(out, "}\r\n"...), s.body
	case is(name, "IDLE"):
		s.tag = append(s.tag[:0], tag...)
		s.state = inIdle
		return append(out, "+ idling\r\n"...), -1
	case is(name, "APPEND"):
		reply = " OK [APPENDUID 1 2] Append completed.\r\n"
	case is(name, "LOGOUT"):
		s.bye = true
		out = append(out, "* BYE Logging out.\r\n"...)
	}
	return append(append(out, tag...), reply...), -1
}

// fetched appends what follows a message.
func (s *session) fetched(out []byte) []byte {
	return append(append(append(out, ")\r\n"...), s.tag...), " OK Fetch completed.\r\n"...)
}

// is says whether b is the command name, in whatever case.
func is(b []byte, name string) bool {
	return len(b) == len(name) && bytes.EqualFold(b, []byte(name))
}

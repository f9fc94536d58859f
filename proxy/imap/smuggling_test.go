package imap

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
)

var smugglingCases = flag.Int("smuggling-cases", 100_000, "random streams that two grammars are to understand alike")

// A smuggled command is one that a backend would see and the proxy did not, or the
// other way round: a literal that one of them takes for a command, a line end that
// only one of them knows. So another grammar reads what CommandReader reads: all of
// the stream at once, with regular expressions, from RFC 9051, Section 9. It is told
// where the reader asked for a literal, which the client sees too, and nothing else.

// seenCommand is what one of them made of a command.
type seenCommand struct {
	end        int  // of the command in the stream
	login      bool // a LOGIN that is right
	user, pass string
}

func (s seenCommand) String() string {
	if s.login {
		return fmt.Sprintf("LOGIN %q %q until %d", s.user, s.pass, s.end)
	}
	return fmt.Sprintf("something until %d", s.end)
}

const (
	refTag    = `[^\x00-\x20\x7f-\x{10ffff}+(){%*"\\]{1,64}`
	refAtom   = `[^\x00-\x20\x7f(){"]+` // with the deviations of scanner.astring
	refQuoted = `"(?:[^"\\\x00-\x1f\x7f]|\\["\\])*"`
	refArg    = `(` + refAtom + `|` + refQuoted + `|\{[0-9]+\+?\}\x00)` // NUL: the octets of the literal
)

var (
	refLiteral = regexp.MustCompile(`\{([0-9]+)(\+?)\}$`)
	refLogin   = regexp.MustCompile(`^` + refTag + ` (?i:LOGIN) ` + refArg + ` ` + refArg + `$`)
)

// referenceCommands reads a stream up to the first right LOGIN, up to what ends the
// connection, or up to its end.
func referenceCommands(stream []byte, asked map[int]bool) (seen []seenCommand) {
	pos := 0
	for {
		var text []byte
		var literals [][]byte
		bad := false
		for {
			i := bytes.IndexByte(stream[pos:], '\n')
			if i < 0 {
				return seen // the rest of the line is missing
			}
			line := bytes.TrimSuffix(stream[pos:pos+i], []byte{'\r'})
			pos += i + 1
			bad = bad || bytes.ContainsAny(line, "\x00\r")
			text = append(text, line...)
			m := refLiteral.FindSubmatch(line)
			if m == nil {
				break
			}
			size, err := strconv.ParseUint(string(m[1]), 10, 63)
			tooBig := err != nil || size > MaxLiteral
			if len(m[2]) == 0 && !asked[pos] {
				bad = true
				break // refused: what follows is the next command
			}
			if tooBig || pos+int(size) > len(stream) {
				return seen
			}
			literals = append(literals, stream[pos:pos+int(size)])
			pos += int(size)
			text = append(text, 0)
		}
		c := seenCommand{end: pos}
		if m := refLogin.FindSubmatch(text); m != nil && !bad {
			c.login = true
			take := func(arg []byte) string {
				switch {
				case arg[len(arg)-1] == 0:
					data := literals[0]
					literals = literals[1:]
					return string(data)
				case arg[0] == '"':
					return strings.NewReplacer(`\\`, `\`, `\"`, `"`).Replace(string(arg[1 : len(arg)-1]))
				}
				return string(arg)
			}
			c.user = take(m[1])
			c.pass = take(m[2])
		}
		if seen = append(seen, c); c.login {
			return seen
		}
	}
}

// read is the same by CommandReader.
func read(stream []byte, inPieces bool) (seen []seenCommand, asked map[int]bool) {
	src := bytes.NewReader(stream)
	var from io.Reader = src
	if inPieces {
		from = iotest.OneByteReader(src)
	}
	cr := &CommandReader{R: NewReader(from)}
	at := func() int { return len(stream) - src.Len() - cr.R.Buffered() }
	cr.Continue = func(string, string) error {
		if asked == nil {
			asked = make(map[int]bool)
		}
		asked[at()] = true
		return nil
	}
	for {
		cmd, err := cr.ReadCommand()
		s := seenCommand{}
		switch err := err.(type) { //nolint:errorlint // none of them is wrapped
		case nil:
			if cmd.Name == "LOGIN" {
				if user, pass, err := cmd.Login(); err == nil {
					s.login, s.user, s.pass = true, string(user), string(pass)
				}
			}
		case *SyntaxError, *RejectedError:
		case *TooBigError:
			if err.Fatal {
				return seen, asked
			}
		default:
			return seen, asked
		}
		s.end = at()
		if seen = append(seen, s); s.login {
			return seen, asked
		}
	}
}

// smuggler makes streams of commands, and of what may look like them.
type smuggler struct {
	*rand.Rand
	out []byte
}

func pick[T any](s *smuggler, of ...T) T { return of[s.IntN(len(of))] }

func (s *smuggler) add(parts ...string) {
	for _, p := range parts {
		s.out = append(s.out, p...)
	}
}

func (s *smuggler) stream() []byte {
	s.out = s.out[:0]
	for range 1 + s.IntN(4) {
		s.command()
	}
	for s.IntN(4) == 0 && len(s.out) > 0 {
		i := s.IntN(len(s.out))
		switch s.IntN(3) {
		case 0:
			s.out[i] = byte(s.IntN(256))
		case 1:
			s.out = append(s.out[:i], s.out[i+1:]...)
		case 2:
			s.out = append(s.out[:i], append([]byte{pick(s, []byte("\r\n {}+\"\\\x00()1*")...)}, s.out[i:]...)...)
		}
	}
	return s.out
}

func (s *smuggler) command() {
	if s.IntN(3) == 0 { // one that is right
		s.add(pick(s, "c", "D2"), " ", pick(s, "LOGIN", "Login"))
		for range 2 {
			s.add(" ")
			s.rightArgument(pick(s, "alice", "x", "a\\b", "päss", "{3+}", "x LOGIN m n", "pw*1"), pick(s, "", "\r\n", "\r\ny LOGIN eve pw\r\n"))
		}
		s.add(s.lineEnd())
		return
	}
	s.add(pick(s, "a", "b1", "A/1.", "", "+", "*", "a b", "é", strings.Repeat("t", 60+s.IntN(8))), pick(s, " ", " ", " ", " ", " ", "  ", "\t", ""))
	s.add(pick(s, "LOGIN", "LOGIN", "LOGIN", "LOGIN", "login", "LOGIN", "ID", "NOOP", "AUTHENTICATE", "LOGINX", "", "CAPABILITY", "SELECT"))
	for range pick(s, 0, 1, 2, 2, 2, 2, 2, 2, 3) {
		s.add(pick(s, " ", " ", " ", " ", " ", " ", "  ", "", "\t"))
		s.argument()
	}
	s.add(pick(s, "", "", "", "", "", "", " ", "x", "\r", "\x00"), s.lineEnd())
}

func (s *smuggler) lineEnd() string {
	return pick(s, "\r\n", "\r\n", "\r\n", "\r\n", "\n", "\r", "\r\r\n")
}

// rightArgument adds an argument; what is to be behind its text only a literal can
// hold.
func (s *smuggler) rightArgument(text, more string) {
	switch s.IntN(4) {
	case 0:
		s.add(`"`, strings.NewReplacer(`\`, `\\`).Replace(text), `"`)
	case 1:
		s.add("{", strconv.Itoa(len(text+more)), "}\r\n", text, more)
	case 2:
		s.add("{", strconv.Itoa(len(text+more)), "+}\r\n", text, more)
	default:
		s.add(strings.Trim(text, "{}+ "))
	}
}

func (s *smuggler) argument() {
	content := pick(s, "alice", "eve", "x", "", "a\\b", "a\"b", "päss", "a\r\nb2 LOGIN eve pw\r\n", "{3}", "{2+}\r\n", "x LOGIN m n\r\n", "\r\n", "pw*1", "(x)", "a{1", "}")
	switch s.IntN(7) {
	case 0, 1:
		s.add(content)
	case 2:
		s.add(`"`, strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(content), `"`)
	case 3:
		s.add(`"`, content, pick(s, `"`, `"`, ``))
	default:
		size := strconv.Itoa(len(content))
		if s.IntN(5) == 0 {
			size = pick(s, "0", "1", strconv.Itoa(len(content)+1), strconv.Itoa(max(0, len(content)-1)), "007", "4096", "4097", "99999999999999999999", "-1", "", "+5", "0x1")
		}
		s.add("{", size, pick(s, "", "+", "+", "-", "}"), pick(s, "}", "}", "}", "}", "} ", ""), s.lineEnd(), content)
	}
}

// TestNothingIsSmuggled compares the two over many streams. Run more of them with
// -args -smuggling-cases 10000000.
func TestNothingIsSmuggled(t *testing.T) {
	t.Parallel()
	s := &smuggler{Rand: rand.New(rand.NewPCG(9051, 7888))}
	logins, literals, commands, later := 0, 0, 0, 0
	for n := range *smugglingCases {
		stream := s.stream()
		got, asked := read(stream, n%8 == 0)
		want := referenceCommands(stream, asked)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Fatalf("case %d: %q\nasked at %v\nCommandReader sees %v\nthe other grammar  %v", n, stream, asked, got, want)
		}
		commands += len(got)
		literals += len(asked)
		if len(got) > 0 && got[len(got)-1].login {
			logins++
			if len(got) > 1 {
				later++
			}
		}
	}
	t.Logf("%d streams: %d commands, %d literals that were asked for, %d logins, %d of them not the first command: 0 differences",
		*smugglingCases, commands, literals, logins, later)
	if logins < *smugglingCases/10 || later < *smugglingCases/20 || logins-later < *smugglingCases/20 || literals < *smugglingCases/20 {
		t.Errorf("of %d streams only %d come to a login, %d of them later on, and %d literals were asked for", *smugglingCases, logins, later, literals)
	}
}

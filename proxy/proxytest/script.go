package proxytest

import (
	"bytes"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// script is a parsed transcript.
type script struct {
	file         string
	lines        []string // of the file, without line ends
	config       []setting
	conversation []*step
	log          []numbered
	end          int // index of the first line behind the conversation
}

type numbered struct {
	line int // counts from 1
	text string
}

type setting struct {
	line       int
	key, value string
}

// step is one line of the conversation.
type step struct {
	line  int
	who   byte   // 'C', 'S', 'P', 'B', or '[' for an event
	text  string // behind "C: ", or between the brackets
	event event
	body  []*step // of a repeat
}

// event is what a bracketed line says.
type event struct {
	verb string
	args []string          // words
	opts map[string]string // key=value words
}

func (e event) arg(i int) string {
	if i < len(e.args) {
		return e.args[i]
	}
	return ""
}

func (e event) has(word string) bool { return slices.Contains(e.args, word) }

var sectionMark = regexp.MustCompile(`^-- (\w+) --$`)

func readScript(file string) (*script, error) {
	data, err := os.ReadFile(file) //nolint:gosec // a test names its own files
	if err != nil {
		return nil, err
	}
	data = bytes.TrimSuffix(data, []byte("\n"))
	s := &script{file: file, lines: strings.Split(string(data), "\n")}
	section := ""
	var stack [][]*step // of open repeats
	for i, line := range s.lines {
		n := i + 1
		if m := sectionMark.FindStringSubmatch(line); m != nil {
			if section == "conversation" {
				s.end = i
			}
			section = m[1]
			continue
		}
		text := strings.TrimSpace(line)
		if section == "" || text == "" || strings.HasPrefix(text, "#") {
			continue
		}
		switch section {
		case "config":
			key, value, ok := strings.Cut(text, ":")
			if !ok {
				return nil, fmt.Errorf("%s:%d: no colon in %q", file, n, text)
			}
			s.config = append(s.config, setting{n, strings.TrimSpace(key), strings.TrimSpace(value)})
		case "conversation":
			s.end = len(s.lines)
			st, err := parseStep(n, line)
			if err != nil {
				return nil, fmt.Errorf("%s:%d: %w", file, n, err)
			}
			if st.event.verb == "end" {
				if len(stack) == 0 {
					return nil, fmt.Errorf("%s:%d: end without repeat", file, n)
				}
				outer := stack[len(stack)-1]
				stack = stack[:len(stack)-1]
				outer[len(outer)-1].body = append(s.conversation, st)
				s.conversation = outer
				continue
			}
			s.conversation = append(s.conversation, st)
			if st.event.verb == "repeat" {
				stack = append(stack, s.conversation)
				s.conversation = nil
			}
		case "log":
			s.log = append(s.log, numbered{n, text})
		default:
			return nil, fmt.Errorf("%s:%d: section %q", file, n, section)
		}
	}
	if len(stack) > 0 {
		return nil, fmt.Errorf("%s: repeat without end", file)
	}
	if len(s.conversation) == 0 {
		return nil, fmt.Errorf("%s: no conversation", file)
	}
	return s, nil
}

func parseStep(n int, line string) (*step, error) {
	if inner, ok := strings.CutPrefix(line, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if !ok {
			return nil, fmt.Errorf("no bracket at the end of %q", line)
		}
		e, err := parseEvent(inner)
		return &step{line: n, who: '[', text: inner, event: e}, err
	}
	if len(line) < 2 || !strings.ContainsRune("CSPB", rune(line[0])) || line[1] != ':' || len(line) > 2 && line[2] != ' ' {
		return nil, fmt.Errorf("neither a speaker's line nor an event: %q", line)
	}
	text := ""
	if len(line) > 3 {
		text = line[3:]
	}
	return &step{line: n, who: line[0], text: text}, nil
}

func parseEvent(s string) (event, error) {
	verb, rest, _ := strings.Cut(s, " ")
	e := event{verb: verb, opts: make(map[string]string)}
	if verb == "raw" || verb == "reload" {
		e.args = []string{rest} // these have a form of their own
		return e, nil
	}
	words, err := splitWords(rest)
	if err != nil {
		return e, err
	}
	for _, w := range words {
		key, value, ok := strings.Cut(w, "=")
		if !ok {
			e.args = append(e.args, w)
			continue
		}
		if strings.HasPrefix(value, `"`) {
			if value, err = strconv.Unquote(value); err != nil {
				return e, fmt.Errorf("option %s: %w", w, err)
			}
		}
		e.opts[key] = value
	}
	return e, nil
}

// splitWords splits s at white space outside of double quotes. The quotes stay.
func splitWords(s string) ([]string, error) {
	var words []string
	for s = strings.TrimSpace(s); s != ""; s = strings.TrimLeftFunc(s, unicode.IsSpace) {
		i := 0
		for i < len(s) && !unicode.IsSpace(rune(s[i])) {
			if s[i] != '"' {
				i++
				continue
			}
			q, err := strconv.QuotedPrefix(s[i:])
			if err != nil {
				return nil, fmt.Errorf("quoted string in %q: %w", s, err)
			}
			i += len(q)
		}
		words = append(words, s[:i])
		s = s[i:]
	}
	return words, nil
}

// parseRaw reads what follows "raw": a speaker, and quoted strings, each of
// which may be repeated: C "a1 LOGIN " "x"*9000.
func parseRaw(s string) (who byte, data []byte, err error) {
	words, err := splitWords(s)
	if err != nil {
		return 0, nil, err
	}
	if len(words) < 2 || len(words[0]) != 1 {
		return 0, nil, fmt.Errorf("raw %s: want a speaker and a quoted string", s)
	}
	for _, w := range words[1:] {
		q, err := strconv.QuotedPrefix(w)
		if err != nil {
			return 0, nil, fmt.Errorf("raw %s: %w", w, err)
		}
		times := 1
		if rest := w[len(q):]; rest != "" {
			if times, err = strconv.Atoi(strings.TrimPrefix(rest, "*")); err != nil || rest[0] != '*' {
				return 0, nil, fmt.Errorf("raw %s: want *N behind the string", w)
			}
		}
		text, err := strconv.Unquote(q)
		if err != nil {
			return 0, nil, err
		}
		if text, err = expandBase64(text); err != nil {
			return 0, nil, err
		}
		data = append(data, strings.Repeat(text, times)...)
	}
	return words[0][0], data, nil
}

package proxytest

import (
	"bytes"
	"os"
	"strings"
)

// edit collects what the proxy says in the place of what a transcript expects.
type edit struct {
	on    bool
	lines map[int]string   // S and P lines that were said; the others of these go
	said  map[int][]string // what was said and not expected, by the line that it goes before
	seen  map[int]bool     // lines that were played: a repeat comes by again
}

func newEdit(on bool) edit {
	return edit{on: on, lines: make(map[int]string), said: make(map[int][]string), seen: make(map[int]bool)}
}

// rewriteLine takes the next line that the proxy has said in the place of what st
// expects.
func (r *runner) rewriteLine(st *step) {
	s := r.client
	if st.who == 'P' {
		s = r.backend
	}
	again := r.edit.seen[st.line]
	r.edit.seen[st.line] = true
	if s == nil {
		return
	}
	got, ok := s.line()
	if !ok {
		return
	}
	said := r.script.lines[st.line-1]
	if r.match(st, s, got) != nil {
		said = r.print(st.who, s, got)
	}
	if !again {
		r.edit.lines[st.line] = said
	}
	r.say("%s", said)
}

// rewrite takes what the proxy has said so far as right: it belongs before st.
func (r *runner) rewrite(st *step) {
	if !r.edit.on {
		return
	}
	again := r.edit.seen[st.line]
	r.edit.seen[st.line] = true
	clientToo, backendToo := true, true
	var rawS, rawP []byte
	if expects(st) {
		// Only what the step is about has to come before it.
		letter := st.event.arg(0)
		switch st.event.verb {
		case "raw":
			who, data, err := parseRaw(letter)
			if err != nil {
				return
			}
			letter = string(who)
			rawS, rawP = data, data
		case "proxy", "tls", "dial":
			letter = ""
		case "client":
			letter = "C"
		case "backend":
			letter = "B"
		}
		clientToo = letter == "C" || letter == "S"
		backendToo = letter == "B" || letter == "P"
	}
	if r.client != nil && clientToo {
		r.drain('S', r.client, st.line, again, rawS)
	}
	if r.backend != nil && backendToo {
		r.drain('P', r.backend, st.line, again, rawP)
	}
}

// drain writes the complete lines that s has got, up to the bytes that the
// transcript expects literally.
func (r *runner) drain(who byte, s *speaker, line int, again bool, until []byte) {
	stop := len(s.unread())
	if i := bytes.Index(s.unread(), until); len(until) > 0 && i >= 0 {
		stop = i
	}
	for stop > 0 {
		got, ok := s.line()
		if !ok {
			return
		}
		stop -= len(got) + len("\r\n")
		said := r.print(who, s, got)
		if !again {
			r.edit.said[line] = append(r.edit.said[line], said)
		}
		r.say("%s", said)
	}
}

// print writes a line that the proxy said as transcripts write it.
func (r *runner) print(who byte, s *speaker, got string) string {
	if who == 'P' {
		return scriptLine(who, printProxyLine(&s.tags, r.session(), got))
	}
	return scriptLine(who, printLine(r.session(), got))
}

// write replaces the S and P lines of the file.
func (d *edit) write(s *script) error {
	expected := make(map[int]bool)
	var mark func(steps []*step)
	mark = func(steps []*step) {
		for _, st := range steps {
			expected[st.line] = st.who == 'S' || st.who == 'P'
			mark(st.body)
		}
	}
	mark(s.conversation)
	var out []string
	for i := range len(s.lines) + 1 {
		n := i + 1
		if said := d.said[n]; len(said) > 0 {
			// It belongs behind the last thing that happened, not behind the blank
			// lines that follow that.
			at := len(out)
			for at > 0 && strings.TrimSpace(out[at-1]) == "" {
				at--
			}
			out = append(out[:at], append(append([]string(nil), said...), out[at:]...)...)
		}
		if i == len(s.lines) {
			break
		}
		line := s.lines[i]
		if expected[n] {
			var ok bool
			if line, ok = d.lines[n]; !ok {
				continue
			}
		}
		out = append(out, line)
	}
	text := strings.Join(out, "\n") + "\n"
	if text == strings.Join(s.lines, "\n")+"\n" {
		return nil
	}
	return os.WriteFile(s.file, []byte(text), 0o600)
}

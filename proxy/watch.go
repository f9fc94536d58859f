package proxy

import "bytes"

// watch looks at what the client sends for the two commands that matter to the
// proxy. It returns false when p must not reach the backend.
func (s *session) watch(p []byte) bool {
	ok, unauthenticates := true, s.facts.how.Value().unauthenticates
	s.watched.advance(p, func(command string) {
		switch command {
		case "COMPRESS DEFLATE":
			s.opaque.Store(true)
			if !unauthenticates {
				return
			}
			ok = false // UNAUTHENTICATE could not be seen in a compressed stream
		case "UNAUTHENTICATE":
			ok = ok && !unauthenticates
		}
	})
	return ok
}

// commandWatch finds commands by looking at every line, those inside of literals
// included: whether a line is a command depends on whether the server took the
// literal before it, and a client could lie about that. A mail that has such a
// line on its own ends the session too, and that is rare enough.
// The zero value is at the beginning of a line.
type commandWatch struct {
	spaces int    // in the line so far
	tail   []byte // the end of the line so far
}

// maxWatched is the length of the longest command and what may stand around it.
const maxWatched = len(" COMPRESS DEFLATE") + 8

// watched are the commands that are found, in the form "tag COMMAND".
var watched = []string{"UNAUTHENTICATE", "COMPRESS DEFLATE"}

// advance takes the next bytes of the stream, and calls found for each watched
// command that ends in them.
func (w *commandWatch) advance(p []byte, found func(command string)) {
	for len(p) > 0 {
		line, rest, end := bytes.Cut(p, []byte{'\n'})
		p = rest
		w.spaces += bytes.Count(line, []byte{' '})
		w.tail = append(w.tail, line[max(0, len(line)-maxWatched):]...)
		w.tail = append(w.tail[:0], w.tail[max(0, len(w.tail)-maxWatched):]...)
		if !end {
			return
		}
		text := bytes.TrimRight(w.tail, " \r")
		spaces := w.spaces - bytes.Count(w.tail[len(text):], []byte{' '})
		for _, command := range watched {
			// One space behind the tag, and those of the command itself.
			if spaces == 1+bytes.Count([]byte(command), []byte{' '}) && hasSuffixFold(text, " "+command) {
				found(command)
			}
		}
		w.spaces, w.tail = 0, w.tail[:0]
	}
}

func hasSuffixFold(b []byte, suffix string) bool {
	return len(b) >= len(suffix) && bytes.EqualFold(b[len(b)-len(suffix):], []byte(suffix))
}

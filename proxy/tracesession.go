package proxy

import (
	"bytes"
	"strconv"
	"strings"
	"sync"

	"imapgate/proxy/imap"
)

// sessionTrace shows what goes through a session while it is watched: the names of
// commands and responses, and their sizes. It is there for sessions whose login was
// watched. It is safe for concurrent use; the nil one shows nothing.
type sessionTrace struct {
	mu      sync.Mutex
	t       *tracer
	client  heads
	backend heads
	over    bool // nobody watches any more, and nobody can begin to in the middle
}

// heads finds the commands or responses of one direction.
type heads struct {
	follow imap.Follower
	head   string // of the one that is not complete yet
	size   int    // of it so far
}

// newSessionTrace returns the trace of a session, nil when nobody watches.
func newSessionTrace(t *tracer) *sessionTrace {
	if t == nil || len(t.shown) == 0 {
		return nil
	}
	s := &sessionTrace{t: t}
	s.client.follow.Client = true
	s.client.follow.OnLine = func(head []byte) { s.client.head = maskName(head, true) }
	s.backend.follow.OnLine = func(head []byte) { s.backend.head = maskName(head, false) }
	return s
}

func (s *sessionTrace) fromClient(p []byte)  { s.pass("C", p) }
func (s *sessionTrace) fromBackend(p []byte) { s.pass("B", p) }

// pass shows what is complete with p.
func (s *sessionTrace) pass(who string, p []byte) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.over = s.over || s.t.traces.active.Load() == 0; s.over {
		s.t = nil // with what it remembers
		return
	}
	h := &s.client
	if who == "B" {
		h = &s.backend
	}
	for len(p) > 0 {
		part := p
		if i := bytes.IndexByte(p, '\n'); i >= 0 {
			part = p[:i+1]
		}
		p = p[len(part):]
		h.follow.Advance(part)
		if h.size += len(part); h.follow.AtBoundary() {
			s.t.say(who, h.head+" "+octets("octets", h.size))
			h.head, h.size = "", 0
		}
	}
}

// maskName returns the name of a command or of a response, as far as it is known. A
// number before it is shown, and nothing else: not even a tag, which could be a part
// of a message where the stream was not understood.
func maskName(head []byte, command bool) string {
	words := strings.Fields(string(head))
	for len(words) < 3 {
		words = append(words, "")
	}
	first, name := words[0], strings.ToUpper(words[1])
	if command {
		switch {
		case len(words[1]) == 0 && strings.EqualFold(first, "DONE"):
			return "DONE"
		case name == "UID" && knownNames[strings.ToUpper(words[2])]:
			return "UID " + strings.ToUpper(words[2])
		case knownNames[name]:
			return name
		}
		return "[unknown]"
	}
	kind := "tagged "
	switch first {
	case "+":
		return "+"
	case "*":
		kind = ""
		if _, err := strconv.ParseUint(name, 10, 32); err == nil {
			kind, name = name+" ", strings.ToUpper(words[2])
		}
	}
	if !knownNames[name] {
		name = "[unknown]"
	}
	return kind + name
}

// knownNames are the names of commands and responses that can be shown.
var knownNames = func() map[string]bool {
	known := make(map[string]bool)
	for name := range strings.FieldsSeq(`APPEND AUTHENTICATE CAPABILITY CHECK CLOSE COMPRESS COPY CREATE DELETE ENABLE EXAMINE
		EXPUNGE FETCH GETACL GETMETADATA GETQUOTA GETQUOTAROOT ID IDLE LIST LOGIN LOGOUT LSUB MOVE MYRIGHTS NAMESPACE NOOP NOTIFY RENAME SEARCH
		SELECT SETACL SETMETADATA SETQUOTA SORT STARTTLS STATUS STORE SUBSCRIBE THREAD UNSELECT UNSUBSCRIBE XLIST
		OK NO BAD BYE ACL ENABLED ESEARCH EXISTS FLAGS METADATA QUOTA QUOTAROOT RECENT VANISHED`) {
		known[name] = true
	}
	return known
}()

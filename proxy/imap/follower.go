package imap

import "bytes"

const (
	// maxHead is how much of a line OnLine is given.
	maxHead = 128
	// maxAnnouncement is the longest literal announcement that is seen: 20 digits and "{+}". Every 64-bit
	// size fits. See RFC 9051, Section 9, "number64".
	maxAnnouncement = 23
)

// A Follower knows where responses end in the stream from a backend, or commands in the stream from a client. It
// counts lines and literals and keeps nothing else: Advance does not allocate. LF ends a line, with or without a CR.
//
// In human text (status responses and continuation requests) something that looks like a literal is none, unless it
// stands inside of the brackets of a response code.
//
// The zero value is at a boundary, in the stream of a backend. A Follower may be used by one goroutine at a time.
type Follower struct {
	// Client is set for the stream from a client, in which a line has no human text, and a line that ends like
	// the announcement of a literal is one. Whether the server refuses a synchronizing literal, so that a command
	// follows in its place, is not in this stream: the Follower takes what follows for the literal.
	Client bool

	// OnLine, if not nil, is called at the end of the first line of each response or command with the first 128
	// bytes of that line, without its CRLF. The bytes are valid during the call only.
	OnLine func(head []byte)

	literal int64 // octets of the current literal that are still to come
	inside  bool  // of a response: some of its bytes were seen, its end was not
	later   bool  // the line is not the first of its response
	text    textState

	name    [len("PREAUTH") + 1]byte // of the response, as far as it was seen
	nameLen int
	star    bool // the response is an untagged one

	tail    [maxAnnouncement + 1]byte // the last bytes seen of an unfinished line
	tailLen int
	head    [maxHead]byte // the first bytes of an unfinished line, if OnLine is set
	headLen int           // how long the unfinished line is, if OnLine is set
}

// textState is what the Follower knows about a response's human text.
type textState uint8

const (
	inTag   textState = iota // the first word, from its first byte on
	inWord                   // the first word, behind its first byte
	inName                   // the second word
	atText                   // a status response, at the first byte of its text
	inCode                   // a status response, inside of the brackets of its code
	inText                   // human text until the end of the response
	notText                  // data, or a command
)

// AtBoundary reports whether the stream is between two responses, so that another one could be put there.
func (f *Follower) AtBoundary() bool { return !f.inside }

// Advance consumes the next bytes of the stream. It returns the offset in p just behind the last response that ends
// in p, or -1 when none does.
func (f *Follower) Advance(p []byte) (boundary int) {
	boundary = -1
	for i := 0; i < len(p); {
		if f.literal > 0 {
			n := min(f.literal, int64(len(p)-i))
			f.literal -= n
			i += int(n)
			continue
		}
		rest := p[i:]
		n := bytes.IndexByte(rest, '\n')
		if n < 0 {
			f.keep(rest)
			break
		}
		i += n + 1
		if f.endLine(rest[:n]) {
			boundary = i
		}
	}
	return boundary
}

// keep remembers what is needed of the bytes of a line that does not end in them.
func (f *Follower) keep(p []byte) {
	f.inside = true
	f.classify(p)
	if f.OnLine != nil && !f.later {
		f.keepHead(p)
	}
	f.keepTail(p)
}

func (f *Follower) keepTail(p []byte) {
	if len(p) >= len(f.tail) {
		f.tailLen = copy(f.tail[:], p[len(p)-len(f.tail):])
		return
	}
	n := f.tailLen
	if over := n + len(p) - len(f.tail); over > 0 {
		n = copy(f.tail[:], f.tail[over:n])
	}
	f.tailLen = n + copy(f.tail[n:], p)
}

// endLine takes the last bytes of a line, without its LF, and reports whether the response ends with that line.
func (f *Follower) endLine(p []byte) bool {
	f.classify(p)
	if f.OnLine != nil && !f.later {
		f.callOnLine(p)
	}
	end := p
	if f.tailLen > 0 {
		f.keepTail(p)
		end = f.tail[:f.tailLen]
		f.tailLen = 0
	}
	if n := len(end); n > 0 && end[n-1] == '\r' {
		end = end[:n-1]
	}
	if n := len(end); n > 0 && end[n-1] == '}' && f.text != inText && f.text != atText {
		if lit, ok := announcement(end[max(0, n-maxAnnouncement):]); ok {
			f.literal = lit.size
			f.inside, f.later = true, true
			if f.text != inCode {
				f.text = notText // the lines behind the literal begin with no tag
			}
			return false
		}
	}
	f.inside, f.later, f.star = false, false, false
	f.text, f.nameLen = inTag, 0
	return true
}

func (f *Follower) callOnLine(p []byte) {
	head, n := p, len(p)
	if f.headLen > 0 {
		f.keepHead(p)
		n = f.headLen
		head = f.head[:min(n, maxHead)]
		f.headLen = 0
	}
	if n > 0 && n <= len(head) && head[n-1] == '\r' { // of a line that head has the end of
		head = head[:n-1]
	}
	f.OnLine(head[:min(len(head), maxHead)])
}

// keepHead remembers the next bytes of a line, as long as there is room.
func (f *Follower) keepHead(p []byte) {
	if f.headLen < maxHead {
		copy(f.head[f.headLen:], p)
	}
	f.headLen += len(p)
}

// classify goes on finding out whether the line is human text.
func (f *Follower) classify(p []byte) {
	if f.text == notText || f.text == inText {
		return
	}
	if f.Client {
		f.text = notText
		return
	}
	for i, b := range p {
		switch f.text {
		case inTag:
			switch b {
			case '+':
				f.text = inText
				return
			case ' ':
				f.text = inName
			default:
				f.star = b == '*'
				f.text = inWord
			}
		case inWord:
			if b == ' ' {
				f.text = inName
			} else {
				f.star = false
			}
		case inName:
			switch {
			case b == ' ':
				f.text = f.afterName()
			case f.nameLen == 0 && !beginsStatus(b) || f.nameLen == len(f.name):
				f.text = notText
				return
			default:
				f.name[f.nameLen] = b
				f.nameLen++
			}
		case atText:
			if b != '[' {
				f.text = inText
				return
			}
			f.text = inCode
		case inCode:
			if bytes.IndexByte(p[i:], ']') >= 0 {
				f.text = inText
			}
			return
		case inText, notText:
			return
		}
	}
}

// beginsStatus spares data, which is most of what a backend sends, from the rest of classify.
func beginsStatus(b byte) bool {
	switch b | 0x20 {
	case 'o', 'n', 'b', 'p':
		return true
	default:
		return false
	}
}

// afterName tells by the name of a response whether human text follows.
func (f *Follower) afterName() textState {
	var up [len(f.name)]byte
	for i, b := range f.name[:f.nameLen] {
		if 'a' <= b && b <= 'z' {
			b -= 'a' - 'A'
		}
		up[i] = b
	}
	switch string(up[:f.nameLen]) {
	case "OK", "NO", "BAD":
		return atText
	case "BYE", "PREAUTH":
		if f.star {
			return atText
		}
	}
	return notText
}

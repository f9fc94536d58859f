package proxytest

import (
	"encoding/base64"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"unicode"
)

var (
	base64Call  = regexp.MustCompile(`base64\(("(?:[^"\\]|\\.)*")\)`)
	tagName     = regexp.MustCompile(`^t[0-9]+$`)
	madeUpTag   = regexp.MustCompile(`^[A-Za-z0-9._-]{6,}$`)
	sessionPair = regexp.MustCompile(`"x-session-id" "([^" ]+)"`)
)

const sessionWord = "SESSION"

// expandBase64 replaces base64("…") by what it stands for.
func expandBase64(s string) (string, error) {
	var failed error
	s = base64Call.ReplaceAllStringFunc(s, func(call string) string {
		text, err := strconv.Unquote(base64Call.FindStringSubmatch(call)[1])
		if err != nil {
			failed = fmt.Errorf("%s: %w", call, err)
		}
		return base64.StdEncoding.EncodeToString([]byte(text))
	})
	return s, failed
}

// foldBase64 is the opposite: words that are the base64 form of SASL messages
// become readable.
func foldBase64(line string) string {
	words := strings.Split(line, " ")
	for i, w := range words {
		if len(w) < 8 || i > 0 && words[i-1] == "*" {
			continue
		}
		data, err := base64.StdEncoding.DecodeString(w)
		if err != nil || !strings.ContainsAny(string(data), "\x00\x01=,:{@") {
			continue
		}
		if !readable(string(data)) {
			continue
		}
		words[i] = "base64(" + strconv.Quote(string(data)) + ")"
	}
	return strings.Join(words, " ")
}

// readable says whether s is text, but for the separators of SASL.
func readable(s string) bool {
	if strings.ContainsRune(s, unicode.ReplacementChar) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) && r != 0 && r != 1 {
			return false
		}
	}
	return true
}

// names maps the names that a transcript uses for what the proxy makes up to
// the values that it made up, and back.
type names struct {
	values map[string]string
	known  map[string]string
}

func (n *names) bind(name, value string) {
	if n.values == nil {
		n.values, n.known = make(map[string]string), make(map[string]string)
	}
	n.values[name], n.known[value] = value, name
}

// matchTag decides whether got, the first word of a line that the proxy sent to
// a backend, is the tag that the transcript calls want.
func (n *names) matchTag(want, got string) error {
	if value, ok := n.values[want]; ok {
		if value != got {
			return fmt.Errorf("%s is the tag %q here", want, value)
		}
		return nil
	}
	if name, ok := n.known[got]; ok {
		return fmt.Errorf("the tag %q was %s already", got, name)
	}
	if !madeUpTag.MatchString(got) {
		return fmt.Errorf("%q is not a random tag", got)
	}
	n.bind(want, got)
	return nil
}

// nameTag returns the name of a tag that the proxy sent to a backend, a new one
// if need be; false if it is no such tag.
func (n *names) nameTag(word, command string) (string, bool) {
	if name, ok := n.known[word]; ok {
		return name, true
	}
	switch command {
	case "CAPABILITY", "ID", "STARTTLS", "LOGIN", "AUTHENTICATE", "NOOP", "LOGOUT":
	default:
		return "", false
	}
	if len(word) < 6 || !madeUpTag.MatchString(word) {
		return "", false
	}
	name := "t" + strconv.Itoa(len(n.values)+1)
	n.bind(name, word)
	return name, true
}

// matchSession decides whether got is want, where SESSION stands for the
// session's id. It learns the id when it appears first.
func (n *names) matchSession(want, got string) bool {
	if !strings.Contains(want, sessionWord) {
		return want == got
	}
	if value, ok := n.values[sessionWord]; ok {
		return strings.ReplaceAll(want, sessionWord, value) == got
	}
	before, after, _ := strings.Cut(want, sessionWord)
	if !strings.HasPrefix(got, before) {
		return false
	}
	end := strings.IndexFunc(got[len(before):], func(r rune) bool { return r == '"' || r == ' ' })
	if end <= 0 {
		return false
	}
	value := got[len(before) : len(before)+end]
	if got[len(before)+end:] != strings.ReplaceAll(after, sessionWord, value) {
		return false
	}
	n.bind(sessionWord, value)
	return true
}

// matchProxyLine decides whether the line that the proxy sent to a backend is
// the one that the transcript expects there.
func matchProxyLine(tags, session *names, want, got string) error {
	want, err := expandBase64(want)
	if err != nil {
		return err
	}
	wantWord, wantRest, _ := strings.Cut(want, " ")
	gotWord, gotRest, _ := strings.Cut(got, " ")
	if tagName.MatchString(wantWord) && wantWord != gotWord {
		if !session.matchSession(wantRest, gotRest) {
			return errDiffers
		}
		return tags.matchTag(wantWord, gotWord)
	}
	if !session.matchSession(want, got) {
		return errDiffers
	}
	return nil
}

// printProxyLine writes a line that the proxy sent to a backend as transcripts
// write it.
func printProxyLine(tags, session *names, got string) string {
	word, rest, _ := strings.Cut(got, " ")
	command, _, _ := strings.Cut(rest, " ")
	if name, ok := tags.nameTag(word, command); ok {
		got = name + " " + rest
	}
	if m := sessionPair.FindStringSubmatch(got); m != nil && session.values[sessionWord] == "" {
		session.bind(sessionWord, m[1])
	}
	return printLine(session, got)
}

// printLine writes a line that the proxy sent as transcripts write it.
func printLine(session *names, got string) string {
	if id := session.values[sessionWord]; id != "" {
		got = strings.ReplaceAll(got, id, sessionWord)
	}
	return foldBase64(got)
}

// scriptLine is one line of a transcript's conversation for what the proxy
// said: as text where possible, else as exact bytes.
func scriptLine(who byte, text string) string {
	plain := strings.TrimRight(text, " ") == text
	for _, r := range text {
		if r == unicode.ReplacementChar || r != ' ' && !unicode.IsGraphic(r) {
			plain = false
		}
	}
	if !plain {
		return fmt.Sprintf("[raw %c %s]", who, strconv.Quote(text+"\r\n"))
	}
	if text == "" {
		return fmt.Sprintf("%c:", who)
	}
	return fmt.Sprintf("%c: %s", who, text)
}

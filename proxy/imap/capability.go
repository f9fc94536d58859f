package imap

import "strings"

// ParseCapabilities returns the words of a capability list in upper case, in their order, each once. Words that are
// no atoms are dropped. See RFC 9051, Section 7.2.2.
func ParseCapabilities(s string) []string {
	var caps []string
	seen := make(map[string]struct{}) // a hostile list has thousands of words
	for word := range strings.SplitSeq(s, " ") {
		if !isAtomString(word) {
			continue
		}
		word = strings.ToUpper(word)
		if _, ok := seen[word]; ok {
			continue
		}
		seen[word] = struct{}{}
		caps = append(caps, word)
	}
	return caps
}

// HasCapability reports whether name is among caps, without regard to case.
func HasCapability(caps []string, name string) bool {
	for _, c := range caps {
		if strings.EqualFold(c, name) {
			return true
		}
	}
	return false
}

func isAtomString(s string) bool {
	for i := range len(s) {
		if !isAtom(s[i]) {
			return false
		}
	}
	return s != ""
}

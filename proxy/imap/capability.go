package imap

import (
	"slices"
	"strings"
)

// manyWords is from where on a list is looked up by hash: a server's list is shorter, and a hostile one has thousands
// of words.
const manyWords = 64

// ParseCapabilities returns the words of a capability list in upper case, in their order, each once. Words that are
// no atoms are dropped. See RFC 9051, Section 7.2.2.
func ParseCapabilities(s string) []string {
	caps := make([]string, 0, min(1+strings.Count(s, " "), manyWords))
	var seen map[string]struct{}
	for word := range strings.SplitSeq(s, " ") {
		if !isAtomString(word) {
			continue
		}
		word = strings.ToUpper(word)
		if seen == nil && len(caps) == manyWords {
			seen = make(map[string]struct{}, 2*manyWords)
			for _, c := range caps {
				seen[c] = struct{}{}
			}
		}
		if seen == nil {
			if slices.Contains(caps, word) {
				continue
			}
		} else {
			if _, ok := seen[word]; ok {
				continue
			}
			seen[word] = struct{}{}
		}
		caps = append(caps, word)
	}
	if len(caps) == 0 {
		return nil
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

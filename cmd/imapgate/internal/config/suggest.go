package config

import (
	"fmt"
	"strings"
)

// didYouMean returns a hint that names the candidate nearest to what was
// written, or lists the candidates when none is near.
func didYouMean(written string, candidates []string) string {
	if c := nearest(written, candidates); c != "" {
		return fmt.Sprintf("did you mean %q?", c)
	}
	switch {
	case len(candidates) == 0:
		return ""
	case len(candidates) > 12:
		candidates = append(candidates[:12:12], "…")
	}
	return "expected " + oneOf(candidates)
}

// oneOf lists alternatives as a sentence does: "a", "a or b", "a, b or c".
func oneOf(alternatives []string) string {
	last := len(alternatives) - 1
	if last <= 0 {
		return strings.Join(alternatives, "")
	}
	return strings.Join(alternatives[:last], ", ") + " or " + alternatives[last]
}

// nearest returns the candidate that a slip of the hand may have turned into
// written, or "" when there is none or more than one.
func nearest(written string, candidates []string) string {
	fold := func(s string) string {
		return strings.NewReplacer("-", "", "_", "", " ", "").Replace(strings.ToLower(s))
	}
	w := fold(written)
	if w == "" || len(w) > 64 {
		return ""
	}
	best, least := "", max(1, min(len(w)/3, 3))+1
	for _, c := range candidates {
		f := fold(c)
		d := distance(w, f)
		if d > 1 && len(w) >= 3 && (strings.HasPrefix(f, w) || strings.HasPrefix(w, f)) {
			d = 1
		}
		switch {
		case d < least:
			best, least = c, d
		case d == least && best != "":
			best = ""
		}
	}
	return best
}

// distance counts the insertions, deletions, substitutions and swaps of
// neighbours that turn a into b.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			row[j+1] = min(last[j]+cost, last[j+1]+1, row[j]+1)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}

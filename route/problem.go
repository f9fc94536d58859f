package route

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// MaxProblems is the number of mistakes that are kept and told of a table; the
// others are counted.
const MaxProblems = 100

// Problem is one mistake in a definition or in a row, and where it is.
type Problem struct {
	Position        // zero for the definition
	Text     string // what is wrong
	Hint     string // what to do about it, or ""
}

// String returns the problem as one line: place, what is wrong, hint.
func (p Problem) String() string {
	var b strings.Builder
	if p.File != "" {
		b.WriteString(p.Position.String())
		b.WriteString(": ")
	}
	b.WriteString(p.Text)
	if p.Hint != "" {
		b.WriteString(" (" + p.Hint + ")")
	}
	return b.String()
}

// String returns the position as "users.map:12:21".
func (p Position) String() string {
	s := p.File
	if p.Line > 0 {
		s += ":" + strconv.Itoa(p.Line)
		if p.Column > 0 {
			s += ":" + strconv.Itoa(p.Column)
		}
	}
	return s
}

// TableError is everything that is wrong with a table, or as much of it as is
// worth reading.
type TableError struct {
	Problems []Problem // in order of files, lines and columns; MaxProblems at the most
	More     int       // mistakes beyond Problems
}

// Error returns one line for each problem.
func (e *TableError) Error() string {
	lines := make([]string, 0, len(e.Problems)+1)
	for _, p := range e.Problems {
		lines = append(lines, p.String())
	}
	if e.More > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more", e.More))
	}
	return strings.Join(lines, "\n")
}

func (e *TableError) add(p Problem) {
	if len(e.Problems) < MaxProblems {
		e.Problems = append(e.Problems, p)
	} else {
		e.More++
	}
}

// err returns e in reading order, or nil when nothing is wrong.
func (e *TableError) err() error {
	if len(e.Problems) == 0 {
		return nil
	}
	files := make(map[string]int)
	for _, p := range e.Problems {
		if _, ok := files[p.File]; !ok {
			files[p.File] = len(files)
		}
	}
	files[""] = -1
	slices.SortStableFunc(e.Problems, func(a, b Problem) int {
		if d := files[a.File] - files[b.File]; d != 0 {
			return d
		}
		if d := a.Line - b.Line; d != 0 {
			return d
		}
		return a.Column - b.Column
	})
	return e
}

// JoinErrors merges what is wrong with several parts of one table into one
// error in reading order. Problems are bounded by MaxProblems again; an error of
// another kind becomes a problem without a place. A single error is returned as
// it is, and nil when all are nil.
func JoinErrors(errs ...error) error {
	errs = slices.DeleteFunc(slices.Clone(errs), func(err error) bool { return err == nil })
	if len(errs) == 1 {
		return errs[0]
	}
	all := new(TableError)
	for _, err := range errs {
		te, ok := err.(*TableError) //nolint:errorlint // a wrapped one says more than its problems
		if !ok {
			all.add(Problem{Text: err.Error()})
			continue
		}
		for _, p := range te.Problems {
			all.add(p)
		}
		all.More += te.More
	}
	return all.err()
}

// quote quotes a name for a message, and cuts what nobody would read.
func quote(s string) string {
	const most = 80
	if len(s) > most {
		cut := most
		for cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
		s = s[:cut] + "…"
	}
	return strconv.Quote(s)
}

// suggest returns the hint for a name that is not among those known: the one
// that was probably meant, else all of them when they are few.
func suggest(name string, known []string) string {
	const few = 8
	closest, least := "", max(1, len(name)/3)+1
	if len(name) <= MaxName {
		for _, k := range known {
			if d := distance(strings.ToLower(name), strings.ToLower(k)); d < least || d == least && closest != "" && k < closest {
				closest, least = k, d
			}
		}
	}
	switch {
	case closest != "":
		return "did you mean " + quote(closest) + "?"
	case len(known) == 0:
		return "none is defined"
	case len(known) <= few:
		sorted := slices.Sorted(slices.Values(known))
		return "there are: " + strings.Join(sorted, ", ")
	}
	return ""
}

// distance is the number of edits between a and b: insertions, deletions,
// replacements, and swaps of neighbours.
func distance(a, b string) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}

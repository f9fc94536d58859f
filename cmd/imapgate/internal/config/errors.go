package config

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxErrors bounds how many mistakes of one file are reported.
const maxErrors = 100

// Pos is a place in the file. Line and Column count from 1, columns in
// characters; Width is how many of them are meant. The zero Pos is nowhere: the
// value it belongs to is a default.
type Pos struct{ Line, Column, Width int }

// Error is one mistake in a configuration file, or one thing outside that the
// file asks for and that cannot be had.
type Error struct {
	File string
	Pos  Pos
	Msg  string
	Hint string // what to write instead, or what was expected; may be empty
	Err  error  // the cause when it lies outside the file, such as an unreadable key

	path    string // the key it is under, "backends.mail1"; "" for the whole file
	excerpt string // the line at Pos; empty when showing it would not help
}

// Error returns the mistake as one line, with its position and hint.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(e.Where())
	b.WriteString(": ")
	b.WriteString(e.Msg)
	if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	if e.Hint != "" {
		b.WriteString(" (")
		b.WriteString(e.Hint)
		b.WriteString(")")
	}
	return b.String()
}

// Unwrap returns the cause, if there is one.
func (e *Error) Unwrap() error { return e.Err }

// Where returns the position as file:line:column.
func (e *Error) Where() string {
	if e.Pos.Line == 0 {
		return e.File
	}
	return fmt.Sprintf("%s:%d:%d", e.File, e.Pos.Line, e.Pos.Column)
}

// Errors are all mistakes of one file, in its order.
type Errors []*Error

// Error returns one line for each mistake.
func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

// Unwrap returns the single errors.
func (es Errors) Unwrap() []error {
	errs := make([]error, len(es))
	for i, e := range es {
		errs[i] = e
	}
	return errs
}

// Print writes every mistake for people, behind prefix: its line and, where it
// lies in the file itself, an excerpt with a caret below it.
func (es Errors) Print(w io.Writer, prefix string) {
	for _, e := range es {
		_, _ = fmt.Fprintln(w, prefix+e.Error())
		if e.excerpt == "" {
			continue
		}
		text, caret := excerpt(e.excerpt, e.Pos)
		_, _ = fmt.Fprintf(w, "%6d | %s\n       | %s\n", e.Pos.Line, text, caret)
	}
}

// sorted returns the errors in the order of the file, without repetitions.
func (es Errors) sorted() Errors {
	slices.SortStableFunc(es, func(a, b *Error) int {
		return cmp.Or(cmp.Compare(a.Pos.Line, b.Pos.Line), cmp.Compare(a.Pos.Column, b.Pos.Column))
	})
	return slices.CompactFunc(es, func(a, b *Error) bool { return a.Pos == b.Pos && a.Msg == b.Msg })
}

// excerpt returns a line of the file and the caret line below it. What a
// terminal might obey is replaced; of a long line the part around the position
// is shown.
func excerpt(line string, p Pos) (text, caret string) {
	const width, before = 100, 40
	runes := []rune(line)
	for i, r := range runes {
		switch {
		case r == '\t':
			runes[i] = ' '
		case !unicode.IsPrint(r) || r == utf8.RuneError:
			runes[i] = '?'
		}
	}
	column := min(max(p.Column-1, 0), len(runes))
	mark := min(max(p.Width, 1), max(len(runes)-column, 1))
	if start := column - before; len(runes) > width && start > 0 {
		runes, column = runes[start:], before
	}
	runes = runes[:min(len(runes), width)]
	mark = min(mark, max(len(runes)-column, 1))
	return string(runes), strings.Repeat(" ", column) + strings.Repeat("^", mark)
}

// splitLines splits as YAML counts lines. See YAML 1.1, Section 5.4: next line
// and the Unicode separators end lines too.
func splitLines(src []byte) []string {
	var lines []string
	text := strings.TrimPrefix(string(src), "\ufeff")
	start := 0
	for i, r := range text {
		switch r {
		case '\r':
			if strings.HasPrefix(text[i+1:], "\n") {
				continue
			}
		case '\n', '\u0085', '\u2028', '\u2029':
		default:
			continue
		}
		lines = append(lines, strings.TrimSuffix(text[start:i], "\r"))
		start = i + utf8.RuneLen(r)
	}
	return append(lines, text[start:])
}

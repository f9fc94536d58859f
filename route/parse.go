package route

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf8"
)

// MaxLine is the greatest length of a line in octets, its line end not counted.
const MaxLine = 64 << 10

const rowForm = "a row is: user or @domain, target, options"

// Parse reads rows in their text form:
//
//	# user or @domain          target     options
//	alice@example.org          mail1
//	bob@example.org            mail2      login=bob.smith
//	@example.com               shared
//	*                          shared
//
// Words are separated by spaces or tabs, and a word that begins with # begins a
// comment. Lines end in LF or CRLF, the last one too: a file without is taken
// for one that was cut, because half a line can be a valid row that means
// something else. A byte order mark is skipped.
//
// The error is a [*TableError] with every mistake; the rows without one are
// returned with it, so that [Table.Check] can look for more. file names the
// source in positions. Whether targets exist and keys are good is for
// [Table.Load] to say.
func Parse(file string, r io.Reader) (*Rows, error) {
	p := parser{file: file, rows: new(Rows)}
	br := bufio.NewReaderSize(r, MaxLine+len("\r\n"))
	for {
		line, err := br.ReadSlice('\n')
		p.line++
		if p.octets += len(line); p.line == measuredLines {
			p.makeRoom(r)
		}
		switch {
		case err == nil:
			p.parseLine(line)
		case errors.Is(err, bufio.ErrBufferFull):
			p.problem(1, fmt.Sprintf("the line is longer than %d KiB", MaxLine>>10), "the file looks damaged")
			if err := skipLine(br); err != nil {
				return p.end(err)
			}
		case errors.Is(err, io.EOF):
			if len(line) > 0 {
				p.problem(1, fmt.Sprintf("line %d has no newline at its end: the file looks cut", p.line),
					"write the new file beside the old one and rename it")
			}
			return p.end(nil)
		default:
			return p.end(err)
		}
	}
}

// skipLine drops the rest of a line.
func skipLine(br *bufio.Reader) error {
	for {
		_, err := br.ReadSlice('\n')
		switch {
		case errors.Is(err, io.EOF):
			return nil // told by the next read
		case !errors.Is(err, bufio.ErrBufferFull):
			return err
		}
	}
}

// measuredLines is how many lines tell how many there will be.
const measuredLines = 1024

// makeRoom makes room for all rows when r tells its size. To make room for a million
// again and again is to copy 40 MB at a time, which nothing can interrupt.
func (p *parser) makeRoom(r io.Reader) {
	if s, ok := r.(interface{ Size() int64 }); ok {
		p.rows.rows = slices.Grow(p.rows.rows, int(1.05*float64(p.rows.Len())*float64(s.Size())/float64(p.octets)))
	}
}

type parser struct {
	file   string
	line   int
	octets int
	rows   *Rows
	bad    TableError
}

func (p *parser) problem(column int, text, hint string) {
	p.bad.add(Problem{Position: Position{p.file, p.line, column}, Text: text, Hint: hint})
}

// end returns what was read; readErr stopped the reading if not nil.
func (p *parser) end(readErr error) (*Rows, error) {
	if readErr != nil {
		p.problem(0, readErr.Error(), "")
	}
	return p.rows, p.bad.err()
}

// parseLine takes one line with its line end.
func (p *parser) parseLine(line []byte) {
	line = line[:len(line)-1]
	line = bytes.TrimSuffix(line, []byte("\r"))
	if p.line == 1 {
		if bytes.HasPrefix(line, []byte("\xff\xfe")) || bytes.HasPrefix(line, []byte("\xfe\xff")) {
			p.problem(1, "the file is UTF-16", "save it as UTF-8")
			return
		}
		line = bytes.TrimPrefix(line, []byte("\ufeff"))
	}
	if len(line) > MaxLine {
		p.problem(1, fmt.Sprintf("the line is longer than %d KiB", MaxLine>>10), "the file looks damaged")
		return
	}
	if i := bytes.IndexByte(line, 0); i >= 0 {
		p.problem(column(line, i), "the line has a NUL", "the file looks damaged")
		return
	}
	if i := bytes.IndexByte(line, '\r'); i >= 0 {
		p.problem(column(line, i), "the line has a carriage return inside", "lines end in LF or CRLF")
		return
	}

	key, at, rest := word(line, 0)
	if key == nil {
		return
	}
	row := keptRow{line: uint32(p.line), column: uint32(column(line, at))} //nolint:gosec // no file is so large
	name, at, rest := word(line, rest)
	if name == nil {
		p.problem(column(line, len(bytes.TrimRight(line[:at], " \t"))), "the target of "+quote(string(key))+" is missing", rowForm)
		return
	}
	row.targetColumn = uint32(column(line, at)) //nolint:gosec // see MaxLine
	var login []byte
	ok := true
	for {
		var option []byte
		if option, at, rest = word(line, rest); option == nil {
			break
		}
		value, text, hint := loginOption(string(option), login != nil)
		if text != "" {
			p.problem(column(line, at), text, hint)
			ok = false
		} else {
			login = []byte(value)
		}
	}
	if ok {
		row.target, row.file = p.rows.name(name), p.rows.name([]byte(p.file))
		p.rows.add(key, login, row)
	}
}

// loginOption returns the value of a "login=NAME"; text is not empty when it is
// none, or a second one.
func loginOption(word string, again bool) (value, text, hint string) {
	name, value, found := strings.Cut(word, "=")
	switch {
	case !found:
		return "", "unexpected " + quote(word), rowForm
	case name != "login":
		return "", "unknown option " + quote(name), suggest(name, []string{"login"})
	case again:
		return "", "option login is given twice", ""
	case value == "":
		return "", "option login has no value", "login=NAME"
	}
	return value, "", ""
}

// word returns the next word of line at or behind from and where it begins, and
// where to look for the one after it; nil at the end of the row.
func word(line []byte, from int) (w []byte, at, next int) {
	for from < len(line) && (line[from] == ' ' || line[from] == '\t') {
		from++
	}
	if from == len(line) || line[from] == '#' {
		return nil, from, len(line)
	}
	n := bytes.IndexAny(line[from:], " \t")
	if n < 0 {
		n = len(line) - from
	}
	return line[from : from+n : from+n], from, from + n
}

// column returns the column of the octet at offset.
func column(line []byte, offset int) int { return utf8.RuneCount(line[:offset]) + 1 }

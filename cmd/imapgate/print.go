package main

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// colour is how a cell stands out on a terminal.
type colour string

// The colours there are, as terminals know them. See ECMA-48, Section 8.3.117.
const (
	plainText colour = ""
	bold      colour = "1"
	faint     colour = "2"
	red       colour = "31"
	green     colour = "32"
	yellow    colour = "33"
)

// printer writes for people: tables that are aligned, in colours where there is a
// terminal and nobody objects.
type printer struct {
	w       *bufio.Writer
	colours bool
}

func newPrinter(w io.Writer) *printer {
	return &printer{w: bufio.NewWriter(w), colours: isTerminal(w) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"}
}

func (p *printer) flush() error { return p.w.Flush() }

func (p *printer) printf(format string, args ...any) { _, _ = fmt.Fprintf(p.w, format, args...) }

// paint returns a text in a colour.
func (p *printer) paint(text string, c colour) string {
	if !p.colours || c == plainText || text == "" {
		return text
	}
	return "\x1b[" + string(c) + "m" + text + "\x1b[0m"
}

// cell is one cell of a table.
type cell struct {
	text   string
	colour colour
	right  bool // aligned
}

func text(s string) cell { return cell{text: visible(s)} }

func number(n int) cell { return cell{text: thousands(n), right: true} }

// visible replaces what a terminal might obey: names and reasons come from
// elsewhere.
func visible(s string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, s)
}

// table writes rows in columns, with two blanks between them.
func (p *printer) table(rows ...[]cell) {
	var widths []int
	for _, row := range rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	for _, row := range rows {
		line, blanks := "", 0
		for i, c := range row {
			fill := widths[i] - utf8.RuneCountInString(c.text)
			if c.right {
				blanks += fill
				fill = 0
			}
			if c.text != "" { // none at the end of a line
				line += strings.Repeat(" ", blanks) + p.paint(c.text, c.colour)
				blanks = 0
			}
			blanks += fill + 2
		}
		p.printf("%s\n", line)
	}
}

// header is the first row of a table. Names that begin with > are over numbers.
func header(names ...string) []cell {
	row := make([]cell, len(names))
	for i, name := range names {
		name, right := strings.CutPrefix(name, ">")
		row[i] = cell{text: name, colour: bold, right: right}
	}
	return row
}

// field is a row of a list of names and values, nil without a value.
func field(name, value string) []cell {
	return []cell{{text: name, colour: faint}, text(value)}
}

// age words how long ago something was, in at most two units.
func age(d time.Duration) string {
	d = max(0, d)
	const day = 24 * time.Hour
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < day:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
	return fmt.Sprintf("%dd%dh", int(d/day), int(d%day/time.Hour))
}

// ago is age with a word behind it.
func ago(now, then time.Time) string { return age(now.Sub(then)) + " ago" }

// in words when something will be, "" for never.
func in(now, then time.Time) string {
	if then.IsZero() {
		return ""
	}
	d := then.Sub(now)
	if d > time.Minute {
		d = d.Round(time.Minute) // 2h00m, not 1h59m, a moment after somebody said 2h
	}
	return "in " + age(d)
}

// size words a number of bytes.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return strconv.FormatInt(n, 10)
	}
	v, suffix := float64(n), ""
	for _, s := range []string{"K", "M", "G", "T", "P"} {
		if v < unit {
			break
		}
		v /= unit
		suffix = s
	}
	if v < 10 {
		return fmt.Sprintf("%.1f%s", v, suffix)
	}
	return fmt.Sprintf("%.0f%s", v, suffix)
}

// thousands writes a number with commas.
func thousands(n int) string {
	s := strconv.Itoa(n)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// rateOf words logins a second.
func rateOf(v float64) string { return strconv.FormatFloat(v, 'f', 1, 64) + "/s" }

// count words a number of things.
func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return thousands(n) + " " + what + "s"
}

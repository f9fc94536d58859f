package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"unicode"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// maxFile bounds the configuration file.
const maxFile = 1 << 20

// Parsed is a configuration file that is right as far as can be told without
// opening what it names.
type Parsed struct {
	File

	// Warnings are settings that are allowed and dangerous. They are worth a
	// line at every start.
	Warnings Errors

	name string // of the file, as the operator calls it
	src  Sources
	w    *walker
}

// Load reads and parses a configuration file.
func Load(name string, src Sources) (*Parsed, error) {
	text, err := src.ReadFile(name)
	if err != nil {
		return nil, Errors{{File: name, Msg: "cannot read the configuration", Err: plainCause(err, name)}}
	}
	return Parse(name, text, src)
}

// Parse parses the text of a configuration file. Its error is of type Errors
// and holds every mistake.
func Parse(name string, text []byte, src Sources) (*Parsed, error) {
	w := &walker{
		file: name, dir: filepath.Dir(name), lines: splitLines(text), src: src,
		root: fileSchema(), broken: make(map[Pos]bool),
	}
	p := &Parsed{name: name, src: src, w: w}
	if root := w.document(text); root != nil {
		w.walk(w.root, nil, root, reflect.ValueOf(&p.File).Elem(), "", Pos{Line: 1, Column: 1, Width: 1})
		p.check()
	}
	if len(w.errs) > 0 {
		return nil, w.errs.sorted()
	}
	p.Warnings = p.warnings().sorted()
	return p, nil
}

// document returns the one YAML document of the file, or nil after it has
// noted why there is none.
func (w *walker) document(text []byte) *yaml.Node {
	if len(text) > maxFile {
		w.fail("", Pos{1, 1, 1}, "", "the file is larger than %d bytes", maxFile)
		return nil
	}
	if p, r := firstBadRune(w.lines); p.Line > 0 {
		w.fail("", p, "the file must be UTF-8 text", "%s", r)
		return nil
	}
	var doc yaml.Node
	err := yaml.Load(text, &doc)
	if err == nil && doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		return doc.Content[0]
	}
	var load *yaml.LoadError
	switch {
	case errors.As(err, &load) && load.Mark.Line > 0:
		w.syntax(load)
	case doc.Kind == yaml.DocumentNode:
		w.fail("", Pos{1, 1, 1}, "keep the first one", "the file holds more than one YAML document")
	default:
		w.fail("", Pos{1, 1, 1}, "at least listen, backends and route are needed", "the file is empty")
	}
	return nil
}

// syntax words a YAML error.
func (w *walker) syntax(e *yaml.LoadError) {
	hint, p := "", Pos{Line: e.Mark.Line, Column: max(e.Mark.Column, 1), Width: 1}
	context := e.ContextMark.Line
	if p.Line > len(w.lines) || strings.TrimSpace(w.lines[p.Line-1]) == "" {
		// What is missing is noticed behind the end only. Show where it was
		// looked for.
		last := min(p.Line, len(w.lines))
		for last > 1 && strings.TrimSpace(w.lines[last-1]) == "" {
			last--
		}
		p = Pos{Line: last, Column: utf8.RuneCountInString(w.lines[last-1]) + 1, Width: 1}
	}
	switch {
	case strings.HasPrefix(strings.TrimLeft(w.lines[p.Line-1], " "), "\t"):
		hint = "YAML is indented with spaces, not tabs"
	case context > 0 && context < p.Line:
		hint = fmt.Sprintf("%s that begins in line %d", e.ContextMsg, context)
	}
	w.fail("", p, hint, "not valid YAML: %s", strings.TrimPrefix(e.Message, "yaml: "))
}

// firstBadRune finds what is no text: invalid UTF-8 and control characters.
func firstBadRune(lines []string) (Pos, string) {
	for i, line := range lines {
		column := 0
		for j, r := range line {
			column++
			p := Pos{Line: i + 1, Column: column, Width: 1}
			if r == utf8.RuneError {
				if _, size := utf8.DecodeRuneInString(line[j:]); size == 1 {
					return p, fmt.Sprintf("byte 0x%02x is not UTF-8", line[j])
				}
			}
			if unicode.IsControl(r) && r != '\t' {
				return p, fmt.Sprintf("control character U+%04X", r)
			}
		}
	}
	return Pos{}, ""
}

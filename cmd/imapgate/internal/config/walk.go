package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// maxNodes bounds the work on one file: aliases can make a small file a large
// tree.
const maxNodes = 200_000

// walker fills Go values from YAML nodes as a schema says, and collects what is
// wrong.
type walker struct {
	file  string
	dir   string // what relative file names begin at
	lines []string
	src   Sources
	root  *schema

	nodes  int
	errs   Errors
	broken map[Pos]bool // values that could not be read; no second error about them
}

// fail notes a mistake in the file itself. path is the key it is under.
func (w *walker) fail(path string, p Pos, hint, format string, args ...any) {
	if len(w.errs) >= maxErrors {
		return
	}
	e := &Error{File: w.file, Pos: p, Msg: fmt.Sprintf(format, args...), Hint: hint, path: path}
	if p.Line > 0 && p.Line <= len(w.lines) {
		e.excerpt = w.lines[p.Line-1]
	}
	w.errs = append(w.errs, e)
}

// posOf returns where a node stands. Plain scalars are as wide as their text.
func posOf(n *yaml.Node) Pos {
	p := Pos{Line: n.Line, Column: n.Column, Width: 1}
	switch {
	case n.Kind == yaml.AliasNode:
		p.Width = 1 + utf8.RuneCountInString(n.Value)
	case n.Kind == yaml.ScalarNode && n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		p.Width = 2 + utf8.RuneCountInString(n.Value)
	case n.Kind == yaml.ScalarNode && n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0:
		p.Width = max(1, utf8.RuneCountInString(n.Value))
	}
	return p
}

func kindOf(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if isNull(n) {
			return "empty"
		}
		return "a single value"
	case yaml.DocumentNode, yaml.AliasNode, yaml.StreamNode:
	}
	return "something else"
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }

// walk reads n into v. n is nil for what the file does not give. path is how
// messages call it, at is where its key stands.
func (w *walker) walk(s *schema, k *schemaKey, n *yaml.Node, v reflect.Value, path string, at Pos) {
	w.nodes++
	if w.nodes > maxNodes {
		if w.nodes == maxNodes+1 {
			w.fail(path, at, "", "the file is too large: more than %d values", maxNodes)
		}
		return
	}
	if n != nil && n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if n != nil && n.Style&yaml.TaggedStyle != 0 {
		w.fail(path, posOf(n), "remove it", "%s: tags such as %s are not used here", path, n.Tag)
		told := len(w.errs)
		defer func() { w.errs = w.errs[:told] }() // it is read as if there were none, which is a guess
	}
	if n != nil && isNull(n) && s.kind != kindScalar {
		n = nil
	}
	if v.Kind() == reflect.Pointer {
		if n == nil {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
	}
	switch s.kind {
	case kindScalar:
		w.scalar(s, k, n, v, path)
	case kindObject:
		w.object(s, n, v, path, at)
	case kindList:
		w.list(s, k, n, v, path)
	case kindDict:
		w.dict(s, k, n, v, path)
	}
}

// want checks the shape of a node.
func (w *walker) want(s *schema, n *yaml.Node, path string, ok bool) bool {
	if !ok {
		w.fail(path, posOf(n), "expected "+s.kind.String(), "%s is %s", label(path), kindOf(n))
	}
	return ok
}

func label(path string) string {
	if path == "" {
		return "the file"
	}
	return path
}

func (w *walker) object(s *schema, n *yaml.Node, v reflect.Value, path string, at Pos) {
	if s.pos >= 0 {
		v.Field(s.pos).Set(reflect.ValueOf(at))
	}
	if n != nil && !w.want(s, n, path, n.Kind == yaml.MappingNode) {
		w.broken[at] = true
		return
	}
	given := make(map[string]*yaml.Node)
	misspelt := make(map[string]bool) // the keys in given that were probably meant
	keyAt := make(map[string]Pos)
	if n != nil {
		w.pairs(n, path, func(name string, key, value *yaml.Node) {
			unknown := s.key(name) == nil
			if unknown {
				if name = w.unknownKey(s, key, path); name == "" || given[name] != nil {
					return
				}
			}
			misspelt[name] = unknown
			given[name], keyAt[name] = value, posOf(key)
		})
	}
	for i := range s.keys {
		k := &s.keys[i]
		value := given[k.name]
		full := strings.TrimPrefix(path+"."+k.name, ".")
		told := len(w.errs)
		if k.need && (value == nil || k.is.kind != kindScalar && isNull(value)) {
			w.missing(k, value, full, at, keyAt[k.name])
		} else {
			w.walk(k.is, k, value, v.Field(k.field), full, keyAt[k.name])
		}
		if misspelt[k.name] {
			w.errs = w.errs[:told] // what was wrong was told, and the rest is a guess
		}
	}
}

// missing reports a key that must be there, or holds nothing.
func (w *walker) missing(k *schemaKey, value *yaml.Node, path string, object, key Pos) {
	hint := k.is.kind.String()
	if k.is.kind == kindScalar {
		hint = k.is.scalar.expect
	}
	if value != nil {
		w.fail(path, key, "expected "+hint, "%s is empty", path)
		return
	}
	w.fail(path, object, "add it: "+hint, "%s is missing", path)
}

// unknownKey reports a key, and returns the one that was probably meant or "".
func (w *walker) unknownKey(s *schema, key *yaml.Node, path string) string {
	var hint string
	near := nearest(key.Value, s.keyNames())
	switch {
	case near != "":
		hint = fmt.Sprintf("did you mean %q?", near)
	case key.Value == "<<":
		hint = "merge keys are not used here; write the keys out"
	default:
		if elsewhere := w.root.holders(key.Value, ""); len(elsewhere) > 0 {
			hint = fmt.Sprintf("%q is a key of %s", key.Value, oneOf(elsewhere[:min(3, len(elsewhere))]))
		} else {
			hint = didYouMean(key.Value, s.keyNames())
		}
	}
	in := ""
	if path != "" {
		in = " in " + path
	}
	w.fail(path, posOf(key), hint, "unknown key %q%s", key.Value, in)
	return near
}

// pairs calls f for each key of a mapping, once: a key that comes twice is an
// error.
func (w *walker) pairs(n *yaml.Node, path string, f func(name string, key, value *yaml.Node)) {
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		if key.Kind != yaml.ScalarNode {
			w.fail(path, posOf(n.Content[i]), "expected a word", "a key of %s is %s", label(path), kindOf(key))
			continue
		}
		if first, ok := seen[key.Value]; ok {
			w.fail(path, posOf(n.Content[i]), fmt.Sprintf("the first is in line %d", first), "key %q comes twice in %s", key.Value, label(path))
			continue
		}
		seen[key.Value] = n.Content[i].Line
		f(key.Value, n.Content[i], value)
	}
}

func (w *walker) list(s *schema, k *schemaKey, n *yaml.Node, v reflect.Value, path string) {
	switch {
	case n == nil && k.def == "":
		return
	case n == nil:
		for word := range strings.FieldsSeq(k.def) {
			w.append(v, func(item reflect.Value) { w.setDefault(s.item, word, item) })
		}
		return
	case !w.want(s, n, path, n.Kind == yaml.SequenceNode):
		return
	}
	if len(n.Content) == 0 && k.need {
		w.fail(path, posOf(n), "", "%s is an empty list", path)
	}
	for i, c := range n.Content {
		w.append(v, func(item reflect.Value) {
			w.walk(s.item, nil, c, item, fmt.Sprintf("%s[%d]", path, i), posOf(c))
		})
		if w.nodes > maxNodes {
			return
		}
	}
}

func (w *walker) dict(s *schema, k *schemaKey, n *yaml.Node, v reflect.Value, path string) {
	if n == nil || !w.want(s, n, path, n.Kind == yaml.MappingNode) {
		return
	}
	if len(n.Content) == 0 && k.need {
		w.fail(path, posOf(n), "", "%s is empty", path)
	}
	w.pairs(n, path, func(name string, key, value *yaml.Node) {
		if _, err := s.names.parse(name); err != nil {
			w.invalid(posOf(key), s.names, path, "key", name, err)
		}
		w.append(v, func(entry reflect.Value) {
			entry.Field(0).Set(reflect.ValueOf(Value[string]{V: name, Pos: posOf(key)}))
			w.walk(s.item, nil, value, entry.Field(1), path+"."+name, posOf(key))
		})
	})
}

// append adds an element to the slice v and lets f fill it.
func (w *walker) append(v reflect.Value, f func(item reflect.Value)) {
	item := reflect.New(v.Type().Elem()).Elem()
	f(item)
	v.Set(reflect.Append(v, item))
}

func (w *walker) scalar(s *schema, k *schemaKey, n *yaml.Node, v reflect.Value, path string) {
	if k != nil && k.def != "" {
		w.setDefault(s, k.def, v) // also for one that cannot be read: others are compared with it
	}
	if n == nil {
		return
	}
	p := posOf(n)
	v.FieldByName("Pos").Set(reflect.ValueOf(p))
	if n.Kind != yaml.ScalarNode || isNull(n) {
		w.broken[p] = true
		w.fail(path, p, "expected "+s.scalar.expect, "%s is %s", path, kindOf(n))
		return
	}
	text, err := w.src.expand(n.Value, w.dir)
	if err != nil {
		w.broken[p] = true
		if expr, ok := errors.AsType[*expandError](err); ok {
			w.fail(path, p, expr.hint, "%s: %s", path, expr.msg)
		} else {
			w.fail(path, p, "", "%s: %v", path, err)
		}
		return
	}
	value, err := s.scalar.parse(text)
	if err != nil {
		// The text of the file, not what it expands to: that may be secret.
		w.broken[p] = true
		w.invalid(p, s.scalar, path, "", n.Value, err)
		return
	}
	v.FieldByName("V").Set(reflect.ValueOf(value))
}

func (w *walker) invalid(p Pos, s *scalar, path, what, written string, err error) {
	hint := "expected " + s.expect
	if better, ok := errors.AsType[hintError](err); ok {
		hint = better.Error()
	}
	if what != "" {
		what += " "
	}
	w.fail(path, p, hint, "%s: %s%q is not valid", path, what, cut(written, 60))
}

// failedUnder says whether a mistake was found below a top-level key, so that
// what seems to be missing there may be no second mistake.
func (w *walker) failedUnder(key string) bool {
	return slices.ContainsFunc(w.errs, func(e *Error) bool {
		return e.path == key || strings.HasPrefix(e.path, key+".")
	})
}

// cut shortens a text for a message.
func cut(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// setDefault fills in a default of the description.
func (w *walker) setDefault(s *schema, text string, v reflect.Value) {
	value, err := s.scalar.parse(text)
	if err != nil {
		panic(fmt.Sprintf("config: default %q: %v", text, err))
	}
	v.FieldByName("V").Set(reflect.ValueOf(value))
}

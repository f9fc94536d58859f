package config

import (
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// kind is the shape of a node.
type kind int

const (
	kindScalar kind = iota
	kindObject      // a mapping with known keys
	kindList        // a sequence
	kindDict        // a mapping with keys of the operator's own
)

func (k kind) String() string {
	switch k {
	case kindScalar:
		return "a single value"
	case kindObject, kindDict:
		return "a mapping like {key: value}"
	case kindList:
		return "a list like [a, b]"
	}
	return "nothing"
}

// schema describes one node of the file.
type schema struct {
	kind   kind
	keys   []schemaKey // object
	pos    int         // object: index of the field Pos, or -1
	names  *scalar     // dict: what its keys are
	item   *schema     // list and dict: what they hold
	scalar *scalar
}

// schemaKey is one key of an object.
type schemaKey struct {
	name, help, def string
	need            bool
	field           int // index in the Go struct
	is              *schema
}

func (s *schema) keyNames() []string {
	names := make([]string, len(s.keys))
	for i, k := range s.keys {
		names[i] = k.name
	}
	return names
}

func (s *schema) key(name string) *schemaKey {
	for i := range s.keys {
		if s.keys[i].name == name {
			return &s.keys[i]
		}
	}
	return nil
}

// holders returns the paths of the objects that know a key of that name.
func (s *schema) holders(name, path string) []string {
	var found []string
	switch s.kind {
	case kindObject:
		if path != "" && s.key(name) != nil {
			found = append(found, path)
		}
		for _, k := range s.keys {
			found = append(found, k.is.holders(name, strings.TrimPrefix(path+"."+k.name, "."))...)
		}
	case kindList:
		found = s.item.holders(name, path+"[]")
	case kindDict:
		found = s.item.holders(name, path+".NAME")
	case kindScalar:
	}
	return found
}

// fileSchema returns the description of the file.
var fileSchema = sync.OnceValue(func() *schema { return describe(reflect.TypeFor[File](), "") })

// describe reads the field tags of a Go type. It panics when they contradict
// the type, which a test would show.
func describe(t reflect.Type, tag reflect.StructTag) *schema {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s := scalarOf(t, tag); s != nil {
		return &schema{kind: kindScalar, scalar: s}
	}
	switch t.Kind() { //nolint:exhaustive // descriptions are made of these
	case reflect.Slice:
		elem := t.Elem()
		if names := tag.Get("names"); names != "" {
			return &schema{kind: kindDict, names: scalarByName(names), item: describe(elem.Field(1).Type, tag)}
		}
		return &schema{kind: kindList, item: describe(elem, tag)}
	case reflect.Struct:
		s := &schema{kind: kindObject, pos: -1}
		for i := range t.NumField() {
			f := t.Field(i)
			name, ok := f.Tag.Lookup("key")
			if !ok {
				s.pos = i
				continue
			}
			s.keys = append(s.keys, schemaKey{
				name: name, help: f.Tag.Get("help"), def: f.Tag.Get("default"),
				need: f.Tag.Get("need") == "true", field: i, is: describe(f.Type, f.Tag),
			})
		}
		return s
	}
	panic("config: no description of " + t.String())
}

// scalarOf returns what a Value is, or nil when t is none.
func scalarOf(t reflect.Type, tag reflect.StructTag) *scalar {
	var s *scalar
	switch t {
	case reflect.TypeFor[Value[string]]():
		if words := tag.Get("enum"); words != "" {
			return enumScalar(strings.Fields(words))
		}
	case reflect.TypeFor[Value[int]]():
		low, errLow := strconv.Atoi(tag.Get("min"))
		high, errHigh := strconv.Atoi(tag.Get("max"))
		if errLow != nil || errHigh != nil {
			panic(fmt.Sprintf("config: number without bounds: %s", tag))
		}
		return intScalar(low, high)
	case reflect.TypeFor[Value[bool]]():
		s = scalarByName("bool")
	case reflect.TypeFor[Value[time.Duration]]():
		s = scalarByName("duration")
	case reflect.TypeFor[Value[netip.Addr]]():
		s = scalarByName("ip")
	case reflect.TypeFor[Value[netip.Prefix]]():
		s = scalarByName("network")
	default:
		return nil
	}
	if as := tag.Get("as"); as != "" {
		s = scalarByName(as)
	}
	if s == nil {
		panic(fmt.Sprintf("config: no scalar type: %s", tag))
	}
	return s
}

// Key is one key of the format, for the reference.
type Key struct {
	Path    string // "backends.NAME.address", "listen[].tls"
	Type    string
	Default string // "" when there is none
	Needed  bool
	Help    string
}

// Reference lists every key of the format in the order of the description.
func Reference() []Key {
	return fileSchema().reference("")
}

func (s *schema) reference(path string) []Key {
	var list []Key
	for _, k := range s.keys {
		p := strings.TrimPrefix(path+"."+k.name, ".")
		is, suffix := k.is, ""
		for is.kind == kindList || is.kind == kindDict {
			if is.kind == kindList {
				suffix += "[]"
			} else {
				suffix += ".NAME"
			}
			is = is.item
		}
		list = append(list, Key{Path: p, Type: k.is.typeName(), Default: k.def, Needed: k.need, Help: k.help})
		if is.kind == kindObject {
			list = append(list, is.reference(p+suffix)...)
		}
	}
	return list
}

func (s *schema) typeName() string {
	switch s.kind {
	case kindScalar:
		return s.scalar.name
	case kindObject:
		return "mapping"
	case kindList:
		return "list of " + s.item.typeName()
	case kindDict:
		return "mapping of " + s.item.typeName()
	}
	return ""
}

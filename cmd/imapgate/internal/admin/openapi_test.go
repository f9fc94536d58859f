package admin

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"
)

// description is openapi.yaml, as far as the test compares it.
type description struct {
	Paths      map[string]map[string]operation
	Components struct {
		Parameters map[string]parameter
		Schemas    map[string]schema
	}
}

type operation struct {
	Summary     string
	Parameters  []parameter
	RequestBody *struct{ Content map[string]media } `yaml:"requestBody"`
	Responses   map[string]struct {
		Ref     string `yaml:"$ref"`
		Content map[string]media
	}
}

type parameter struct {
	Ref  string `yaml:"$ref"`
	Name string
	In   string
}

type media struct{ Schema schema }

type schema struct {
	Ref                  string `yaml:"$ref"`
	Type                 string
	Format               string
	Description          string
	AdditionalProperties any `yaml:"additionalProperties"`
	Required             []string
	Properties           map[string]schema
	Items                *schema
}

func readDescription(t *testing.T) *description {
	t.Helper()
	d := new(description)
	if err := yaml.Load(openAPI, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// summary of an operation: what goes in and out, in one line.
func (d *description) summary(o operation) string {
	var params []string
	for _, p := range o.Parameters {
		if name, ok := strings.CutPrefix(p.Ref, "#/components/parameters/"); ok {
			p = d.Components.Parameters[name]
		}
		params = append(params, p.In+" "+p.Name)
	}
	slices.Sort(params)
	in, out := "", ""
	if o.RequestBody != nil {
		in = contents(o.RequestBody.Content)
	}
	for _, code := range slices.Sorted(maps.Keys(o.Responses)) {
		if r := o.Responses[code]; r.Ref == "" {
			out += " " + code + " " + contents(r.Content)
		}
	}
	return fmt.Sprintf("%s; in: %s; out:%s", strings.Join(params, ", "), in, out)
}

func contents(c map[string]media) string {
	var all []string
	for kind, m := range c {
		all = append(all, kind+" "+strings.TrimPrefix(m.Schema.Ref, "#/components/schemas/")+m.Schema.Type)
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

func TestTheDescriptionHasEveryOperationAndNoOther(t *testing.T) {
	d := readDescription(t)
	described := make(map[string]string)
	for path, operations := range d.Paths {
		for method, o := range operations {
			described[strings.ToUpper(method)+" "+path] = d.summary(o)
			if o.Summary == "" {
				t.Errorf("%s %s has no summary", method, path)
			}
		}
	}
	served := make(map[string]string)
	for _, e := range endpoints() {
		var params []string
		for part := range strings.SplitSeq(e.path, "/") {
			if name, ok := strings.CutPrefix(part, "{"); ok {
				params = append(params, "path "+strings.TrimSuffix(name, "}"))
			}
		}
		for _, q := range e.query {
			params = append(params, "query "+q)
		}
		slices.Sort(params)
		in := ""
		switch {
		case e.in != nil:
			in = "application/json " + e.in.Name()
		case e.method == "POST":
			in = "text/plain string"
		}
		served[e.method+" "+e.path] = fmt.Sprintf("%s; in: %s; out: 200 application/json %s", strings.Join(params, ", "), in, e.out.Name())
	}
	for path := range newFake(t).others() {
		out, params := " 200 text/plain string", ""
		switch path {
		case "/v1/trace":
			out, params = " 200 application/x-ndjson TraceLine", "query ip, query seconds, query user"
		case "/v1/events":
			out = " 200 text/event-stream Event"
		case "/v1/openapi.yaml":
			out = " 200 application/yaml string"
		case "/readyz":
			out += " 503 text/plain string"
		}
		served["GET "+path] = params + "; in: ; out:" + out
	}
	if diff := cmp.Diff(served, described); diff != "" {
		t.Errorf("served and described differ (-served +described):\n%s", diff)
	}
}

func TestTheDescriptionHasEveryFieldAndNoOther(t *testing.T) {
	d := readDescription(t)
	types := map[string]reflect.Type{}
	var collect func(reflect.Type)
	collect = func(typ reflect.Type) {
		switch typ.Kind() { //nolint:exhaustive // the others hold no types
		case reflect.Pointer, reflect.Slice, reflect.Map:
			collect(typ.Elem())
		case reflect.Struct:
			if typ == reflect.TypeFor[time.Time]() || types[typ.Name()] != nil {
				return
			}
			types[typ.Name()] = typ
			for _, f := range fields(typ) {
				collect(f.Type)
			}
		}
	}
	for _, e := range endpoints() {
		collect(e.out)
		if e.in != nil {
			collect(e.in)
		}
	}
	collect(reflect.TypeFor[Event]())
	collect(reflect.TypeFor[TraceLine]())
	collect(reflect.TypeFor[Failure]())

	if diff := cmp.Diff(slices.Sorted(maps.Keys(types)), slices.Sorted(maps.Keys(d.Components.Schemas))); diff != "" {
		t.Errorf("types and schemas differ (-types +schemas):\n%s", diff)
	}
	for name, typ := range types {
		have, want := make(map[string]string), make(map[string]string)
		s := d.Components.Schemas[name]
		for property, is := range s.Properties {
			have[property] = is.describe(slices.Contains(s.Required, property))
		}
		for _, f := range fields(typ) {
			tag, options, _ := strings.Cut(f.Tag.Get("json"), ",")
			want[tag] = describeType(f.Type, options == "")
		}
		if diff := cmp.Diff(want, have); diff != "" {
			t.Errorf("%s (-type +schema):\n%s", name, diff)
		}
		if s.AdditionalProperties != false || s.Description == "" {
			t.Errorf("%s: additionalProperties %v, description %q", name, s.AdditionalProperties, s.Description)
		}
	}
}

// fields returns the fields of a struct, those of embedded ones included.
func fields(typ reflect.Type) []reflect.StructField {
	var list []reflect.StructField
	for _, f := range reflect.VisibleFields(typ) {
		if !f.Anonymous {
			list = append(list, f)
		}
	}
	return list
}

func (s schema) describe(required bool) string {
	text := s.Type + s.Format + strings.TrimPrefix(s.Ref, "#/components/schemas/")
	if s.Items != nil {
		text += " of " + s.Items.describe(false)
	}
	if required {
		text += ", always"
	}
	return text
}

func describeType(typ reflect.Type, always bool) string {
	var text string
	switch typ.Kind() { //nolint:exhaustive // what JSON has
	case reflect.Pointer:
		text = describeType(typ.Elem(), false)
	case reflect.Slice:
		text = "array of " + describeType(typ.Elem(), false)
	case reflect.Map:
		text = "object"
	case reflect.Struct:
		text = typ.Name()
		if typ == reflect.TypeFor[time.Time]() {
			text = "stringdate-time"
		}
	case reflect.String:
		text = "string"
	case reflect.Bool:
		text = "boolean"
	case reflect.Float64:
		text = "number"
	default:
		text = "integer"
	}
	if always {
		text += ", always"
	}
	return text
}

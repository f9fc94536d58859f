package config

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"

	"imapgate/route"
	"imapgate/route/source"
)

// Routing is a table and the sources that keep it up to date.
type Routing struct {
	Table *route.Table
	Set   *source.Set
	Names route.Names
}

// LoadTable reads the table's sources into a new table. inForce is the routing
// that the new one is to replace, nil at the start: a table that lost too many
// of its rows is refused, unless force says that this is meant. The error is of
// type Errors, but for that of ctx.
//
// It is a table of its own because connections that began under the old
// configuration know the old backends only.
func (p *Parsed) LoadTable(ctx context.Context, inForce *Routing, force bool) (*Routing, error) {
	def := p.definition()
	if inForce != nil {
		def.Gently = ctx.Done()
	}
	sources, errs := p.sources(inForce != nil)
	if len(errs) > 0 {
		return nil, errs
	}
	table := route.New()
	if inForce != nil {
		table = inForce.Table.Successor() // compares with what it replaces, and knows who has sessions where
	}
	r := &Routing{Table: table, Set: source.NewSet(table), Names: def.Names}
	if err := r.Set.Load(ctx, def, sources, force); err != nil {
		return nil, p.tableErrors(ctx, err)
	}
	return r, nil
}

// definition is what the configuration itself says about routes.
func (p *Parsed) definition() route.Definition {
	def := route.Definition{Default: p.Route.Default.V, Names: p.names(), MaxShrink: p.Route.MaxShrink.V, Affinity: p.Route.Affinity.V}
	if def.Affinity == 0 {
		def.Affinity = -1 // none; 0 would be the table's default
	}
	for i := range p.Backends {
		e := &p.Backends[i]
		def.Backends = append(def.Backends, route.Backend{Name: e.Name.V, Address: e.V.Address.V, Weight: e.V.Weight.V})
	}
	for i := range p.Pools {
		e := &p.Pools[i]
		def.Pools = append(def.Pools, route.Pool{Name: e.Name.V, Backends: values(e.V.Backends), Shared: e.V.Shared.V})
	}
	return def
}

func (p *Parsed) sources(gently bool) ([]source.Source, Errors) {
	c := &compiler{Parsed: p}
	var list []source.Source
	for _, t := range p.Route.Tables {
		if path, ok := c.readable(t); ok {
			f := source.NewFile(path)
			f.Gently = gently
			f.Copy = p.copyOf(path)
			list = append(list, f)
		}
	}
	return list, c.errs.sorted()
}

// copyOf returns where a copy of the last good state of a table file is kept, "" for
// nowhere.
func (p *Parsed) copyOf(path string) string {
	if !p.StateDir.Given() {
		return ""
	}
	return filepath.Join(p.path(p.StateDir), "tables", fmt.Sprintf("%x", sha256.Sum256([]byte(path)))[:16]+".map")
}

// LastGoodTable makes a table of the copies that are kept of the table files, for a
// start at which the files themselves are no good. These are watched: the table
// follows once they are.
func (p *Parsed) LastGoodTable(ctx context.Context) (*Routing, error) {
	if !p.StateDir.Given() || len(p.Route.Tables) == 0 {
		return nil, fs.ErrNotExist
	}
	def := p.definition()
	var list []source.Source
	for _, t := range p.Route.Tables {
		f := source.NewFile(p.path(t))
		f.Copy, f.FromCopy = p.copyOf(p.path(t)), true
		list = append(list, f)
	}
	r := &Routing{Table: route.New(), Names: def.Names}
	r.Set = source.NewSet(r.Table)
	return r, r.Set.Load(ctx, def, list, true)
}

// LoadCandidate makes a table with the text of one that is not in force, in the
// place of the table file that replaces names: by its path, or by its last
// element. "" is the file that is called like the candidate, or the only one. The
// table knows nothing of what happens at run time.
func (p *Parsed) LoadCandidate(ctx context.Context, name string, text io.Reader, replaces string) (*route.Table, error) {
	replaced, err := p.replacedTable(name, replaces)
	if err != nil {
		return nil, err
	}
	rows, err := route.Parse(name, text)
	errs := []error{err}
	pace := route.NewPace(ctx.Done())
	for i, t := range p.Route.Tables {
		if i == replaced {
			continue
		}
		more, err := source.NewFile(p.path(t)).Read(ctx)
		rows.AppendAll(more, pace)
		errs = append(errs, err)
	}
	if err := route.JoinErrors(errs...); err != nil {
		return nil, err
	}
	table := route.New()
	def := p.definition()
	def.Gently = ctx.Done()
	return table, table.Load(def, rows, true)
}

// replacedTable returns the index of a table file.
func (p *Parsed) replacedTable(name, replaces string) (int, error) {
	is := func(t Value[string], called string) bool {
		return called == t.V || called == p.path(t) || filepath.Base(called) == called && called == filepath.Base(t.V)
	}
	for i, t := range p.Route.Tables {
		if replaces != "" && is(t, replaces) || replaces == "" && is(t, filepath.Base(name)) {
			return i, nil
		}
	}
	switch {
	case replaces != "":
		return 0, fmt.Errorf("the configuration has no table %s", replaces)
	case len(p.Route.Tables) > 1:
		return 0, fmt.Errorf("the configuration has %d tables: say which one %s would replace", len(p.Route.Tables), name)
	}
	return 0, nil // the only one; or there is none, and it would be the first
}

// tableErrors gives the mistakes in a table the form of those in the
// configuration.
func (p *Parsed) tableErrors(ctx context.Context, err error) error {
	var table *route.TableError
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case !errors.As(err, &table):
		at := p.Route.Pos
		if len(p.Route.Tables) > 0 {
			at = p.Route.Tables[0].Pos
		}
		return Errors{{File: p.name, Pos: at, Msg: "the table is refused", Err: err}}
	}
	var errs Errors
	for _, problem := range table.Problems {
		e := &Error{File: problem.File, Pos: Pos{Line: problem.Line, Column: problem.Column}, Msg: problem.Text, Hint: problem.Hint}
		if e.File == "" {
			e.File, e.Pos = p.name, p.Route.Pos
		}
		errs = append(errs, e)
	}
	if table.More > 0 {
		errs = append(errs, &Error{File: p.name, Pos: p.Route.Pos, Msg: "there are more mistakes in the tables than are shown here"})
	}
	return errs
}

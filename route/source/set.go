package source

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"imapgate/route"
)

// Source is one place that rows come from. Its methods are safe for concurrent
// use.
type Source interface {
	// Name says which source this is, in messages.
	Name() string

	// Read returns all rows, as of one moment. An error of type
	// [*route.TableError] may come with the rows that are good; with any other
	// error there are none.
	Read(ctx context.Context) (*route.Rows, error)

	// Watch calls changed whenever the rows may differ from those that Read
	// returned last, and first if they already do. changed does not block. Watch
	// returns nil soon after ctx has ended, and an error when it cannot watch.
	Watch(ctx context.Context, changed func()) error
}

// Result is what came of one attempt to load a table.
type Result struct {
	At    time.Time     // when it was over
	Took  time.Duration // reading included
	Err   error         // nil: the new table is in force
	Stats route.Stats   // the table in force since, whether new or not
}

// Set is the sources of one table. Use [NewSet] to make one. Its methods are
// safe for concurrent use.
type Set struct {
	table *route.Table

	// loading holds a token while nobody reads and loads: the last to come is
	// then the one in force.
	loading chan struct{}

	mu       sync.Mutex
	loaded   bool             // the fields below were loaded once
	def      route.Definition // of the table in force
	sources  []Source         // of the table in force
	replaced chan struct{}    // closed when sources are replaced
	last     Result
}

// NewSet returns a set without sources that loads table, and is the only one to
// do so.
func NewSet(table *route.Table) *Set {
	s := &Set{table: table, loading: make(chan struct{}, 1), replaced: make(chan struct{})}
	s.loading <- struct{}{}
	return s
}

// Load reads all sources and replaces the table with def and their rows. After
// an error the table in force stays, with its definition and its sources; it
// tells of everything that is wrong with def and all sources. force is that of
// [route.Table.Load].
func (s *Set) Load(ctx context.Context, def route.Definition, sources []Source, force bool) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	err := s.load(ctx, def, sources, force)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.def, s.sources, s.loaded = def, slices.Clone(sources), true
	close(s.replaced)
	s.replaced = make(chan struct{})
	return nil
}

// Reload reads the sources of the table in force again and loads them with the
// same definition. After an error the table in force stays.
func (s *Set) Reload(ctx context.Context, force bool) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	s.mu.Lock()
	def, sources, loaded := s.def, s.sources, s.loaded
	s.mu.Unlock()
	if !loaded {
		return route.ErrNotLoaded
	}
	def.Gently = ctx.Done() // it is in force
	return s.load(ctx, def, sources, force)
}

// Check returns the error that Load would return, and changes nothing.
func (s *Set) Check(ctx context.Context, def route.Definition, sources []Source, force bool) error {
	rows, err := readAll(ctx, sources, route.NewPace(def.Gently))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return route.JoinErrors(err, s.table.Check(def, rows, force))
}

// Last returns what came of the last attempt to load, the zero Result before
// the first.
func (s *Set) Last() Result {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.last
}

// Watch reloads the table whenever a source changes, and follows when Load
// replaces the sources. It calls report after each of these reloads, from one
// goroutine. Watch returns nil when ctx has ended and everything it started has.
func (s *Set) Watch(ctx context.Context, report func(Result)) error {
	for ctx.Err() == nil {
		s.mu.Lock()
		sources, replaced := s.sources, s.replaced
		s.mu.Unlock()
		if err := s.watch(ctx, sources, replaced, report); err != nil {
			return err
		}
	}
	return nil
}

// watch watches sources until ctx ends or replaced is closed.
func (s *Set) watch(ctx context.Context, sources []Source, replaced <-chan struct{}, report func(Result)) error {
	watching, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel()

	changed := make(chan struct{}, 1)
	broken := make(chan error, len(sources))
	for _, src := range sources {
		wg.Go(func() {
			err := src.Watch(watching, func() {
				select {
				case changed <- struct{}{}:
				default: // a reload is due already, and will see this too
				}
			})
			if err != nil && watching.Err() == nil {
				broken <- fmt.Errorf("watch %s: %w", src.Name(), err)
			}
		})
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-replaced:
			return nil
		case err := <-broken:
			return err
		case <-changed:
			// Its error is in the result.
			if _ = s.Reload(ctx, false); ctx.Err() == nil {
				report(s.Last())
			}
		}
	}
}

func (s *Set) begin(ctx context.Context) error {
	select {
	case <-s.loading:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Set) end() { s.loading <- struct{}{} }

// load reads sources, loads the table and keeps the result.
func (s *Set) load(ctx context.Context, def route.Definition, sources []Source, force bool) error {
	start := time.Now()
	rows, err := readAll(ctx, sources, route.NewPace(def.Gently))
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err != nil:
		// Tell of the mistakes in the other rows too, but not of a table that
		// shrinks: it is not complete.
		err = route.JoinErrors(err, s.table.Check(def, rows, true))
	default:
		err = s.table.Load(def, rows, force)
	}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = Result{At: now, Took: now.Sub(start), Err: err, Stats: s.table.Stats()}
	return err
}

// readAll reads every source, whatever is wrong with the others.
func readAll(ctx context.Context, sources []Source, pace *route.Pace) (*route.Rows, error) {
	var all *route.Rows
	var errs []error
	for _, src := range sources {
		rows, err := src.Read(ctx)
		if err != nil {
			errs = append(errs, err)
		}
		if all == nil {
			all = rows // one source is the common case, and may be large
		} else {
			all.AppendAll(rows, pace)
		}
	}
	return all, route.JoinErrors(errs...)
}

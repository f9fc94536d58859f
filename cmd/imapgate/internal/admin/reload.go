package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"imapgate/route"
)

// maxReloads is how many reloads are remembered.
const maxReloads = 20

// History remembers the last reloads. The zero value is ready to use. Its methods
// are safe for concurrent use.
type History struct {
	mu     sync.Mutex
	list   []Reload        // newest last
	failed map[string]bool // by what was to be read: the last one did not succeed
}

// Add notes a reload.
func (h *History) Add(r Reload) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list = append(h.list, r)
	if extra := len(h.list) - maxReloads; extra > 0 {
		h.list = slices.Delete(h.list, 0, extra)
	}
	switch {
	case !r.OK && h.failed == nil:
		h.failed = map[string]bool{r.What: true}
	case !r.OK:
		h.failed[r.What] = true
	case r.What == ReloadedConfiguration:
		clear(h.failed)
	default:
		delete(h.failed, r.What)
	}
}

// List returns the reloads, newest first.
func (h *History) List() []Reload {
	h.mu.Lock()
	defer h.mu.Unlock()
	list := append([]Reload{}, h.list...)
	slices.Reverse(list)
	return list
}

// OK says whether all that is in force is as the files say: the last reload of
// each kind succeeded. One of the configuration reads everything.
func (h *History) OK() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.failed) == 0
}

// NewReload returns the record of a reload that is over.
func NewReload(what, by string, began time.Time, rows int, err error) Reload {
	now := time.Now().UTC()
	r := Reload{At: now, What: what, By: by, OK: err == nil, TookSeconds: now.Sub(began).Seconds(), Rows: rows}
	if err != nil {
		r.Errors = messages(err)
	}
	return r
}

// messages returns what an error says, a line for each mistake.
func messages(err error) []string {
	if table, ok := errors.AsType[*route.TableError](err); ok {
		lines := make([]string, 0, len(table.Problems))
		for _, p := range table.Problems {
			lines = append(lines, p.String())
		}
		return lines
	}
	several, ok := errors.AsType[Mistakes](err)
	if !ok || len(several.Unwrap()) == 0 {
		return []string{err.Error()}
	}
	var lines []string
	for _, e := range several.Unwrap() {
		lines = append(lines, e.Error())
	}
	return lines
}

func (s *Server) reloads(*call) (*Reloads, error) {
	return &Reloads{Now: time.Now().UTC(), Reloads: s.History.List()}, nil
}

// reload reads everything again.
func (s *Server) reload(c *call, in *ReloadRequest) (*Reload, error) {
	s.changed(c, "reload", "", "", zap.Bool("force", in.Force))
	r, err := s.Site.Reload(c.Context(), ReloadOptions{Force: in.Force, By: c.by})
	switch {
	case errors.Is(err, ErrUpgrading):
		return nil, failf(http.StatusServiceUnavailable, "not reloaded: %s", err.Error())
	case err != nil:
		return nil, refused(c.Context(), "the configuration is refused, the old one stays in force", err)
	}
	return &r, nil
}

// refused is the error of files that cannot be put in force.
func refused(ctx context.Context, text string, err error) error {
	if ctx.Err() != nil {
		return failf(http.StatusServiceUnavailable, "%s", err.Error())
	}
	return &apiError{code: http.StatusUnprocessableEntity, text: text, details: messages(err)}
}

const (
	maxTable      = 1 << 30 // bytes of a table that is compared
	defaultLimit  = 20      // rows that are listed
	maxListedRows = 10_000
)

// diff says what a table would change. It makes a table of its own, and so there
// is one at a time.
func (s *Server) diff(c *call) (*route.Diff, error) {
	limit, err := c.number("limit", defaultLimit)
	if err != nil {
		return nil, err
	}
	select {
	case s.diffing <- struct{}{}:
		defer func() { <-s.diffing }()
	case <-c.Context().Done():
		return nil, failf(http.StatusServiceUnavailable, "another table is being compared")
	}
	query := c.URL.Query()
	name := query.Get("name")
	if name == "" {
		name = "table"
	}
	d, err := s.Site.Compare(c.Context(), Candidate{
		Name: name, Rows: http.MaxBytesReader(nil, c.Body, maxTable), Replaces: query.Get("replaces"), Limit: min(limit, maxListedRows),
	})
	if err != nil {
		return nil, refused(c.Context(), "the table is refused", err)
	}
	return &d, nil
}

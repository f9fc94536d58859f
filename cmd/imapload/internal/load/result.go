//go:build linux

package load

import (
	"slices"
	"sync"
	"time"
)

// Result is what a measurement has found.
type Result struct {
	Figures    map[string]float64 `json:"figures"`
	Errors     int                `json:"errors"`
	FirstError string             `json:"first_error,omitempty"`
}

func newResult() *Result { return &Result{Figures: make(map[string]float64)} }

// latency adds percentiles, in milliseconds.
func (r *Result) latency(prefix string, all []time.Duration) {
	if len(all) == 0 {
		return
	}
	slices.Sort(all)
	at := func(p float64) float64 {
		return all[int(p*float64(len(all)-1))].Seconds() * 1000
	}
	r.Figures[prefix+"p50_ms"] = at(0.50)
	r.Figures[prefix+"p90_ms"] = at(0.90)
	r.Figures[prefix+"p99_ms"] = at(0.99)
	r.Figures[prefix+"max_ms"] = at(1)
}

// failures counts errors and keeps the first.
type failures struct {
	mu    sync.Mutex
	count int
	first string
}

func (f *failures) add(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.count == 0 {
		f.first = err.Error()
	}
	f.count++
}

func (f *failures) fill(r *Result) {
	f.mu.Lock()
	defer f.mu.Unlock()
	r.Errors += f.count
	if r.FirstError == "" {
		r.FirstError = f.first
	}
}

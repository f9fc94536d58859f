//go:build linux

package bench

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"time"

	"imapgate/cmd/imapload/internal/load"
)

// sample is one measurement of one target.
type sample struct {
	Time   time.Time `json:"time"`
	Target string    `json:"target"`
	Test   string    `json:"test"`
	Round  int       `json:"round"`
	Tries  int       `json:"tries"`            // how often it was measured until others were quiet
	Failed string    `json:"failed,omitempty"` // why there are no figures
	load.Result
}

// otherUse is what others used of the CPUs meanwhile.
func (s *sample) otherUse() float64 { return s.Figures["other_use"] }

// samples are those of a sitting.
type samples []sample

// readSamples reads lines of JSON.
func readSamples(in io.Reader) (samples, error) {
	var all samples
	scan := bufio.NewScanner(in)
	scan.Buffer(nil, 1<<20)
	for line := 1; scan.Scan(); line++ {
		var s sample
		if err := json.Unmarshal(scan.Bytes(), &s); err != nil {
			return nil, fmt.Errorf("line %d: %w", line, err)
		}
		all = append(all, s)
	}
	return all, scan.Err()
}

// values returns a figure of all samples of a target.
func (all samples) values(target, test, figure string) []float64 {
	var values []float64
	for i := range all {
		s := &all[i]
		if s.Target != target || s.Test != test || s.Failed != "" {
			continue
		}
		if v, ok := s.Figures[figure]; ok {
			values = append(values, v)
		}
	}
	return values
}

// median returns the median of a figure, and whether there is one.
func (all samples) median(target, test, figure string) (float64, bool) {
	values := all.values(target, test, figure)
	if len(values) == 0 {
		return 0, false
	}
	slices.Sort(values)
	middle := len(values) / 2
	if len(values)%2 == 0 {
		return (values[middle-1] + values[middle]) / 2, true
	}
	return values[middle], true
}

// spread returns how far the values of a figure are apart, as a share of their
// median.
func (all samples) spread(target, test, figure string) (float64, bool) {
	values := all.values(target, test, figure)
	median, _ := all.median(target, test, figure)
	if len(values) < 2 || median == 0 {
		return 0, false
	}
	return (slices.Max(values) - slices.Min(values)) / median, true
}

// targets returns the names of those that were measured, in the order of the table.
func (all samples) targets() []string {
	var names []string
	for _, name := range TargetNames() {
		if slices.ContainsFunc(all, func(s sample) bool { return s.Target == name }) {
			names = append(names, name)
		}
	}
	return names
}

package main

import (
	"math"
	"runtime/metrics"
	"slices"

	"imapgate/proxy"
)

const (
	memoryLack  = 0.85 // of the memory limit, in use by what lives
	cpuLack     = 0.1  // seconds that one goroutine in ten waits for a processor
	cpuPatience = 4    // looks in a row
)

// What strain reads of the runtime.
const (
	metricLimit    = "/gc/gomemlimit:bytes"
	metricLive     = "/gc/heap/live:bytes"
	metricTotal    = "/memory/classes/total:bytes"
	metricReleased = "/memory/classes/heap/released:bytes"
	metricObjects  = "/memory/classes/heap/objects:bytes"
	metricUnused   = "/memory/classes/heap/unused:bytes"
	metricFree     = "/memory/classes/heap/free:bytes"
	metricWaits    = "/sched/latencies:seconds"
)

// strain looks at what the process lacks, for [proxy.Options]. The zero value is
// ready to use, by one goroutine.
type strain struct {
	samples []metrics.Sample
	waits   []uint64 // at the last look
	slow    int      // looks in a row
}

// look returns what is lacking now.
func (s *strain) look() []string {
	if s.samples == nil {
		for _, name := range []string{metricLimit, metricLive, metricTotal, metricReleased, metricObjects, metricUnused, metricFree, metricWaits} {
			s.samples = append(s.samples, metrics.Sample{Name: name})
		}
	}
	metrics.Read(s.samples)
	of := make(map[string]float64)
	var waits *metrics.Float64Histogram
	for _, m := range s.samples {
		switch m.Value.Kind() {
		case metrics.KindUint64:
			of[m.Name] = float64(m.Value.Uint64())
		case metrics.KindFloat64Histogram:
			waits = m.Value.Float64Histogram()
		case metrics.KindBad, metrics.KindFloat64:
		}
	}
	var lacks []string
	if limit := of[metricLimit]; limit > 0 && limit < math.MaxInt64 && inUse(of) > memoryLack*limit {
		lacks = append(lacks, proxy.LackMemory)
	}
	if waits != nil && s.tenth(waits) > cpuLack {
		s.slow++
	} else {
		s.slow = 0
	}
	if s.slow >= cpuPatience {
		lacks = append(lacks, proxy.LackCPU)
	}
	return lacks
}

// inUse is the memory that a garbage collection would not give back. What is
// garbage does not count: the collector lets it grow up to the limit.
func inUse(of map[string]float64) float64 {
	overhead := of[metricTotal] - of[metricReleased] - of[metricObjects] - of[metricUnused] - of[metricFree]
	return of[metricLive] + overhead
}

// tenth returns how long the slowest tenth of the goroutines that became ready since
// the last look waited at the least.
func (s *strain) tenth(h *metrics.Float64Histogram) float64 {
	total := uint64(0)
	since := make([]uint64, len(h.Counts))
	for i, n := range h.Counts {
		if i < len(s.waits) {
			since[i] = n - s.waits[i]
		}
		total += since[i]
	}
	s.waits = append(s.waits[:0], h.Counts...)
	var slowest uint64
	for i, n := range slices.Backward(since) {
		if slowest += n; slowest > 0 && slowest*10 >= total {
			return max(0, h.Buckets[i])
		}
	}
	return 0
}

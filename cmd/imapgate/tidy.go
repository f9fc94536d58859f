package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// Memory that was used once stays with the process until the garbage collector runs,
// and the memory of sessions is what decides how many a host holds. So garbage may be
// half of what is in use, or 16 MiB where that is more, for collecting a small heap
// all the time would cost logins. And when a rush is over, what it left is collected
// and given back at once.
//
// The environment wins: with GOGC set nothing of this happens, and the runtime keeps
// to GOMEMLIMIT in any case.
const (
	tidyEvery    = time.Second
	tidyPercent  = 50       // of garbage, in a large heap
	smallPercent = 400      // the most, in a small one
	smallGarbage = 16 << 20 // what is little, in bytes
	calmSeconds  = 3        // without many allocations, before garbage is given back
	tidyShare    = 100      // the part of the time that giving back may take: a hundredth
)

// tidier decides when to tidy up. The zero value has not looked yet.
type tidier struct {
	percent   int    // as it was set last
	allocated uint64 // in all, when it looked last
	tidied    uint64 // in all, when it tidied up last
	calm      int    // seconds
	rest      time.Duration
}

// look is called every second with what has been allocated since the start and what
// was alive after the last collection. It returns the percentage of garbage that may
// be from now on, and whether it is time to give memory back.
func (t *tidier) look(allocated, alive uint64) (percent int, now bool) {
	percent = min(max(tidyPercent, int(100*smallGarbage/max(alive, 1))), smallPercent) //nolint:gosec // it is small
	rate := allocated - t.allocated
	t.allocated = allocated
	if t.rest -= tidyEvery; rate > max(1<<20, alive/32) {
		t.calm = 0
		return percent, false
	}
	t.calm++
	return percent, t.calm >= calmSeconds && t.rest <= 0 && allocated-t.tidied > max(1<<20, alive/16)
}

// tidied notes that memory was given back, and how long that took.
func (t *tidier) done(took time.Duration) {
	t.tidied, t.rest = t.allocated, tidyShare*took
}

// tidyMemory keeps the process small until ctx ends.
func tidyMemory(ctx context.Context) {
	if os.Getenv("GOGC") != "" {
		return
	}
	tick := time.NewTicker(tidyEvery)
	defer tick.Stop()
	var t tidier
	before := debug.SetGCPercent(100)
	defer debug.SetGCPercent(before)
	samples := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}, {Name: "/gc/heap/live:bytes"}}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		metrics.Read(samples)
		percent, now := t.look(samples[0].Value.Uint64(), samples[1].Value.Uint64())
		if percent != t.percent { // setting it stops everything for a moment
			debug.SetGCPercent(percent)
			t.percent = percent
		}
		if now {
			began := time.Now()
			debug.FreeOSMemory()
			t.done(time.Since(began))
		}
	}
}

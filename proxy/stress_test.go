package proxy_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

var stressFor = flag.Duration("stress", 3*time.Second, "how long TestStress goes on opening sessions")

// TestStress opens sessions on real sockets and does everything to them that happens
// to sessions, at random: they talk both ways at once, chat with pauses, read late,
// are reset, lose their backend, and are kicked, and the records of TLS come torn to
// pieces; descriptors are used again at once.
// No byte is lost, and nothing of them stays. "-stress 10m" goes on for longer.
func TestStress(t *testing.T) {
	descriptors, goroutines := openDescriptors(t), runtime.NumGoroutine()
	t.Run("sessions", func(t *testing.T) {
		st := newStreet(t)
		var count, octets, number atomic.Int64
		var wg sync.WaitGroup
		until := time.Now().Add(*stressFor)
		for i := range 24 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(uint64(i), 2))
				for time.Now().Before(until) && !t.Failed() {
					kind := r.IntN(len(walks))
					w := &walker{st: st, r: r, withTLS: r.IntN(2) == 0, user: fmt.Sprintf("%s%d", []string{"c", "s"}[r.IntN(2)], number.Add(1))}
					w.up, _ = series(r, 1+r.IntN(1<<r.IntN(20)))
					w.down, w.boundaries = series(r, 1+r.IntN(1<<r.IntN(20)))
					if err := walks[kind](w); err != nil {
						t.Errorf("%s, way %d, TLS %v: %v", w.user, kind, w.withTLS, err)
					}
					count.Add(1)
					octets.Add(int64(len(w.up) + len(w.down)))
				}
			})
		}
		wg.Wait()
		t.Logf("%d sessions, of up to %d octets in all", count.Load(), octets.Load())
		if err := st.server.Shutdown(t.Context()); err != nil {
			t.Error(err)
		}
		if left := st.server.Sessions(); len(left) > 0 {
			t.Errorf("%d sessions are left: %v", len(left), left)
		}
	})
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	t.Logf("afterwards: %d descriptors, %d goroutines, %d KiB in use", openDescriptors(t), runtime.NumGoroutine(), m.HeapAlloc>>10)
	if n := openDescriptors(t); n > descriptors+2 { // the runtime's own, once
		t.Errorf("%d descriptors, %d before", n, descriptors)
	}
	if n := runtime.NumGoroutine(); n > goroutines {
		buf := make([]byte, 1<<20)
		t.Errorf("%d goroutines, %d before:\n%s", n, goroutines, buf[:runtime.Stack(buf, true)])
	}
}

// openDescriptors counts the descriptors of the process, where that can be seen.
func openDescriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

package route_test

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strings"
	"testing"

	"imapgate/route"
)

const million = 1_000_000

// largeRows are rows like those of a provider: names in no order, a few
// thousand domains, most users on shards, some in pools.
func largeRows(n int) (route.Definition, *route.Rows, []string) {
	def := route.Definition{Pools: []route.Pool{{Name: "shared", Shared: true}, {Name: "spread"}}}
	for i := range 20 {
		name := fmt.Sprintf("mail%d", i)
		def.Backends = append(def.Backends, route.Backend{Name: name})
		if i < 10 {
			def.Pools[i%2].Backends = append(def.Pools[i%2].Backends, name)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	rows := new(route.Rows)
	keys := make([]string, n)
	for i := range keys {
		keys[i] = fmt.Sprintf("%x.user%d@customer%d.example.org", random.Uint32()&0xffff, i, i%3000)
		target := fmt.Sprintf("mail%d", i%20)
		switch i % 10 {
		case 0:
			target = "shared"
		case 1:
			target = "spread"
		}
		rows.Append(route.Row{Key: keys[i], Target: target, Source: route.Position{File: "users.map", Line: i + 1, Column: 1}})
	}
	random.Shuffle(n, func(i, j int) { keys[i], keys[j] = keys[j], keys[i] })
	for i, key := range keys {
		keys[i] = strings.Clone(key) // now in order in memory: a key that a client just sent is in the cache
	}
	return def, rows, keys
}

func liveBytes() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func BenchmarkLookup1M(b *testing.B) {
	def, rows, keys := largeRows(million)
	before := liveBytes()
	table := route.New()
	if err := table.Load(def, rows, false); err != nil {
		b.Fatal(err)
	}
	perRow := (liveBytes() - before) / million
	lookup := func(b *testing.B) {
		b.Helper()
		b.ReportAllocs()
		i := 0
		for b.Loop() {
			if _, err := table.Lookup(keys[i%len(keys)]); err != nil {
				b.Fatal(err)
			}
			i++
		}
	}
	b.Run("idle", func(b *testing.B) {
		lookup(b)
		b.ReportMetric(perRow, "B/row")
	})
	b.Run("reloading", func(b *testing.B) {
		stop, done := make(chan struct{}), make(chan error, 1)
		go func() {
			for {
				select {
				case <-stop:
					done <- nil
					return
				default:
				}
				if err := table.Load(def, rows, false); err != nil {
					done <- err
					return
				}
			}
		}()
		lookup(b)
		close(stop)
		if err := <-done; err != nil {
			b.Fatal(err)
		}
	})
}

func BenchmarkLoad1M(b *testing.B) {
	def, rows, _ := largeRows(million)
	for b.Loop() {
		if err := route.New().Load(def, rows, false); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/million, "ns/row")
}

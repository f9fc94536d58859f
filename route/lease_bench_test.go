package route_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"sync/atomic"
	"testing"

	"imapgate/route"
)

// occupied returns a table whose default is a shared pool, with n users who have
// a session each.
func occupied(tb testing.TB, n int) *route.Table {
	tb.Helper()
	def := route.Definition{Pools: []route.Pool{{Name: "shared", Shared: true}}, Default: "shared"}
	for i := range 10 {
		name := fmt.Sprintf("mail%d", i)
		def.Backends = append(def.Backends, route.Backend{Name: name})
		def.Pools[0].Backends = append(def.Pools[0].Backends, name)
	}
	table := route.New()
	if err := table.Load(def, nil, false); err != nil {
		tb.Fatal(err)
	}
	for i := range n {
		if session(table, userName(i)) == nil {
			tb.Fatal("no session")
		}
	}
	return table
}

func userName(i int) string { return fmt.Sprintf("user%d@customer%d.example.org", i, i%3000) }

// session logs a user in; nil if that is refused.
func session(table *route.Table, user string) *route.Lease {
	l, err := table.Begin(user)
	if err != nil {
		return nil
	}
	backend := l.Placement().Backends[0]
	if !l.Claim(context.Background(), backend) || !l.Commit(backend) {
		l.End()
		return nil
	}
	return l
}

// BenchmarkLogin is Begin, Claim, Commit and End of users who are new, while
// others have sessions.
func BenchmarkLogin(b *testing.B) {
	for _, n := range []int{0, million} {
		b.Run(fmt.Sprintf("users=%d", n), func(b *testing.B) {
			before := liveBytes()
			table := occupied(b, n)
			perUser := (liveBytes() - before) / float64(max(1, n))
			names := make([]string, 200_000)
			for i := range names {
				names[i] = userName(2*million + i)
			}
			run := func(b *testing.B, parallel bool) {
				b.Helper()
				b.ReportAllocs()
				var next atomic.Uint64
				one := func() {
					l := session(table, names[next.Add(1)%uint64(len(names))])
					if l == nil {
						b.Error("refused")
						return
					}
					l.End()
				}
				if parallel {
					b.SetParallelism(500)
					b.RunParallel(func(pb *testing.PB) {
						for pb.Next() {
							one()
						}
					})
					return
				}
				for b.Loop() {
					one()
				}
			}
			b.Run("alone", func(b *testing.B) {
				run(b, false)
				b.ReportMetric(perUser, "B/user")
			})
			b.Run("goroutines", func(b *testing.B) { run(b, true) })
			b.Run("lookup", func(b *testing.B) {
				b.ReportAllocs()
				random := rand.New(rand.NewPCG(1, 2))
				some := make([]string, 1<<16)
				for i := range some {
					some[i] = userName(random.IntN(max(1, n)))
				}
				i := 0
				for b.Loop() {
					if _, err := table.Lookup(some[i%len(some)]); err != nil {
						b.Fatal(err)
					}
					i++
				}
			})
		})
	}
}

// BenchmarkPin is what a change costs that is kept in a file with others.
func BenchmarkPin(b *testing.B) {
	for _, n := range []int{0, 1000, 10_000} {
		b.Run(fmt.Sprintf("pins=%d", n), func(b *testing.B) {
			state := route.New().State()
			for i := range n {
				if err := state.Pin(userName(i), "mail1", route.Change{By: "op", Why: "moved"}); err != nil {
					b.Fatal(err)
				}
			}
			if err := state.Persist(filepath.Join(b.TempDir(), "overrides.json")); err != nil {
				b.Fatal(err)
			}
			for b.Loop() {
				if err := state.Pin(userName(n), "mail1", route.Change{By: "op", Why: "moved"}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

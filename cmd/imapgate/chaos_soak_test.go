package main_test

import (
	"bufio"
	"context"
	"fmt"
	"math"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"imapgate/proxy/proxytest"
)

// TestChaosSoak lets users come and go beside many who idle, while every few seconds
// something fails: half an hour at full size. When all have left, descriptors,
// goroutines and memory are what they were.
func TestChaosSoak(t *testing.T) {
	var (
		idle  = sized(60, 2000)
		churn = sized(20, 50)
		every = sized(3*time.Second, 20*time.Second)
		long  = sized(15*time.Second, 30*time.Minute)
	)
	ca := newRealCA(t, "test")
	backends := []*chaosBackend{startChaosBackend(t, proxytest.FreeAddress(t)), startChaosBackend(t, proxytest.FreeAddress(t))}
	admin := proxytest.FreeAddress(t)
	g := startRealGate(t, realGateConfig{
		CA: ca,
		Backends: realMap{
			"mail1": realMap{"address": backends[0].Address, "tls": "none"},
			"mail2": realMap{"address": backends[1].Address, "tls": "none"},
		},
		Default: "all", Table: "* all\n", Secrets: []string{crowdPassword},
		Login: realMap{"connect_timeout": "2s", "backend_timeout": "5s"},
		More: realMap{
			"pools":        realMap{"all": realMap{"backends": []string{"mail1", "mail2"}, "shared": true}},
			"health":       realMap{"interval": "1s", "fall": 2, "rise": 1},
			"admin":        realMap{"http": admin},
			"close_spread": "2s",
			"log":          realMap{"format": "json", "level": "warn"},
		},
	})
	s := &soak{g: g, admin: admin, backends: backends}
	// What a proxy has that has served once: pools of buffers, threads.
	s.serve(t, sized(2*time.Second, 20*time.Second), idle, churn, 0)
	before := s.quiet(t, math.Inf(1))
	s.serve(t, long, idle, churn, every)
	after := s.quiet(t, before.goroutines+20)
	t.Logf("%d faults, %v", s.faults, &s.logins)
	if s.faults == 0 {
		t.Error("nothing failed")
	}
	t.Logf("descriptors %.0f before, %.0f after", before.descriptors, after.descriptors)
	if after.descriptors > before.descriptors+20 {
		t.Error("descriptors leak")
	}
	t.Logf("goroutines %.0f before, %.0f after", before.goroutines, after.goroutines)
	figure(t, after.heap < before.heap*5/4+8<<20, "heap in use %.1f MiB before, %.1f MiB after", before.heap/(1<<20), after.heap/(1<<20))
	figure(t, after.resident < before.resident*5/4+16<<20, "resident memory %.1f MiB before, %.1f MiB after", before.resident/(1<<20), after.resident/(1<<20))
}

type soak struct {
	g        *realGate
	admin    string
	backends []*chaosBackend
	faults   int
	logins   tally
}

// serve lets users come and go for a while, idle beside them, and something fail at
// each interval; 0: nothing fails.
func (s *soak) serve(t *testing.T, long time.Duration, idle, churn int, every time.Duration) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := range idle {
		wg.Go(func() { s.idle(ctx, i, idle) })
	}
	wg.Go(func() {
		atRate(ctx, churn, func(i int) {
			life, cancel := context.WithTimeout(t.Context(), realPatience)
			defer cancel()
			began := time.Now()
			reply, err := chaosLogin(life, s.g, fmt.Sprintf("127.0.8.%d", 1+i%200), fmt.Sprintf("c%d@example.org", i%500))
			s.logins.add(time.Since(began), reply, err)
		})
	})
	if every == 0 {
		return
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			s.fault(t, s.faults)
			s.faults++
		}
	}
}

// idle keeps a user in IDLE, who comes back whenever the session ends.
func (s *soak) idle(ctx context.Context, i, of int) {
	u := &crowdUser{name: fmt.Sprintf("i%d@example.org", i), number: 0, source: fmt.Sprintf("127.0.7.%d", 1+i%200)}
	pause := time.NewTimer(time.Duration(i) * time.Second * 2 / time.Duration(of))
	defer pause.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-pause.C:
		}
		if c, err := u.dial(ctx, s.g); err == nil {
			if c.command("l", "LOGIN "+u.name+" "+crowdPassword) == nil && c.idle() == nil {
				_ = c.SetDeadline(time.Time{})
				stop := context.AfterFunc(ctx, func() { _ = c.Close() })
				_, _ = c.r.ReadString('\n') // until somebody ends it
				stop()
			}
			_ = c.Close()
		}
		pause.Reset(time.Second)
	}
}

// fault lets the next thing fail.
func (s *soak) fault(t *testing.T, n int) {
	t.Helper()
	b := s.backends[n/7%2]
	switch n % 7 {
	case 0:
		b.Kill()
		b.Start(t)
	case 1:
		b.Signal(t, syscall.SIGSTOP)
	case 2:
		b.Signal(t, syscall.SIGCONT)
	case 3:
		s.g.WriteTable(t, "* all\nsomebody@example.org mail1\n")
	case 4:
		s.g.Signal(t, syscall.SIGHUP)
	case 5:
		s.g.WriteTable(t, "* nowhere\n") // which is no pool: the table in force stays
	case 6:
		s.g.WriteTable(t, "* all\n")
	}
}

// usage is what imapgate needs.
type usage struct{ sessions, descriptors, goroutines, heap, resident float64 }

// quiet waits until no session is left, and no more goroutines than so many, and
// returns what is needed still.
func (s *soak) quiet(t *testing.T, goroutines float64) (u usage) {
	t.Helper()
	if !realEventually(t, func() bool {
		u = s.measure(t)
		return u.sessions == 0 && u.goroutines <= goroutines
	}) {
		t.Errorf("%.0f sessions and %.0f goroutines are left", u.sessions, u.goroutines)
	}
	return u
}

// measure reads the metrics that Go and the system have of the process.
func (s *soak) measure(t *testing.T) usage {
	t.Helper()
	var u usage
	fields := map[string]*float64{
		"imapgate_sessions_active": &u.sessions,
		"process_open_fds":         &u.descriptors, "go_goroutines": &u.goroutines,
		"go_memstats_heap_alloc_bytes": &u.heap, "process_resident_memory_bytes": &u.resident,
	}
	resp, err := http.Get("http://" + s.admin + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	found := make(map[string]bool)
	for scan := bufio.NewScanner(resp.Body); scan.Scan(); {
		name, value, _ := strings.Cut(scan.Text(), " ")
		n, err := strconv.ParseFloat(value, 64)
		if strings.HasPrefix(name, "imapgate_sessions_active{") {
			name = "imapgate_sessions_active"
		}
		if into := fields[name]; into != nil && err == nil {
			*into += n
			found[name] = true
		}
	}
	if len(found) != len(fields) {
		t.Fatalf("the metrics are %v", found)
	}
	return u
}

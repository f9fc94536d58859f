package main

import (
	"bufio"
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapgate/proxy/proxytest"
)

// fullSize says whether this is make chaos, whose flag is that of the other tests of
// this directory. Otherwise the scenarios are small, and only counts are asked for,
// not times.
func fullSize() bool {
	f := flag.Lookup("chaos")
	return f != nil && f.Value.String() == "true"
}

// scaled returns a scenario's size.
func scaled[T any](small, full T) T {
	if fullSize() {
		return full
	}
	return small
}

// attackedGate is imapgate in a process of its own, under attack.
type attackedGate struct {
	*process
	secure, clear string // addresses
	socket        string // of the admin API
}

// everybody is whom limits that count by address are not for, where what lies behind
// these limits is to be seen.
const everybody = "127.0.0.0/8"

// startAttackedGate starts it with a quick backend. login and extra are more of the
// configuration; descriptors, unless 0, is how many it may have.
func startAttackedGate(t *testing.T, backend *quickBackend, exempt, login, extra string, descriptors int) *attackedGate {
	t.Helper()
	dir := t.TempDir()
	g := &attackedGate{secure: proxytest.FreeAddress(t), clear: proxytest.FreeAddress(t), socket: dir + "/admin.sock"}
	proxytest.WritePair(t, dir, "cert", proxytest.NewCA(t).Issue(t, proxytest.CertOptions{}))
	writeFiles(t, dir, map[string]string{
		"users.map": "alice mail1\n",
		"x.yaml": fmt.Sprintf(`listen: [{address: %q, tls: implicit}, {address: %q, tls: none}]
tls: {certificates: [{cert: cert.pem, key: cert.key}]}
backends: {mail1: {address: %q, tls: none, warm: 0}}
route: {tables: [users.map]}
login: {exempt_networks: [%s], max_failures: 1000%s}
admin: {socket: admin.sock}
log: {format: json, level: warn}
%s`, g.secure, g.clear, backend.address, exempt, login, extra),
	})
	script := `exec "$0" "$@"`
	if descriptors > 0 {
		script = fmt.Sprintf("ulimit -n %d && %s", descriptors, script)
	}
	g.process = startCommand(t, exec.Command("sh", "-c", script, testBinary(t), "serve", "-c", dir+"/x.yaml"))
	began := time.Now()
	for {
		// The admin API comes last.
		if nc, err := net.Dial("unix", g.socket); err == nil {
			_ = nc.Close()
			return g
		}
		if time.Since(began) > patience {
			t.Fatal("it does not listen")
		}
		<-time.After(10 * time.Millisecond)
	}
}

// figures are what the process has.
type figures struct{ memory, descriptors, goroutines, connections int }

// figures asks the process, after a garbage collection.
func (g *attackedGate) figures(t *testing.T) figures {
	t.Helper()
	askSocket(t, g.socket, "/debug/pprof/heap?gc=1")
	_, body := askSocket(t, g.socket, "/metrics")
	of := make(map[string]int)
	for line := range strings.Lines(string(body)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			if v, err := strconv.ParseFloat(value, 64); err == nil {
				of[name] = int(v)
			}
		}
	}
	return figures{of["go_memstats_heap_alloc_bytes"] + of["go_memstats_stack_inuse_bytes"], of["process_open_fds"], of["go_goroutines"], of["imapgate_connections_active"]}
}

// calm waits until the process has no more than before, and fails when it keeps
// something.
func (g *attackedGate) calm(t *testing.T, before figures) {
	t.Helper()
	now := g.settled(t, before)
	t.Logf("afterwards: %d KiB, %d descriptors, %d goroutines; before: %d KiB, %d, %d",
		now.memory>>10, now.descriptors, now.goroutines, before.memory>>10, before.descriptors, before.goroutines)
}

// settled returns what the process has once that is no more than before.
func (g *attackedGate) settled(t *testing.T, before figures) figures {
	t.Helper()
	began := time.Now()
	for {
		now := g.figures(t)
		// Two descriptors and some goroutines belong to who asks.
		if now.descriptors <= before.descriptors+4 && now.goroutines <= before.goroutines+12 && now.memory <= before.memory+4<<20 {
			return now
		}
		if time.Since(began) > patience {
			t.Fatalf("it has %+v, and had %+v before", now, before)
		}
		<-time.After(100 * time.Millisecond)
	}
}

// goodLogin connects with TLS, logs in and out, and returns how long that took.
func (g *attackedGate) goodLogin() (time.Duration, error) {
	began := time.Now()
	d := tls.Dialer{
		NetDialer: &net.Dialer{Timeout: patience, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}},
		Config:    &tls.Config{InsecureSkipVerify: true},
	}
	nc, err := d.Dial("tcp", g.secure)
	if err != nil {
		return 0, err
	}
	defer nc.Close()
	_ = nc.SetDeadline(began.Add(patience))
	in := bufio.NewReader(nc)
	if line, err := in.ReadString('\n'); !strings.HasPrefix(line, "* OK ") {
		return 0, fmt.Errorf("greeted with %q: %w", line, err)
	}
	_, _ = nc.Write([]byte("a LOGIN alice " + goodSecret + "\r\n"))
	line, err := in.ReadString('\n')
	if !strings.HasPrefix(line, "a OK ") {
		return 0, fmt.Errorf("told %q: %w", line, err)
	}
	return time.Since(began), nil
}

// goodLogins logs in at a rate, whether or not those before have ended, and returns
// the 99th percentile of how long it took. Every failure fails the test.
func (g *attackedGate) goodLogins(t *testing.T, count, perSecond int) time.Duration {
	t.Helper()
	took := make([]time.Duration, count)
	var failed atomic.Int64
	var all sync.WaitGroup
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for i := range count {
		<-tick.C
		all.Go(func() {
			var err error
			if took[i], err = g.goodLogin(); err != nil && failed.Add(1) <= 3 {
				t.Errorf("a good login: %v", err)
			}
		})
	}
	all.Wait()
	if n := failed.Load(); n > 0 {
		t.Errorf("%d of %d good logins failed", n, count)
	}
	slices.Sort(took)
	return took[(count*99-1)/100]
}

// expectRatio compares a time with the one before, when the machine is ours.
func expectRatio(t *testing.T, what string, before, now time.Duration, most float64) {
	t.Helper()
	ratio := float64(now) / float64(before)
	t.Logf("%s: %v before, %v under attack: %.2f ×, at most %.1f × is promised", what, before, now, ratio, most)
	if fullSize() && ratio > most {
		t.Errorf("%s: %.2f ×, more than %.1f ×", what, ratio, most)
	}
}

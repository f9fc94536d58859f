package main_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"imapgate/proxy/proxytest"
)

// TestChaosBackendDies takes one of three backends away in four ways while 600 users
// log in at a fixed rate: those of the other two see nothing of it, those of the
// third get a tagged NO [UNAVAILABLE], at once when it is known that it is down.
func TestChaosBackendDies(t *testing.T) {
	host := newChaosHost(t)
	ca := newRealCA(t, "test")
	backends := map[string]*chaosBackend{
		"mail1": startChaosBackend(t, proxytest.FreeAddress(t)),
		"mail2": startChaosBackend(t, proxytest.FreeAddress(t)),
		"mail3": startChaosBackend(t, host.Address, host.Exec()...),
	}
	sections := make(realMap)
	for name, b := range backends {
		sections[name] = realMap{"address": b.Address, "tls": "none"}
	}
	var table strings.Builder
	for i := range 600 {
		fmt.Fprintf(&table, "%s mail%d\n", chaosUser(i), 1+i%3)
	}
	g := startRealGate(t, realGateConfig{
		CA: ca, Backends: sections, Table: table.String(), Secrets: []string{crowdPassword},
		Login: realMap{"connect_timeout": "2s", "backend_timeout": "5s"},
		More:  realMap{"health": realMap{"interval": "500ms", "fall": 2, "rise": 1}},
	})
	w := &dying{g: g, third: backends["mail3"]}
	for _, way := range []struct {
		name       string
		take, give func(t *testing.T)
	}{
		{"killed", func(*testing.T) { w.third.Kill() }, w.third.Start},
		{"stopped", w.signal(syscall.SIGSTOP), w.signal(syscall.SIGCONT)},
		{"refusing with RST", host.Filter("tcp dport 143 reject with tcp reset"), host.Clear},
		{"cut off", host.Filter("drop"), host.Clear},
	} {
		if !t.Run(way.name, func(t *testing.T) { w.run(t, way.take, way.give) }) {
			return
		}
	}
}

func chaosUser(i int) string { return fmt.Sprintf("u%03d@example.org", i) }

type dying struct {
	g     *realGate
	third *chaosBackend
	read  int64 // how much of the log
}

// phase logs users in until ctx ends: those of two backends, and those of the third.
func (w *dying) phase(ctx context.Context, t *testing.T) (others, own *tally) {
	t.Helper()
	others, own = new(tally), new(tally)
	life, cancel := context.WithTimeout(t.Context(), 2*realPatience)
	defer cancel()
	atRate(ctx, sized(30, 100), func(i int) {
		into := others
		if i%3 == 2 {
			into = own
		}
		began := time.Now()
		reply, err := chaosLogin(life, w.g, fmt.Sprintf("127.0.9.%d", 1+i%200), chaosUser(i%600))
		into.add(time.Since(began), reply, err)
	})
	return others, own
}

func (w *dying) during(t *testing.T, d time.Duration) (others, own *tally) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	return w.phase(ctx, t)
}

func (w *dying) signal(s syscall.Signal) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		w.third.Signal(t, s)
	}
}

// run takes the backend away and gives it back, again and again: what else happens on
// this machine then happens as much while it is there as while it is not. How far the
// times of every other turn are from those of the rest tells what a difference means.
func (w *dying) run(t *testing.T, take, give func(*testing.T)) {
	t.Helper()
	long := sized(time.Second, 6*time.Second)
	with, without, known := new(tally), new(tally), new(tally)
	var alike [2]tally
	for i := range 1 + sized(1, 8) {
		if i > 0 {
			take(t)
			others := w.untilKnown(t)
			without.join(others)
			others, own := w.during(t, long)
			others.only(t, "known, others", "OK")
			own.only(t, "known, own", "NO [UNAVAILABLE]")
			without.join(others)
			known.join(own)
			give(t)
			w.await(t, "backend up")
		}
		others, own := w.during(t, long)
		others.only(t, "up, others", "OK")
		own.only(t, "up, own", "OK")
		with.join(others)
		alike[i%2].join(others)
	}
	compared := func(a, b *tally) float64 { return a.quantile(0.99).Seconds() / b.quantile(0.99).Seconds() }
	t.Logf("with it:          %v; p99 of every other turn %.2f x that of the rest", with, compared(&alike[1], &alike[0]))
	times := compared(without, with)
	figure(t, times < 1.2, "the others:       %v, %.2f x", without, times)
	figure(t, known.quantile(0.99) < time.Second, "its own, known:   %v", known)
}

// untilKnown logs users in until it is known that the backend is down.
func (w *dying) untilKnown(t *testing.T) (others *tally) {
	t.Helper()
	ctx, known := context.WithCancel(t.Context())
	defer known()
	var own *tally
	var phase sync.WaitGroup
	phase.Go(func() { others, own = w.phase(ctx, t) })
	w.await(t, "backend down")
	known()
	phase.Wait()
	others.only(t, "unknown, others", "OK")
	own.only(t, "unknown, own", "NO [UNAVAILABLE]")
	return others
}

// await waits until the log says of the third backend what happened.
func (w *dying) await(t *testing.T, message string) {
	t.Helper()
	log, err := os.Open(w.g.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := log.Seek(w.read, io.SeekStart); err != nil {
		t.Fatal(err)
	}
	in, line := bufio.NewReader(log), ""
	if !realEventually(t, func() bool {
		for {
			part, err := in.ReadString('\n')
			w.read += int64(len(part))
			if line += part; err != nil {
				return false // it is being written
			}
			if strings.Contains(line, `"msg":"`+message+`"`) && strings.Contains(line, `"backend":"mail3"`) {
				return true
			}
			line = ""
		}
	}) {
		t.Fatalf("%q was not logged", message)
	}
}

// chaosHost is a host of its own, a network namespace at the end of a cable, whose
// packets can be filtered.
type chaosHost struct {
	Address string // of an IMAP server there
	name    string
}

func newChaosHost(t *testing.T) *chaosHost {
	t.Helper()
	realTool(t, "ip")
	realTool(t, "nft")
	h := &chaosHost{name: fmt.Sprintf("imapgate%d", os.Getpid())}
	// RFC 2544 gives these addresses to tests. Each process has its own four: one that was
	// killed leaves its namespace behind.
	third, fourth := os.Getpid()>>6&0xff, os.Getpid()&0x3f*4
	here, there := fmt.Sprintf("198.18.%d.%d", third, fourth+1), fmt.Sprintf("198.18.%d.%d", third, fourth+2)
	h.Address = net.JoinHostPort(there, "143")
	cable := fmt.Sprintf("ig%d", os.Getpid())
	run := func(words ...string) {
		t.Helper()
		if out, err := exec.Command(realTool(t, words[0]), words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s (the test makes a network namespace, which takes root)", strings.Join(words, " "), err, out)
		}
	}
	run("ip", "netns", "add", h.name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", h.name).Run() })
	run("ip", "link", "add", cable+"a", "type", "veth", "peer", "name", cable+"b", "netns", h.name)
	t.Cleanup(func() { _ = exec.Command("ip", "link", "delete", cable+"a").Run() }) // else it goes with the namespace, some time later
	run("ip", "address", "add", here+"/30", "dev", cable+"a")
	run("ip", "link", "set", cable+"a", "up")
	run("ip", "-n", h.name, "address", "add", there+"/30", "dev", cable+"b")
	run("ip", "-n", h.name, "link", "set", cable+"b", "up")
	run("ip", "-n", h.name, "link", "set", "lo", "up")
	return h
}

// Exec is what runs a command there.
func (h *chaosHost) Exec() []string { return []string{"ip", "netns", "exec", h.name} }

func (h *chaosHost) nft(t *testing.T, rules string) {
	t.Helper()
	cmd := exec.Command("ip", "netns", "exec", h.name, "nft", "-f", "-")
	cmd.Stdin = strings.NewReader(rules)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("nft: %v: %s", err, out)
	}
}

// Filter judges whatever comes in there.
func (h *chaosHost) Filter(rule string) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		h.nft(t, "table inet test {\nchain in {\ntype filter hook input priority 0;\n"+rule+"\n}\n}\n")
	}
}

// Clear lets everything in again.
func (h *chaosHost) Clear(t *testing.T) {
	t.Helper()
	h.nft(t, "delete table inet test\n")
}

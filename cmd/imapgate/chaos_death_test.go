package main_test

import (
	"context"
	"fmt"
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
	turn  int // how often the backend has gone
}

// phase logs users in until ctx ends.
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

func (w *dying) signal(s syscall.Signal) func(*testing.T) {
	return func(t *testing.T) {
		t.Helper()
		w.third.Signal(t, s)
	}
}

func (w *dying) run(t *testing.T, take, give func(*testing.T)) {
	t.Helper()
	w.turn++
	during := func(d time.Duration) (others, own *tally) {
		ctx, cancel := context.WithTimeout(t.Context(), d)
		defer cancel()
		return w.phase(ctx, t)
	}
	long := sized(time.Second, 10*time.Second)
	before, ownBefore := during(long)
	before.only(t, "before, others", "OK")
	ownBefore.only(t, "before, own", "OK")

	// Until it is known.
	ctx, known := context.WithCancel(t.Context())
	var at, own *tally
	var phase sync.WaitGroup
	take(t)
	phase.Go(func() { at, own = w.phase(ctx, t) })
	w.await(t, "backend down")
	known()
	phase.Wait()
	at.only(t, "unknown, others", "OK")
	own.only(t, "unknown, own", "NO [UNAVAILABLE]")

	after, ownAfter := during(long)
	after.only(t, "known, others", "OK")
	ownAfter.only(t, "known, own", "NO [UNAVAILABLE]")
	t.Logf("before:         %v\n  at first:       %v\n  at first, own:  %v", before, at, own)
	figure(t, after.quantile(0.99) < before.quantile(0.99)*6/5, "the others:     %v", after)
	figure(t, ownAfter.quantile(0.99) < time.Second, "its own, known: %v", ownAfter)

	give(t)
	w.await(t, "backend up")
	again, ownAgain := during(long)
	again.only(t, "again, others", "OK")
	ownAgain.only(t, "again, own", "OK")
}

// await waits until the log says for the third backend, once more, what happened.
func (w *dying) await(t *testing.T, message string) {
	t.Helper()
	if !realEventually(t, func() bool {
		log, err := os.ReadFile(w.g.log)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, `"msg":"`+message+`"`) && strings.Contains(line, `"backend":"mail3"`) {
				n++
			}
		}
		return n >= w.turn
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
	// RFC 2544 gives these addresses to tests.
	here, there := "198.18.143.1", "198.18.143.2"
	h.Address = net.JoinHostPort(there, "143")
	cable := fmt.Sprintf("ig%d", os.Getpid())
	run := func(words ...string) {
		t.Helper()
		if out, err := exec.Command(realTool(t, words[0]), words[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%s: %v: %s (the test makes a network namespace, which takes root)", strings.Join(words, " "), err, out)
		}
	}
	run("ip", "netns", "add", h.name)
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "delete", h.name).Run() }) // and with it the cable
	run("ip", "link", "add", cable+"a", "type", "veth", "peer", "name", cable+"b", "netns", h.name)
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

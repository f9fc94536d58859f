package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestChaosFewDescriptors gives the proxy 256, and more clients than that: its own
// bound on connections keeps them out, before the system does.
func TestChaosFewDescriptors(t *testing.T) {
	const descriptors, sessions, attackers = 256, 20, 600
	g := startAttackedGate(t, startQuickBackend(t, 0), everybody, "", "", descriptors)
	var kept []*client
	for range sessions {
		c := dialClear(t, g.clear)
		c.expect(t, "* OK")
		if reply := c.do(t, "LOGIN alice "+goodSecret); !strings.HasPrefix(reply, "t OK") {
			t.Fatal(reply)
		}
		kept = append(kept, c)
	}
	start := g.figures(t)
	c := openMob(t, g.clear, attackers, func(_ int, nc net.Conn) (net.Conn, error) { return nc, nil })
	ticks := cpuOf(t, g.cmd.Process.Pid)
	<-time.After(2 * time.Second)
	spent := cpuOf(t, g.cmd.Process.Pid) - ticks
	t.Logf("with %d connections too many it takes %v of processor time in 2 s", attackers, spent)
	if spent > time.Second {
		t.Errorf("it spins: %v of processor time in 2 s", spent)
	}
	for i, s := range kept {
		if reply := s.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
			t.Errorf("session %d: %q", i, reply)
		}
	}
	if g.figures(t).descriptors > descriptors {
		t.Error("it has more descriptors than there are")
	}
	if _, body := askSocket(t, g.socket, "/readyz"); !bytes.Contains(body, []byte("it lacks connections")) {
		t.Errorf("/readyz says %q", body)
	}
	c.close()
	g.calm(t, start)
	if _, err := g.goodLogin(); err != nil {
		t.Errorf("it has not recovered: %v", err)
	}
	if code, body := askSocket(t, g.socket, "/readyz"); code != 200 {
		t.Errorf("/readyz says %d %q", code, body)
	}
}

// cpuOf returns the processor time that a process has taken. See proc(5), stat.
func cpuOf(t *testing.T, pid int) time.Duration {
	t.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var user, system int
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		t.Fatal(err)
	}
	return time.Duration(user+system) * (time.Second / 100)
}

// TestChaosNoDescriptors takes descriptors away from a proxy that counted on more
// when it started. Its own bound on connections, which TestChaosFewDescriptors
// reaches, is far off then: it is the system that refuses sockets.
func TestChaosNoDescriptors(t *testing.T) {
	const sessions = 20
	attackers, enough, few := scaled(200, 2000), scaled(1024, 8192), scaled(128, 1024)
	g := startAttackedGate(t, startQuickBackend(t, 0), everybody, ", backend_timeout: 2s", "", enough)
	kept := make([]*client, sessions)
	for i := range kept {
		kept[i] = dialClear(t, g.clear)
		kept[i].expect(t, "* OK")
		kept[i].good(t, "LOGIN alice "+goodSecret)
	}
	start := g.figures(t)
	api := socketClient(g.socket)
	defer api.CloseIdleConnections()
	lacking := func() { // asked through one connection, which needs no more descriptors
		t.Helper()
		if code, body := askBy(t, api, "/readyz"); code != http.StatusServiceUnavailable || !bytes.Contains(body, []byte("it lacks descriptors")) {
			t.Errorf("/readyz says %d %q", code, body)
		}
		_, body := askBy(t, api, "/metrics")
		for _, want := range []string{`imapgate_overload{lack="descriptors"} 1`, `imapgate_backend_up{backend="mail1"} 1`} {
			if !bytes.Contains(body, []byte(want+"\n")) {
				t.Errorf("the metrics do not say %s", want)
			}
		}
	}
	refused := func(message string) {
		t.Helper()
		if line := g.waitLine(t, message); !strings.HasSuffix(fmt.Sprint(line["error"]), unix.EMFILE.Error()) {
			t.Errorf("%q is logged for %v", message, line["error"])
		}
	}
	alive := func() {
		t.Helper()
		for _, s := range kept {
			s.good(t, "NOOP")
		}
	}
	askBy(t, api, "/readyz")

	// Two addresses that do not reach a backend are enough for it to look down.
	waiting := make([]*client, 2)
	for i := range waiting {
		nc, err := attacker(g.clear, i)
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		_ = nc.SetDeadline(time.Now().Add(patience))
		waiting[i] = &client{Conn: nc, in: bufio.NewReader(nc)}
		waiting[i].expect(t, "* OK")
	}
	g.limitDescriptors(t, 0)
	for _, c := range waiting {
		if reply := c.do(t, "LOGIN alice "+goodSecret); !strings.HasPrefix(reply, "t NO [UNAVAILABLE]") {
			t.Errorf("without a descriptor for a backend a login is told %q", reply)
		}
	}
	refused("backend failed")
	lacking()

	// Those who come now find nobody to make room but these two, and that is no room.
	crowd := besiege(t, g.clear, attackers)
	refused("accept failed")
	for _, c := range waiting {
		c.expect(t, "* BYE [UNAVAILABLE] Server is busy.")
	}
	spent := g.spends(t, 2*time.Second)
	t.Logf("with %d connections that cannot be accepted it takes %v of processor time in 2 s", attackers, spent)
	if spent > 400*time.Millisecond {
		t.Errorf("it spins: %v of processor time in 2 s", spent)
	}
	alive()
	lacking()
	if n := crowd.told.Load(); n > 0 {
		t.Errorf("%d were accepted without a descriptor", n)
	}

	// Now there are some, for fewer than there are.
	g.limitDescriptors(t, few)
	<-crowd.first
	before := crowd.told.Load()
	spent = g.spends(t, 2*time.Second)
	t.Logf("with %d connections that come again when they are ended, and room for %d, it takes %v of processor time in 2 s; %d make room", attackers, few, spent, crowd.told.Load()-before)
	if spent > time.Second {
		t.Errorf("it spins: %v of processor time in 2 s", spent)
	}
	alive()
	lacking()

	// They have all left, some of them while they waited to be accepted. Until the last
	// of these is looked at, others still have to make room.
	crowd.leave()
	left := time.Now()
	eventually(t, func() error {
		_, err := g.goodLogin()
		return err
	})
	t.Logf("the first login %v after they have left", time.Since(left))
	alive()

	g.limitDescriptors(t, enough)
	g.calm(t, start)
	if _, err := g.goodLogin(); err != nil {
		t.Errorf("it has not recovered: %v", err)
	}
	eventually(t, func() error {
		if code, body := askBy(t, api, "/readyz"); code != http.StatusOK {
			return fmt.Errorf("/readyz says %d %q", code, body)
		}
		return nil
	})
}

// limitDescriptors changes how many descriptors the process may have. It keeps those
// that it has. See prlimit(2).
func (g *attackedGate) limitDescriptors(t *testing.T, n int) {
	t.Helper()
	pid := g.cmd.Process.Pid
	var l unix.Rlimit
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, nil, &l); err != nil {
		t.Fatal(err)
	}
	l.Cur = uint64(n)
	if err := unix.Prlimit(pid, unix.RLIMIT_NOFILE, &l, nil); err != nil {
		t.Fatal(err)
	}
}

// spends returns the processor time that the process takes meanwhile.
func (g *attackedGate) spends(t *testing.T, while time.Duration) time.Duration {
	t.Helper()
	before := cpuOf(t, g.cmd.Process.Pid)
	<-time.After(while)
	return cpuOf(t, g.cmd.Process.Pid) - before
}

// siege is a mob whose members come again whenever they are ended.
type siege struct {
	told  atomic.Int64  // how often one was told to make room
	first chan struct{} // closed when one was
	leave func()        // ends it
}

func besiege(t *testing.T, address string, members int) *siege {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var all sync.WaitGroup
	s := &siege{first: make(chan struct{}), leave: func() { cancel(); all.Wait() }}
	t.Cleanup(s.leave)
	for i := range members {
		all.Go(func() {
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(1+i%250))}}
			for ctx.Err() == nil {
				nc, err := d.DialContext(ctx, "tcp", address)
				if err != nil {
					continue
				}
				stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
				said, _ := io.ReadAll(nc)
				stop()
				_ = nc.Close()
				if bytes.HasSuffix(said, []byte("* BYE [UNAVAILABLE] Server is busy.\r\n")) && s.told.Add(1) == 1 {
					close(s.first)
				}
			}
		})
	}
	return s
}

// good sends a command that is to succeed.
func (c *client) good(t *testing.T, command string) {
	t.Helper()
	if err := c.try(command); err != nil {
		t.Fatal(err)
	}
}

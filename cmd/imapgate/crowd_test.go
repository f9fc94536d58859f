package main

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"imapgate/proxy/proxytest"
)

// How large the crowd is, and how often it is disturbed.
func crowdSessions() int { return scaled(200, 5000) } // idle meanwhile
func crowdRate() int     { return scaled(30, 100) }   // logins a second meanwhile
func crowdReloads() int  { return scaled(6, 20) }
func crowdUpgrades() int { return scaled(3, 5) } // one of them to a broken program

// hall is an IMAP server that lets everybody in, and knows who is there.
type hall struct {
	net.Listener
	name  string
	halls *halls
}

// halls are servers of one pool, which know of a user on two of them.
type halls struct {
	mu    sync.Mutex
	where map[string]*hall // users with sessions
	count map[string]int
	twice []string // users who were on two at once
}

func (h *halls) open(t *testing.T, name string) *hall {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	hall := &hall{l, name, h}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go hall.serve(c)
		}
	}()
	return hall
}

// serve plays IMAP as far as it is spoken here: AUTHENTICATE PLAIN, and OK to all.
func (h *hall) serve(c net.Conn) {
	defer c.Close()
	const caps = "IMAP4rev1 SASL-IR AUTH=PLAIN"
	fmt.Fprintf(c, "* OK [CAPABILITY %s] %s\r\n", caps, h.name)
	for lines := bufio.NewScanner(c); lines.Scan(); {
		words := strings.Fields(lines.Text())
		switch {
		case len(words) == 4 && words[1] == "AUTHENTICATE":
			message, _ := base64.StdEncoding.DecodeString(words[3])
			user := strings.Split(string(message), "\x00")[1]
			h.halls.enter(user, h)
			defer h.halls.leave(user)
			fmt.Fprintf(c, "%s OK [CAPABILITY IMAP4rev1] in\r\n", words[0])
		case len(words) == 2 && words[1] == "LOGOUT":
			fmt.Fprintf(c, "* BYE bye\r\n%s OK out\r\n", words[0])
			return
		case len(words) > 1:
			fmt.Fprintf(c, "%s OK done\r\n", words[0])
		}
	}
}

func (h *halls) enter(user string, at *hall) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if there := h.where[user]; there != nil && there != at {
		h.twice = append(h.twice, user)
	}
	h.where[user] = at
	h.count[user]++
}

func (h *halls) leave(user string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.count[user]--; h.count[user] == 0 {
		delete(h.where, user)
	}
}

// crowd is many clients of one imapgate.
type crowd struct {
	*installed
	halls *halls
	idle  []*client
	tls   *tls.Config
	at    string // where it connects, whatever else is listened on

	stop   chan struct{}
	wg     sync.WaitGroup
	logins atomic.Int64

	mu     sync.Mutex
	took   []time.Duration
	failed []error
}

// newCrowd starts imapgate, one way or the other, and the crowd.
func newCrowd(t *testing.T, start func(*installed, *testing.T) *process) (*crowd, *process) {
	t.Helper()
	c := &crowd{
		installed: install(t), stop: make(chan struct{}), halls: &halls{where: make(map[string]*hall), count: make(map[string]int)},
		tls: &tls.Config{InsecureSkipVerify: true},
	}
	c.at = c.listen[0]
	h1, h2 := c.halls.open(t, "h1"), c.halls.open(t, "h2")
	c.extra = fmt.Sprintf("  h1: {address: %q, tls: none}\n  h2: {address: %q, tls: none}\npools: {halls: {backends: [h1, h2], shared: true}}\n", h1.Addr(), h2.Addr())
	c.tail += "login: {exempt_networks: [127.0.0.0/8]}\n"
	c.writeTable(t, "@example.org halls\n")
	c.writeConfig(t)
	proc := start(c.installed, t)
	c.idle = make([]*client, crowdSessions())
	next := make(chan int)
	for range 16 {
		c.wg.Go(func() {
			for i := range next {
				session, err := c.login(fmt.Sprintf("idle%d@example.org", i%(crowdSessions()/2)))
				if err != nil {
					c.fail(fmt.Errorf("idle session: %w", err))
					continue
				}
				c.idle[i] = session
			}
		})
	}
	for i := range c.idle {
		next <- i
	}
	close(next)
	c.wg.Wait()
	if len(c.failed) > 0 {
		t.Fatal(c.failed[0])
	}
	t.Cleanup(func() {
		for _, s := range c.idle {
			_ = s.Close()
		}
	})
	c.wg.Go(c.churn)
	return c, proc
}

// login logs in, without a test to fail: it runs in goroutines of its own.
func (c *crowd) login(user string) (*client, error) {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", c.at, c.tls)
	if err != nil {
		return nil, err
	}
	s := &client{Conn: conn, in: bufio.NewReaderSize(conn, 256)}
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := s.in.ReadString('\n'); err != nil {
		return nil, errors.Join(fmt.Errorf("greeting: %w", err), conn.Close())
	}
	if err := s.try("LOGIN " + user + " secret"); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return s, nil
}

// try sends a command that is to succeed.
func (c *client) try(command string) error {
	name, _, _ := strings.Cut(command, " ")
	if _, err := io.WriteString(c, "t "+command+"\r\n"); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	for {
		line, err := c.in.ReadString('\n')
		switch {
		case err != nil:
			return fmt.Errorf("%s: %w", name, err)
		case strings.HasPrefix(line, "t OK"):
			return nil
		case strings.HasPrefix(line, "t ") || strings.HasPrefix(line, "* BYE") && name != "LOGOUT":
			return fmt.Errorf("%s: %s", name, strings.TrimSpace(line))
		}
	}
}

// churn logs in and out, again and again.
func (c *crowd) churn() {
	tick := time.NewTicker(time.Second / time.Duration(crowdRate()))
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-c.stop:
			return
		case <-tick.C:
		}
		c.wg.Go(func() {
			defer c.logins.Add(1)
			began := time.Now()
			s, err := c.login(fmt.Sprintf("user%d@example.org", n%40))
			took := time.Since(began)
			if err == nil {
				err = s.try("NOOP")
				_ = s.try("LOGOUT")
				_ = s.Close()
			}
			c.mu.Lock()
			defer c.mu.Unlock()
			if err != nil {
				c.failed = append(c.failed, err)
			} else {
				c.took = append(c.took, took)
			}
		})
	}
}

func (c *crowd) fail(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = append(c.failed, err)
}

// pass waits until a second's worth of logins have come and gone.
func (c *crowd) pass(t *testing.T) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(patience)
	for until := c.logins.Load() + int64(crowdRate()); c.logins.Load() < until; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("logins have stopped")
		}
	}
}

// end checks that nobody has noticed anything, and prints the figures.
func (c *crowd) end(t *testing.T, what string) {
	t.Helper()
	c.pass(t)
	close(c.stop)
	c.wg.Wait()
	for i, err := range c.failed {
		if i < 10 {
			t.Errorf("a login: %v", err)
		}
	}
	closed := 0
	for _, s := range c.idle {
		if err := s.try("NOOP"); err != nil {
			if closed++; closed < 10 {
				t.Errorf("an idle session: %v", err)
			}
		}
	}
	if len(c.halls.twice) > 0 {
		t.Errorf("on two backends at once: %q", c.halls.twice)
	}
	slices.Sort(c.took)
	if len(c.took) == 0 {
		t.Fatal("nobody has logged in")
	}
	t.Logf("%s, %d idle sessions, %d logins at %d/s: %d failed, %d sessions closed; login p50 %s, p99 %s, longest %s", what, len(c.idle), len(c.took),
		crowdRate(), len(c.failed), closed, c.took[len(c.took)/2], c.took[len(c.took)*99/100], c.took[len(c.took)-1])
}

func TestChaosReloads(t *testing.T) {
	c, proc := newCrowd(t, (*installed).serving)
	ca := proxytest.NewCA(t)
	second := proxytest.FreeAddress(t)
	first, extra := c.listen[0], c.extra
	for i := range crowdReloads() {
		switch i % 4 {
		case 0:
			c.writeTable(t, fmt.Sprintf("@example.org halls\nalice@example.org mail%d\n", 1+i/4%2))
		case 1:
			proxytest.WritePair(t, c.dir, "cert", ca.Issue(t, proxytest.CertOptions{}))
		case 2:
			c.listen = []string{first, second}
		case 3:
			c.listen = []string{first}
			c.extra = fmt.Sprintf("  more%d: {address: \"127.0.0.1:1\", tls: none}\n", i) + extra
		}
		c.writeConfig(t)
		proc.signal(t, syscall.SIGHUP)
		proc.waitLine(t, "configuration reloaded")
		c.pass(t)
	}
	c.end(t, fmt.Sprintf("%d reloads", crowdReloads()))
}

func TestChaosUpgrades(t *testing.T) {
	c, _ := newCrowd(t, (*installed).serving)
	var took []float64
	for i := range crowdUpgrades() {
		if i == 1 {
			c.script(t, "exit 1")
			if code, _, _ := command(t, "upgrade", "-c", c.path()); code != exitFailed {
				t.Errorf("upgraded to a broken program: exit code %d", code)
			}
			c.program(t, os.Args[0])
		} else {
			took = append(took, c.upgrade(t).TookSeconds)
		}
		c.pass(t)
	}
	c.end(t, fmt.Sprintf("%d upgrades (seconds: %.3f), one to a broken program", crowdUpgrades(), took))
}

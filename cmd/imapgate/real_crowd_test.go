package main_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// crowdPassword is the password of everybody in a crowd.
const crowdPassword = "Xq7-crowd-Vw2"

// Bounds of what a crowd does at the same time.
const (
	crowdInFlight = 12
	crowdTick     = 4 * time.Millisecond // between one beginning and the next
)

// crowdUser is one of many users, and their present session. Unlike those of
// realConn its methods return what goes wrong: they are called by goroutines that
// cannot end the test.
type crowdUser struct {
	name   string
	number int
	source string // address of the user's client
	conn   *crowdConn
	logins int // that succeeded
}

// crowdConn is an authenticated connection, idling.
type crowdConn struct {
	net.Conn
	r *bufio.Reader
}

func newCrowdConn(nc net.Conn) *crowdConn { return &crowdConn{nc, bufio.NewReader(nc)} }

// refusedError is a tagged response other than OK.
type refusedError string

func (e refusedError) Error() string { return "refused: " + string(e) }

// each lets users act, a bounded number at a time and at a bounded rate, and
// waits for all of them.
func each(t *testing.T, users []*crowdUser, act func(context.Context, *crowdUser) error) {
	t.Helper()
	tick := time.NewTicker(crowdTick)
	defer tick.Stop()
	slots := make(chan struct{}, crowdInFlight)
	var wg sync.WaitGroup
	for _, u := range users {
		slots <- struct{}{}
		<-tick.C
		wg.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(t.Context(), realPatience)
			defer cancel()
			if err := act(ctx, u); err != nil {
				t.Errorf("%s: %v", u.name, err)
			}
		})
	}
	wg.Wait()
}

// dial opens a connection to imapgate as far as the greeting. A quarter of the users
// speak TLS.
func (u *crowdUser) dial(ctx context.Context, g *realGate) (*crowdConn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(u.source)}}
	addr := g.Clear
	if u.number%4 == 0 {
		addr = g.TLS
	}
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	if addr == g.TLS {
		tc := tls.Client(nc, g.tlsConfig())
		if err := tc.HandshakeContext(ctx); err != nil {
			nc.Close()
			return nil, err
		}
		nc = tc
	}
	c := newCrowdConn(nc)
	if line, err := c.line(); err != nil || !strings.HasPrefix(line, "* OK ") {
		nc.Close()
		return nil, fmt.Errorf("greeting %q: %w", line, err)
	}
	return c, nil
}

// login opens a session that selects the INBOX and idles.
func (u *crowdUser) login(ctx context.Context, g *realGate) (*crowdConn, error) {
	c, err := u.dial(ctx, g)
	if err != nil {
		return nil, err
	}
	if err = c.command("l", "LOGIN "+u.name+" "+crowdPassword); err == nil {
		u.logins++
		if err = c.command("s", "SELECT INBOX"); err == nil {
			err = c.idle()
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// enter makes a new session the user's present one, and returns the one before.
func (u *crowdUser) enter(ctx context.Context, g *realGate) (old *crowdConn, err error) {
	c, err := u.login(ctx, g)
	if err != nil {
		return nil, err
	}
	old, u.conn = u.conn, c
	return old, nil
}

// visit opens a second session beside the first, and logs out of it.
func (u *crowdUser) visit(ctx context.Context, g *realGate) error {
	c, err := u.login(ctx, g)
	if err != nil {
		return err
	}
	return c.logout()
}

// alive shows that the present session is as it was.
func (u *crowdUser) alive() error {
	if err := u.conn.done(); err != nil {
		return err
	}
	if err := u.conn.command("n", "NOOP"); err != nil {
		return err
	}
	return u.conn.idle()
}

func (c *crowdConn) say(line string) error {
	if err := c.SetDeadline(time.Now().Add(realPatience)); err != nil {
		return err
	}
	_, err := io.WriteString(c, line+"\r\n")
	return err
}

func (c *crowdConn) line() (string, error) {
	if err := c.SetDeadline(time.Now().Add(realPatience)); err != nil {
		return "", err
	}
	line, err := c.r.ReadString('\n')
	return strings.TrimRight(line, "\r\n"), err
}

// until reads up to the line with this beginning.
func (c *crowdConn) until(prefix string) (string, error) {
	for {
		line, err := c.line()
		switch {
		case err != nil:
			return "", fmt.Errorf("wait for %q: got %q: %w", prefix, line, err)
		case strings.HasPrefix(line, prefix):
			return line, nil
		case strings.HasPrefix(line, "* BYE"), !strings.HasPrefix(line, "* "):
			return "", fmt.Errorf("wait for %q: got %q", prefix, line)
		}
	}
}

// command sends a command that must succeed.
func (c *crowdConn) command(tag, text string) error {
	if err := c.say(tag + " " + text); err != nil {
		return err
	}
	line, err := c.until(tag + " ")
	if err == nil && !strings.HasPrefix(line, tag+" OK") {
		err = refusedError(line[len(tag)+1:])
	}
	return err
}

func (c *crowdConn) idle() error {
	if err := c.say("i IDLE"); err != nil {
		return err
	}
	_, err := c.until("+ ")
	return err
}

func (c *crowdConn) done() error {
	if err := c.say("DONE"); err != nil {
		return err
	}
	_, err := c.until("i OK")
	return err
}

// logout ends an idling session.
func (c *crowdConn) logout() error {
	defer c.Close()
	if err := c.done(); err != nil {
		return err
	}
	if err := c.say("o LOGOUT"); err != nil {
		return err
	}
	if line, err := c.line(); err != nil || !strings.HasPrefix(line, "* BYE") {
		return fmt.Errorf("logout: got %q: %w", line, err)
	}
	_, err := c.until("o OK")
	return err
}

// dismissed reads that the session is over: a BYE, and the end.
func (c *crowdConn) dismissed() error {
	for {
		line, err := c.line()
		switch {
		case err != nil:
			return fmt.Errorf("wait for BYE: got %q: %w", line, err)
		case strings.HasPrefix(line, "* BYE "):
			if _, err := c.line(); err != io.EOF { //nolint:errorlint // the end as such
				return fmt.Errorf("behind BYE: %w", err)
			}
			return nil
		case !strings.HasPrefix(line, "* "):
			return fmt.Errorf("wait for BYE: got %q", line)
		}
	}
}

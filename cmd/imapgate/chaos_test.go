package main_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Tests whose names begin with TestChaos hold imapgate to what the README promises
// while something goes wrong. In `make test` they are small, and look only at what
// never may happen; `make chaos` runs them at full size, and there the times count
// too.
var chaos = flag.Bool("chaos", false, "run the TestChaos tests at full size, and judge times too")

// sized returns the size of a scenario.
func sized[T any](small, full T) T {
	if *chaos {
		return full
	}
	return small
}

// figure prints a measured figure of a scenario, and fails the test at full size
// when it is not what is promised.
func figure(t *testing.T, kept bool, format string, args ...any) {
	t.Helper()
	text := fmt.Sprintf(format, args...)
	if *chaos && !kept {
		t.Errorf("%s: not what is promised", text)
		return
	}
	t.Log(text)
}

// tally is what came of many logins.
type tally struct {
	mu      sync.Mutex
	took    []time.Duration // of those that were answered
	replies map[string]int  // by the beginning of the tagged reply
	errors  []error         // of those that were not answered
}

func (s *tally) add(took time.Duration, reply string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil {
		s.errors = append(s.errors, err)
		return
	}
	if s.replies == nil {
		s.replies = make(map[string]int)
	}
	words := strings.Fields(reply)
	kind := words[0]
	if len(words) > 1 && strings.HasPrefix(words[1], "[") && kind != "OK" {
		kind += " " + words[1]
	}
	s.replies[kind]++
	s.took = append(s.took, took)
}

// join adds what came of other logins.
func (s *tally) join(other *tally) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.took = append(s.took, other.took...)
	s.errors = append(s.errors, other.errors...)
	if s.replies == nil {
		s.replies = make(map[string]int)
	}
	for reply, n := range other.replies {
		s.replies[reply] += n
	}
}

// quantile returns the duration below which a share of the logins stayed.
func (s *tally) quantile(q float64) time.Duration {
	if len(s.took) == 0 {
		return 0
	}
	slices.Sort(s.took)
	return s.took[min(len(s.took)-1, int(q*float64(len(s.took))))]
}

func (s *tally) String() string {
	return fmt.Sprintf("%d answers %v, %d without one, p50 %v, p99 %v", len(s.took), s.replies, len(s.errors),
		s.quantile(0.5).Round(time.Microsecond), s.quantile(0.99).Round(time.Microsecond))
}

// only fails the test unless all logins were answered with this.
func (s *tally) only(t *testing.T, what, reply string) {
	t.Helper()
	if len(s.errors) > 0 {
		t.Errorf("%s: %d logins were not answered, one of them: %v", what, len(s.errors), s.errors[0])
	}
	if len(s.took) == 0 || len(s.replies) != 1 || s.replies[reply] != len(s.took) {
		t.Errorf("%s: %v, want nothing but %s", what, s, reply)
	}
}

// chaosLogin logs in and out over TLS, and returns the tagged reply to the login.
func chaosLogin(ctx context.Context, g *realGate, source, user string) (string, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(cmp.Or(source, "127.0.0.1"))}}
	nc, err := d.DialContext(ctx, "tcp", g.TLS)
	if err != nil {
		return "", err
	}
	conn := tls.Client(nc, g.tlsConfig())
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c := newCrowdConn(conn)
	if line, err := c.line(); err != nil {
		return "", fmt.Errorf("greeting: %q: %w", line, err)
	}
	err = c.command("l", "LOGIN "+user+" "+crowdPassword)
	var refused refusedError
	switch {
	case errors.As(err, &refused):
		return string(refused), nil
	case err != nil:
		return "", err
	}
	if err := c.say("o LOGOUT"); err != nil {
		return "", err
	}
	for {
		line, err := c.line()
		if err != nil {
			return "", fmt.Errorf("logout: %q: %w", line, err)
		}
		if strings.HasPrefix(line, "o OK") {
			return "OK", nil
		}
	}
}

// atRate lets logins happen, so many a second whether or not the ones before have
// ended, until ctx ends, and waits for those under way.
func atRate(ctx context.Context, perSecond int, login func(i int)) {
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := 0; ; i++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			wg.Go(func() { login(i) })
		}
	}
}

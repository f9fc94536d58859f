package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
)

// TestSilentSessionsHaveNoGoroutine opens many sessions, which are parked.
func TestSilentSessionsHaveNoGoroutine(t *testing.T) {
	st := newStreet(t)
	const sessions = 50
	release := make(chan struct{})
	defer close(release)
	open := func(i int) {
		done := make(chan struct{})
		nc, in, err := st.login(fmt.Sprintf("%s%d", []string{"c", "s"}[i%2], i), i%4 < 2, func(nc net.Conn, _ *bufio.Reader) {
			close(done)
			_, _ = io.WriteString(nc, "* 1 EXISTS\r\n")
			<-release
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = nc.Close() })
		<-done
		if line, err := in.ReadString('\n'); line != "* 1 EXISTS\r\n" {
			t.Fatalf("%q, %v", line, err) // a loop said it: the session is parked
		}
	}
	for i := range 4 {
		open(i) // what is needed for all of them is there
	}
	before := runtime.NumGoroutine()
	for i := range sessions {
		open(4 + i)
	}
	// A backend of these tests has one goroutine for each.
	if more := runtime.NumGoroutine() - before; more > sessions+sessions/2 {
		t.Errorf("%d goroutines for %d sessions", more-sessions, sessions)
	}
	if n := len(st.server.Sessions()); n != sessions+4 {
		t.Errorf("%d sessions", n)
	}
}

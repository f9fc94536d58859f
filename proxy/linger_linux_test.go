package proxy_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"runtime"
	"testing"
	"time"

	"imapgate/proxy"
)

// TestLoopsRestWhileAClientLingers takes the backend away under sessions whose clients
// do not close: they cost nothing until they do, or have had their time.
func TestLoopsRestWhileAClientLingers(t *testing.T) {
	st := newStreet(t)
	for i, user := range []string{"c1", "s1", "c2", "s2"} {
		nc, in, err := st.login(user, i > 1, func(net.Conn, *bufio.Reader) {})
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
		if said, err := io.ReadAll(in); string(said) != byeLost || err != nil {
			t.Fatalf("%q, %v", said, err)
		}
	}
	soon(t, "the loops rest", loopsRest)
	if n := len(st.server.Sessions()); n != 4 {
		t.Errorf("%d sessions, want those of the clients that linger", n)
	}
	if n, err := st.server.Kick(t.Context(), func(proxy.SessionInfo) bool { return true }, proxy.KickOptions{}); n != 4 || err != nil {
		t.Errorf("%d kicked, %v", n, err)
	}
	soon(t, "the sessions end", func() bool { return len(st.server.Sessions()) == 0 })
}

// TestTheEndOfAClientIsSeenThoughItsBackendTookNothing blocks the way from the client
// when the backend goes. Nothing that the client has sent may hide that it goes too.
func TestTheEndOfAClientIsSeenThoughItsBackendTookNothing(t *testing.T) {
	for i, user := range []string{"c1", "s1", "c2", "s2"} {
		withTLS := i > 1
		t.Run(fmt.Sprintf("%s, TLS %v", user, withTLS), func(t *testing.T) {
			st := newStreet(t)
			leave, gone := make(chan struct{}), make(chan struct{})
			nc, in, err := st.login(user, withTLS, func(nc net.Conn, _ *bufio.Reader) {
				<-leave
				_ = endWriting(nc)
				<-gone
			})
			if err != nil {
				t.Fatal(err)
			}
			defer close(gone)
			defer nc.Close()
			go func() { _, _ = nc.Write(bytes.Repeat([]byte("x"), 32<<20)) }()
			var passed int64
			soon(t, "the way from the client is blocked", func() bool {
				before := passed
				passed = st.server.Sessions()[0].FromClient
				return passed > 0 && passed == before
			})
			close(leave)
			if said, err := io.ReadAll(in); string(said) != byeLost || err != nil {
				t.Fatalf("%q, %v", said, err)
			}
			_ = nc.Close()
			soon(t, "the session ends", func() bool { return len(st.server.Sessions()) == 0 })
		})
	}
}

// soon waits for what does not need a timeout to come.
func soon(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for until := time.After(patience / 3); !is(); {
		select {
		case <-tick.C:
		case <-until:
			t.Fatalf("not: %s", what)
		}
	}
}

// loopsRest tells whether all loops wait for something to come.
func loopsRest() bool {
	buf := make([]byte, 1<<20)
	loops := 0
	for g := range bytes.SplitSeq(buf[:runtime.Stack(buf, true)], []byte("\n\n")) {
		if !bytes.Contains(g, []byte("proxy.(*loop).run(")) {
			continue
		}
		if loops++; !bytes.Contains(g, []byte(" [IO wait")) {
			return false
		}
	}
	return loops > 0
}

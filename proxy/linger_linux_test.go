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
// when the backend goes, with a BYE or without. Nothing that the client has sent may hide
// that it goes too.
func TestTheEndOfAClientIsSeenThoughItsBackendTookNothing(t *testing.T) {
	const byeOwn = "* BYE Autologout.\r\n"
	for i, user := range []string{"c1", "s1", "c2", "s2", "c3", "s3", "c4", "s4"} {
		withTLS, own := i/2%2 == 1, i > 3
		t.Run(fmt.Sprintf("%s, TLS %v, BYE %v", user, withTLS, own), func(t *testing.T) {
			st := newStreet(t)
			leave, gone := make(chan struct{}), make(chan struct{})
			nc, in, err := st.login(user, withTLS, func(nc net.Conn, _ *bufio.Reader) {
				<-leave
				if own {
					_, _ = io.WriteString(nc, byeOwn)
				}
				_ = endWriting(nc)
				<-gone
			})
			if err != nil {
				t.Fatal(err)
			}
			defer close(gone)
			defer nc.Close()
			go func() { _, _ = nc.Write(bytes.Repeat([]byte("x"), 32<<20)) }()
			blocked(t, "the way from the client is blocked", func() int64 { return st.server.Sessions()[0].FromClient })
			close(leave)
			want := byeLost
			if own {
				want = byeOwn
			}
			if said, err := io.ReadAll(in); string(said) != want || err != nil {
				t.Fatalf("%q, %v", said, err)
			}
			_ = nc.Close()
			soon(t, "the session ends", func() bool { return len(st.server.Sessions()) == 0 })
		})
	}
}

// TestAClientThatTakesNothingIsEndedInTime kicks clients that read nothing of what their
// backends send without an end: they go once their last words have waited for long enough.
func TestAClientThatTakesNothingIsEndedInTime(t *testing.T) {
	st := newStreet(t)
	for i, user := range []string{"c1", "s1", "c2", "s2"} {
		nc, _, err := st.login(user, i > 1, func(nc net.Conn, _ *bufio.Reader) {
			lines := bytes.Repeat([]byte("* 1 EXISTS\r\n"), 1<<10)
			for err := error(nil); err == nil; {
				_, err = nc.Write(lines)
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		defer nc.Close()
	}
	blocked(t, "the ways to the clients are blocked", func() (passed int64) {
		for _, s := range st.server.Sessions() {
			passed += s.FromBackend
		}
		return passed
	})
	if n, err := st.server.Kick(t.Context(), func(proxy.SessionInfo) bool { return true }, proxy.KickOptions{}); n != 4 || err != nil {
		t.Errorf("%d kicked, %v", n, err)
	}
	soon(t, "the sessions end", func() bool { return len(st.server.Sessions()) == 0 })
}

// blocked waits until nothing passes any more of what passed.
func blocked(t *testing.T, what string, passed func() int64) {
	t.Helper()
	var before int64
	soon(t, what, func() bool {
		was := before
		before = passed()
		return before > 0 && before == was
	})
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

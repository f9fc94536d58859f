package proxy

import (
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestQuietTellsAnIdleConnectionFromOneThatIsNot looks at real sockets: nothing has
// come, a byte has, the end has, a reset has.
func TestQuietTellsAnIdleConnectionFromOneThatIsNot(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	for name, act := range map[string]func(*net.TCPConn){
		"":     nil,
		"byte": func(c *net.TCPConn) { _, _ = c.Write([]byte("*")) },
		"end":  func(c *net.TCPConn) { _ = c.CloseWrite() },
		"reset": func(c *net.TCPConn) {
			_ = c.SetLinger(0)
			_ = c.Close()
		},
	} {
		near, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		far, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if !quiet(near) {
			t.Errorf("%q: a connection on which nothing has happened is not quiet", name)
		}
		if act != nil {
			act(tcp(t, far))
			awaitSomething(t, near)
			if quiet(near) {
				t.Errorf("a connection is quiet after a %s", name)
			}
		}
		_ = near.Close()
		_ = far.Close()
		if quiet(near) {
			t.Errorf("%q: a connection that is closed is quiet", name)
		}
	}
}

// awaitSomething waits until something can be read, and reads nothing.
func awaitSomething(t *testing.T, nc net.Conn) {
	t.Helper()
	rc, err := tcp(t, nc).SyscallConn()
	if err == nil {
		err = rc.Read(func(fd uintptr) bool {
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
			return err != nil || n > 0
		})
	}
	if err != nil {
		t.Fatal(err)
	}
}

func tcp(t *testing.T, nc net.Conn) *net.TCPConn {
	t.Helper()
	tc, ok := nc.(*net.TCPConn)
	if !ok {
		t.Fatalf("%T is no TCP connection", nc)
	}
	return tc
}

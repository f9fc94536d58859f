package proxy

import (
	"net"
	"testing"

	"github.com/google/go-cmp/cmp"
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

// TestConnectionsInheritWhatFindsDeadOnes compares the options of connections that
// inherit them with those of one that is given them.
func TestConnectionsInheritWhatFindsDeadOnes(t *testing.T) {
	t.Parallel()
	conf := ListenConfig()
	l, err := conf.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	dialled, err := dialTCP(t.Context(), &Backend{Address: l.Addr().String()})
	if err != nil {
		t.Fatal(err)
	}
	accepted, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	plain, err := new(net.Dialer).DialContext(t.Context(), "tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	tuneTCP(plain)
	want := options(t, plain)
	for name, nc := range map[string]net.Conn{"accepted": accepted, "dialled": dialled} {
		if diff := cmp.Diff(want, options(t, nc)); diff != "" {
			t.Errorf("options of the %s connection (-want +got):\n%s", name, diff)
		}
	}
	for _, nc := range []net.Conn{dialled, accepted, plain} {
		_ = nc.Close()
	}
}

// options returns the options of a connection that finds dead ones.
func options(t *testing.T, nc net.Conn) map[string]int {
	t.Helper()
	rc, err := tcp(t, nc).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int)
	err = rc.Control(func(fd uintptr) {
		for name, o := range map[string][2]int{
			"SO_KEEPALIVE":     {unix.SOL_SOCKET, unix.SO_KEEPALIVE},
			"TCP_NODELAY":      {unix.IPPROTO_TCP, unix.TCP_NODELAY},
			"TCP_KEEPIDLE":     {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
			"TCP_KEEPINTVL":    {unix.IPPROTO_TCP, unix.TCP_KEEPINTVL},
			"TCP_KEEPCNT":      {unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
			"TCP_USER_TIMEOUT": {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
		} {
			got[name], err = unix.GetsockoptInt(int(fd), o[0], o[1])
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
	if err != nil || got["SO_KEEPALIVE"] == 0 || got["TCP_USER_TIMEOUT"] == 0 {
		t.Errorf("options are %v, error %v", got, err)
	}
	return got
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

package proxy_test

import (
	"bufio"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

// TestTheEndComesWithTheLastWords lets a backend say BYE and close in one packet. The
// client's last words and the closure alert behind them come in one as well.
func TestTheEndComesWithTheLastWords(t *testing.T) {
	st := newStreet(t)
	nc, in, err := st.login("c1", true, func(nc net.Conn, in *bufio.Reader) {
		_, _ = in.ReadString('\n')
		_, _ = io.WriteString(nc, "a1 OK done\r\n")
		_, _ = in.ReadString('\n')
		cork(t, nc)
		_, _ = io.WriteString(nc, "* BYE\r\na2 OK done\r\n")
	})
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	// The first look at a session reads before the kernel has told that there is an end.
	if _, err := io.WriteString(nc, "a1 NOOP\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := in.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(nc, "a2 LOGOUT\r\n"); err != nil {
		t.Fatal(err)
	}
	if n := in.Buffered(); n > 0 {
		t.Fatalf("%d bytes were read ahead", n)
	}
	packet := make([]byte, 1<<10)
	n, err := nc.(*tls.Conn).NetConn().Read(packet) //nolint:errcheck // login made it
	if err != nil {
		t.Fatal(err)
	}
	var records int
	for rest := packet[:n]; len(rest) >= 5; records++ {
		rest = rest[min(len(rest), 5+int(binary.BigEndian.Uint16(rest[3:]))):]
	}
	if records != 2 {
		t.Errorf("%d records at once, want the last words and the alert", records)
	}
}

// cork makes a connection wait for its end with what is written.
func cork(t *testing.T, nc net.Conn) {
	t.Helper()
	rc, err := nc.(*net.TCPConn).SyscallConn() //nolint:errcheck // a backend without TLS
	if err == nil {
		_ = rc.Control(func(fd uintptr) {
			err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, 1)
		})
	}
	if err != nil {
		t.Error(err)
	}
}

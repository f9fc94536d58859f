package proxy

import (
	"errors"
	"net"
	"testing"
)

// TestASocketKeepsOnlySoMuch writes to one whose other end reads nothing, as crypto/tls
// does for a client that asks for new keys without an end.
func TestASocketKeepsOnlySoMuch(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	k := &socket{tcp: nc.(*net.TCPConn)} //nolint:errcheck // it is TCP
	if err := k.detach(); err != nil {
		t.Fatal(err)
	}
	defer k.release()
	for record := make([]byte, 1000); err == nil; _, err = k.Write(record) {
		if k.unsent != nil && len(*k.unsent) > maxUnsent {
			t.Fatalf("%d bytes are kept", len(*k.unsent))
		}
	}
	if !errors.Is(err, net.ErrClosed) || !k.closed {
		t.Errorf("closed %v, %v", k.closed, err)
	}
}

package proxy

import (
	"bytes"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"io"
	"math/big"
	"net"
	"testing"
	"time"
)

// TestMemoryOfSilentTLSConnections sends large records, and asks that nothing of their
// buffers stays, half a record aside; and that what stays is used later on.
func TestMemoryOfSilentTLSConnections(t *testing.T) {
	t.Parallel()
	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(nil, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	client := tls.Client(a, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12})
	halting := &haltingConn{Conn: b}
	server := tls.Server(halting, &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}, MinVersion: tls.VersionTLS12})
	shaken := make(chan error, 1)
	go func() { shaken <- client.Handshake() }()
	if err := server.Handshake(); err != nil {
		t.Fatal(err)
	}
	if err := <-shaken; err != nil {
		t.Fatal(err)
	}

	memory := memoryOf(server)
	if memory.rawInput == nil {
		t.Fatal("crypto/tls is not as expected: its buffers are not given back")
	}
	if memory.forget(); *memory.ekm != nil || *memory.resumptionSecret != nil {
		t.Error("secrets that nobody needs any more stay")
	}
	sent := bytes.Repeat([]byte("0123456789abcdef"), 4<<10)
	go func() { _, _ = client.Write(sent) }()
	lent, got := make([]byte, maxRead), make([]byte, 0, len(sent))
	for step := 0; len(got) < len(sent); step++ {
		if step > 1000 {
			t.Fatalf("%d of %d bytes", len(got), len(sent))
		}
		memory.lend(lent)
		halting.left = 1000 // then it would block, in the middle of a record or not
		buf := make([]byte, maxRecord)
		for {
			n, err := server.Read(buf)
			got = append(got, buf[:n]...)
			if err != nil && !isWouldBlock(err) {
				t.Fatal(err)
			}
			if err != nil || len(got) == len(sent) {
				break
			}
		}
		memory.takeBack()
		clear(lent) // it is somebody else's now
		if kept := memory.rawInput.Len(); memory.rawInput.Cap() > kept+kept/4+64 || memory.hand.Cap() > 0 {
			t.Fatalf("%d bytes are kept in %d, and %d of the handshake", kept, memory.rawInput.Cap(), memory.hand.Cap())
		}
	}
	if !bytes.Equal(got, sent) {
		t.Error("other bytes came")
	}
	if kept := memory.rawInput.Cap(); kept > 0 {
		t.Errorf("%d bytes are kept for nothing", kept)
	}
}

// haltingConn would block after so many bytes.
type haltingConn struct {
	net.Conn
	left int // 0 during the handshake: no limit
}

func (h *haltingConn) Read(p []byte) (int, error) {
	switch {
	case h.left < 0:
		return 0, errWouldBlock
	case h.left > 0:
		p = p[:min(len(p), h.left)]
	}
	n, err := h.Conn.Read(p)
	if h.left > 0 {
		if h.left -= n; h.left == 0 {
			h.left = -1
		}
	}
	if err == nil && n == 0 {
		err = io.ErrNoProgress
	}
	return n, err
}

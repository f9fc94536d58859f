package proxytest

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

// speaker is one of the transcript's own ends of a connection: a client, or a
// backend, as the proxy sees them.
type speaker struct {
	who  byte   // 'C' or 'B'
	name string // for messages: "client 1", "backend mail1"
	host string // of a backend, as routes name it
	raw  *Conn
	tags names // what the proxy makes up: backends: its tags; clients: their session id

	// What of the end of the other direction the transcript has told.
	toldEOF, toldClosed bool

	mu       sync.Mutex
	tls      *tls.Conn // nil: clear text
	pending  []byte    // what the proxy said and the transcript did not yet
	readErr  error     // that ended the TLS reader
	tlsReady bool
	tlsErr   error // of the handshake
}

// collect moves what the proxy has said into pending. It is called when all
// goroutines are blocked.
func (s *speaker) collect() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tls == nil {
		s.pending = append(s.pending, s.raw.take()...)
	}
}

// line takes one line without its CRLF.
func (s *speaker) line() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line, rest, ok := bytes.Cut(s.pending, []byte("\r\n"))
	if !ok {
		return "", false
	}
	s.pending = rest
	return string(line), true
}

func (s *speaker) unread() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pending
}

func (s *speaker) skip(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pending = s.pending[n:]
}

// ended says how the proxy has ended its direction, and whether it did so
// cleanly.
func (s *speaker) ended() (eof, closed, clean bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	eof, closed, aborted := s.raw.otherEnd()
	if s.tls == nil {
		return eof, closed, !aborted
	}
	clean = errors.Is(s.readErr, io.EOF) || isAlert(s.readErr)
	return s.readErr != nil || eof, closed, clean
}

// isAlert says whether the proxy ended TLS with an alert: after that no
// close_notify follows.
func isAlert(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

func (s *speaker) send(p []byte) error {
	s.mu.Lock()
	tc := s.tls
	s.mu.Unlock()
	var err error
	if tc != nil {
		_, err = tc.Write(p)
	} else {
		_, err = s.raw.Write(p)
	}
	if err != nil {
		return fmt.Errorf("%s sends: %w", s.name, err)
	}
	return nil
}

func (s *speaker) closeWrite() error {
	s.mu.Lock()
	tc := s.tls
	s.mu.Unlock()
	if tc != nil {
		if err := tc.CloseWrite(); err != nil {
			return err
		}
	}
	return s.raw.CloseWrite()
}

// close closes both directions, as a program that exits does.
func (s *speaker) close() error {
	s.mu.Lock()
	tc := s.tls
	s.mu.Unlock()
	s.toldEOF, s.toldClosed = true, true
	if tc != nil {
		return tc.Close()
	}
	return s.raw.Close()
}

func (s *speaker) abort() {
	s.toldEOF, s.toldClosed = true, true
	s.raw.Abort()
}

// startTLS begins a handshake in its own goroutine, which then reads for the
// rest of the connection. wrap makes the TLS connection over the one given.
func (s *speaker) startTLS(behind string, clearReply bool, wrap func(net.Conn) *tls.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	conn := &prefixConn{Conn: s.raw, read: s.pending, write: []byte(behind)}
	if clearReply {
		conn.clear = func(line []byte) {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.pending = append(s.pending, line...)
		}
	}
	s.pending = nil
	s.tls, s.tlsReady, s.tlsErr, s.readErr = wrap(conn), false, nil, nil
	go s.readTLS(s.tls)
}

func (s *speaker) readTLS(tc *tls.Conn) {
	err := tc.Handshake() //nolint:noctx // the end of the transcript closes the connection
	s.mu.Lock()
	s.tlsReady, s.tlsErr = true, err
	if err != nil {
		s.tls = nil
	}
	s.mu.Unlock()
	buf := make([]byte, 16<<10)
	for err == nil {
		var n int
		n, err = tc.Read(buf)
		s.mu.Lock()
		s.pending = append(s.pending, buf[:n]...)
		s.readErr = err
		s.mu.Unlock()
	}
}

// handshake returns the state of the connection after its handshake.
func (s *speaker) handshake() (state tls.ConnectionState, ready bool, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.tls != nil && s.tlsReady {
		state = s.tls.ConnectionState()
	}
	err = s.tlsErr
	if err == nil && s.readErr != nil && !errors.Is(s.readErr, io.EOF) {
		err = s.readErr // TLS 1.3 servers judge a client's certificate after its handshake
	}
	return state, s.tlsReady, err
}

// prefixConn gives back bytes that were read ahead, sends bytes in one write
// with the first that TLS writes, and hands over a first line in clear text.
type prefixConn struct {
	net.Conn
	read  []byte // to be read first
	write []byte // to be written first
	clear func(line []byte)
	line  []byte
}

func (c *prefixConn) Read(p []byte) (int, error) {
	for c.clear != nil {
		var b [1]byte
		if _, err := c.Conn.Read(b[:]); err != nil {
			return 0, err
		}
		c.line = append(c.line, b[0])
		if b[0] == '\n' {
			c.clear(c.line)
			c.clear = nil
		}
	}
	if len(c.read) > 0 {
		n := copy(p, c.read)
		c.read = c.read[n:]
		return n, nil
	}
	return c.Conn.Read(p)
}

func (c *prefixConn) Write(p []byte) (int, error) {
	if len(c.write) == 0 {
		return c.Conn.Write(p)
	}
	both := append(c.write, p...)
	c.write = nil
	n, err := c.Conn.Write(both)
	return max(0, n-(len(both)-len(p))), err
}

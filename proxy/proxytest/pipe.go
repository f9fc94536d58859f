package proxytest

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"
)

// PipeOptions says how the connections of a [Pipe] look. The zero value is
// ready to use: loopback addresses, unlimited buffers.
type PipeOptions struct {
	// A and B are the addresses of the two ends; the zero value stands for a
	// loopback address. Each end's RemoteAddr is the other's LocalAddr, and both
	// are of type *net.TCPAddr.
	A, B netip.AddrPort

	// Buffer is how many bytes each direction holds before a Write blocks; 0
	// means no limit.
	Buffer int
}

// Pipe returns the two ends of a buffered in-memory connection. Unlike
// [net.Pipe] a Write returns before the other end reads, as it does on TCP, so
// that TLS closure alerts and pipelined commands do not deadlock. Blocked reads
// and writes are durably blocked in the sense of [testing/synctest].
func Pipe(o PipeOptions) (a, b *Conn) {
	if !o.A.IsValid() {
		o.A = netip.MustParseAddrPort("127.0.0.1:40000")
	}
	if !o.B.IsValid() {
		o.B = netip.MustParseAddrPort("127.0.0.1:143")
	}
	ab, ba := newStream(o.Buffer), newStream(o.Buffer)
	a = &Conn{in: ba, out: ab, local: net.TCPAddrFromAddrPort(o.A), remote: net.TCPAddrFromAddrPort(o.B)}
	b = &Conn{in: ab, out: ba, local: net.TCPAddrFromAddrPort(o.B), remote: net.TCPAddrFromAddrPort(o.A)}
	return a, b
}

// Conn is one end of a [Pipe]. It behaves as a *net.TCPConn does, as far as a
// program can tell that does not ask for the file descriptor. All methods are
// safe for concurrent use.
type Conn struct {
	in, out       *stream
	local, remote *net.TCPAddr
}

var _ net.Conn = (*Conn)(nil)

// Read implements [net.Conn].
func (c *Conn) Read(p []byte) (int, error) {
	n, err := c.in.read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = c.opError("read", err)
	}
	return n, err
}

// Write implements [net.Conn].
func (c *Conn) Write(p []byte) (int, error) {
	n, err := c.out.write(p)
	if err != nil {
		err = c.opError("write", err)
	}
	return n, err
}

// CloseWrite ends the direction to the other end, which reads io.EOF behind
// what was written; the direction from it stays open.
func (c *Conn) CloseWrite() error {
	if !c.out.closeWrite() {
		return c.opError("close", net.ErrClosed)
	}
	return nil
}

// CloseRead ends the direction from the other end, whose writes then fail.
func (c *Conn) CloseRead() error {
	c.in.closeRead()
	return nil
}

// Close implements [net.Conn]. What was written can still be read by the other
// end.
func (c *Conn) Close() error {
	open := c.in.closeRead()
	c.out.closeWrite()
	if !open {
		return c.opError("close", net.ErrClosed)
	}
	return nil
}

// Abort closes the connection as a TCP reset does: the other end's reads fail
// with ECONNRESET, bytes that it has not read yet are lost, and its writes fail.
func (c *Conn) Abort() {
	c.in.reset()
	c.out.reset()
	c.in.closeRead()
	c.out.closeWrite()
}

// LocalAddr implements [net.Conn]; it is a *net.TCPAddr.
func (c *Conn) LocalAddr() net.Addr { return c.local }

// RemoteAddr implements [net.Conn]; it is a *net.TCPAddr.
func (c *Conn) RemoteAddr() net.Addr { return c.remote }

// SetDeadline implements [net.Conn].
func (c *Conn) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.SetWriteDeadline(t)
}

// SetReadDeadline implements [net.Conn].
func (c *Conn) SetReadDeadline(t time.Time) error {
	if !c.in.setDeadline(&c.in.reads, t) {
		return c.opError("set", net.ErrClosed)
	}
	return nil
}

// SetWriteDeadline implements [net.Conn].
func (c *Conn) SetWriteDeadline(t time.Time) error {
	if !c.out.setDeadline(&c.out.writes, t) {
		return c.opError("set", net.ErrClosed)
	}
	return nil
}

// Buffered returns how many bytes the other end wrote that are not read yet.
func (c *Conn) Buffered() int {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	return len(c.in.buf)
}

// take returns, and removes, what can be read without blocking.
func (c *Conn) take() []byte {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	b := c.in.buf
	c.in.buf = nil
	c.in.changed.Broadcast()
	return b
}

// otherEnd says whether the other end has stopped writing, closed altogether,
// or aborted.
func (c *Conn) otherEnd() (eof, closed, aborted bool) {
	c.in.mu.Lock()
	eof, aborted = c.in.noMore, c.in.wasReset
	c.in.mu.Unlock()
	c.out.mu.Lock()
	closed = c.out.gone
	c.out.mu.Unlock()
	return eof, closed && eof, aborted
}

func (c *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.local, Addr: c.remote, Err: err}
}

// stream is one direction of a connection.
type stream struct {
	max int // static; 0: no limit

	mu       sync.Mutex
	changed  *sync.Cond
	buf      []byte
	noMore   bool // the writing end is closed
	gone     bool // the reading end is closed
	wasReset bool
	reads    deadline
	writes   deadline
}

type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func newStream(limit int) *stream {
	s := &stream{max: limit}
	s.changed = sync.NewCond(&s.mu)
	return s
}

func (s *stream) read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.gone:
			return 0, net.ErrClosed
		case s.wasReset:
			return 0, os.NewSyscallError("read", syscall.ECONNRESET)
		case s.reads.passed():
			return 0, os.ErrDeadlineExceeded
		case len(p) == 0:
			return 0, nil
		case len(s.buf) > 0:
			n := copy(p, s.buf)
			s.buf = s.buf[n:]
			if len(s.buf) == 0 {
				s.buf = nil
			}
			s.changed.Broadcast()
			return n, nil
		case s.noMore:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *stream) write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for {
		switch {
		case s.noMore:
			return n, net.ErrClosed
		case s.wasReset:
			return n, os.NewSyscallError("write", syscall.ECONNRESET)
		case s.gone:
			return n, os.NewSyscallError("write", syscall.EPIPE)
		case s.writes.passed():
			return n, os.ErrDeadlineExceeded
		case n == len(p):
			return n, nil
		}
		room := len(p) - n
		if s.max > 0 {
			room = min(room, s.max-len(s.buf))
		}
		if room > 0 {
			s.buf = append(s.buf, p[n:n+room]...)
			n += room
			s.changed.Broadcast()
			continue
		}
		s.changed.Wait()
	}
}

func (s *stream) closeWrite() (wasOpen bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wasOpen = !s.noMore
	s.noMore = true
	s.writes.stop()
	s.changed.Broadcast()
	return wasOpen
}

func (s *stream) closeRead() (wasOpen bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	wasOpen = !s.gone
	s.gone = true
	s.reads.stop()
	s.changed.Broadcast()
	return wasOpen
}

func (s *stream) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wasReset = true
	s.buf = nil
	s.changed.Broadcast()
}

func (s *stream) setDeadline(d *deadline, t time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d == &s.reads && s.gone || d == &s.writes && s.noMore {
		return false
	}
	d.stop()
	d.at = t
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			s.mu.Lock()
			defer s.mu.Unlock()
			s.changed.Broadcast()
		})
	}
	s.changed.Broadcast()
	return true
}

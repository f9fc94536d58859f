package proxy

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// socket is a TCP connection that can be parked. It begins as a *net.TCPConn;
// detach makes it one whose reads and writes never block, served by a loop. The
// methods of a detached socket are for one goroutine at a time.
type socket struct {
	tcp *net.TCPConn // nil once detached

	fd       int32
	closed   bool
	readable bool // there may be something to read
	hangUp   bool // the other end has shut down: a short read says nothing
	corked   bool // what is written is collected in unsent
	more     bool // what is written next is not the last: it may wait for what follows

	// unsent is what the socket has not taken yet. Nothing more is read for it
	// before it has gone.
	unsent *[]byte
	failed error // what writing ended with

	limits *limits // nil: there are none, as for nearly all sockets
}

func (k *socket) detached() bool { return k.tcp == nil }

// limits are the deadlines of a detached socket. The zero time is none.
type limits struct{ read, write time.Time }

// wouldBlockError is the error of reads that would block. To crypto/tls, which goes by
// Temporary, it is one after which a read may be tried again.
type wouldBlockError struct{}

func (wouldBlockError) Error() string { return "would block" }

// Timeout implements [net.Error].
func (wouldBlockError) Timeout() bool { return false }

// Temporary implements [net.Error].
func (wouldBlockError) Temporary() bool { return true }

var errWouldBlock net.Error = wouldBlockError{}

func isWouldBlock(err error) bool { return err == errWouldBlock } //nolint:errorlint // nobody wraps it, and this is asked twice for each read

// parkable returns a connection that can be parked later on, if nc is TCP.
func parkable(nc net.Conn) net.Conn {
	if tcp, ok := nc.(*net.TCPConn); ok {
		return &socket{tcp: tcp}
	}
	return nc
}

// detach takes the connection out of the runtime's hands: its poller would wake a
// thread for everything that comes, beside our own, and costs memory.
func (k *socket) detach() error {
	rc, err := k.tcp.SyscallConn()
	if err != nil {
		return err
	}
	fd := -1
	cerr := rc.Control(func(was uintptr) {
		fd, err = unix.FcntlInt(was, unix.F_DUPFD_CLOEXEC, 0)
	})
	if cerr != nil {
		return cerr
	}
	if err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	_ = k.tcp.Close()
	*k = socket{fd: int32(fd), readable: true}
	return nil
}

// Read implements [net.Conn].
func (k *socket) Read(p []byte) (int, error) {
	switch {
	case !k.detached():
		return k.tcp.Read(p)
	case k.closed:
		return 0, net.ErrClosed
	case k.limits != nil && passed(k.limits.read):
		return 0, os.ErrDeadlineExceeded
	case !k.readable:
		return 0, errWouldBlock
	case len(p) == 0:
		return 0, nil
	}
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(k.fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p))) //nolint:gosec // it does not block, so the scheduler need not know
		switch {
		case errno == unix.EINTR:
			continue
		case errno == unix.EAGAIN:
			k.readable = false
			return 0, errWouldBlock
		case errno != 0:
			return 0, os.NewSyscallError("read", errno)
		case n == 0:
			return 0, io.EOF
		}
		if int(n) < len(p) && !k.hangUp {
			k.readable = false // it is empty, and epoll tells of whatever comes
		}
		return int(n), nil
	}
}

func passed(t time.Time) bool { return !t.IsZero() && !time.Now().Before(t) }

// maxUnsent is how much is kept for a socket at the most. What is passed on is less,
// since nothing more is read for it before it has gone; but crypto/tls answers every
// key update that it is asked for, and the other end may read none of the answers.
const maxUnsent = 4 * maxRead

// Write implements [net.Conn]. Once detached it always takes all of p, and closes when
// that is too much to keep.
func (k *socket) Write(p []byte) (int, error) {
	switch {
	case !k.detached():
		return k.tcp.Write(p)
	case k.closed:
		return 0, net.ErrClosed
	case k.failed != nil:
		return 0, k.failed
	case k.unsent != nil && len(*k.unsent)+len(p) > maxUnsent:
		_ = k.Close()
		return 0, net.ErrClosed
	case k.unsent != nil:
		*k.unsent = append(*k.unsent, p...)
		return len(p), nil
	}
	n := k.send(p)
	if k.failed != nil {
		return n, k.failed
	}
	if n < len(p) {
		k.keep(p[n:])
	}
	return len(p), nil
}

// send writes as much of p as the socket takes.
func (k *socket) send(p []byte) (sent int) {
	flags := unix.MSG_NOSIGNAL
	if k.more {
		k.more = false
		flags |= unix.MSG_MORE
	}
	for sent < len(p) {
		n, _, errno := unix.RawSyscall6(unix.SYS_SENDTO, uintptr(k.fd), uintptr(unsafe.Pointer(&p[sent])), uintptr(len(p)-sent), uintptr(flags), 0, 0) //nolint:gosec // as in Read
		if errno == 0 {
			sent += int(n)
			continue
		}
		if errno == unix.EAGAIN {
			break
		}
		if errno != unix.EINTR {
			k.failed = os.NewSyscallError("sendto", errno)
			break
		}
	}
	return sent
}

// keep keeps p until the socket takes it. The room is made to measure: clients
// that do not read are the ones there are many of.
func (k *socket) keep(p []byte) {
	b := append([]byte(nil), p...)
	k.unsent = &b
}

// corks are where TLS records are collected.
var corks = sync.Pool{New: func() any {
	b := make([]byte, 0, maxRead+maxRead/64)
	return &b
}}

// cork collects what is written until uncork, so that TLS records go out with one
// system call.
func (k *socket) cork() {
	if k.unsent == nil {
		k.corked = true
		k.unsent, _ = corks.Get().(*[]byte)
	}
}

func (k *socket) uncork() {
	b := k.unsent
	if !k.corked || b == nil {
		return
	}
	k.corked, k.unsent = false, nil
	if k.failed == nil && !k.closed {
		if n := k.send(*b); k.failed == nil && n < len(*b) {
			k.keep((*b)[n:])
		}
	}
	*b = (*b)[:0]
	corks.Put(b)
}

// flush goes on with what the socket did not take before.
func (k *socket) flush() {
	if k.unsent == nil {
		return
	}
	rest := (*k.unsent)[k.send(*k.unsent):]
	if len(rest) == 0 || k.failed != nil {
		k.unsent = nil
		return
	}
	*k.unsent = rest
}

// expire gives up what was not sent in time.
func (k *socket) expire() {
	if k.unsent != nil && k.limits != nil && passed(k.limits.write) {
		k.unsent, k.failed = nil, os.ErrDeadlineExceeded
	}
}

// Close implements [net.Conn]. Whoever serves a detached socket calls release then.
func (k *socket) Close() error {
	if !k.detached() {
		return k.tcp.Close()
	}
	k.closed, k.unsent = true, nil
	return nil
}

// release gives the descriptor back. It is false when that was done before.
func (k *socket) release() bool {
	if !k.detached() || k.fd < 0 {
		return false
	}
	_ = unix.Close(int(k.fd))
	k.fd = -1
	return true
}

// CloseWrite ends the direction to the other end.
func (k *socket) CloseWrite() error {
	switch {
	case !k.detached():
		return k.tcp.CloseWrite()
	case k.closed:
		return net.ErrClosed
	}
	return os.NewSyscallError("shutdown", unix.Shutdown(int(k.fd), unix.SHUT_WR))
}

// limit returns the deadlines, to be changed.
func (k *socket) limit() *limits {
	if k.limits == nil {
		k.limits = new(limits)
	}
	return k.limits
}

// SetDeadline implements [net.Conn].
func (k *socket) SetDeadline(t time.Time) error {
	if !k.detached() {
		return k.tcp.SetDeadline(t)
	}
	return k.SetReadDeadline(t)
}

// SetReadDeadline implements [net.Conn].
func (k *socket) SetReadDeadline(t time.Time) error {
	if !k.detached() {
		return k.tcp.SetReadDeadline(t)
	}
	k.limit().read = t
	return nil
}

// SetWriteDeadline implements [net.Conn]. It does nothing once detached: no write
// blocks, and what crypto/tls sets around its last words would take them back.
func (k *socket) SetWriteDeadline(t time.Time) error {
	if !k.detached() {
		return k.tcp.SetWriteDeadline(t)
	}
	return nil
}

// LocalAddr implements [net.Conn]; nobody asks a detached socket.
func (k *socket) LocalAddr() net.Addr {
	if k.detached() {
		return nil
	}
	return k.tcp.LocalAddr()
}

// RemoteAddr implements [net.Conn]; nobody asks a detached socket.
func (k *socket) RemoteAddr() net.Addr {
	if k.detached() {
		return nil
	}
	return k.tcp.RemoteAddr()
}

// SyscallConn implements [syscall.Conn]; nobody asks a detached socket.
func (k *socket) SyscallConn() (syscall.RawConn, error) {
	if k.detached() {
		return nil, net.ErrClosed
	}
	return k.tcp.SyscallConn()
}

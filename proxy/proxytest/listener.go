package proxytest

import (
	"net"
	"net/netip"
	"sync"
)

// Listener is an in-memory [net.Listener]. All methods are safe for concurrent
// use, and a blocked Accept is durably blocked in the sense of
// [testing/synctest].
type Listener struct {
	// Buffer bounds the connections that Connect makes, as
	// [PipeOptions].Buffer does. Set it before the first Connect.
	Buffer int

	addr netip.AddrPort // static

	mu      sync.Mutex
	changed *sync.Cond
	queue   []accepted
	closed  bool
}

type accepted struct {
	conn *Conn
	err  error
}

var _ net.Listener = (*Listener)(nil)

// NewListener returns a listener whose address is addr.
func NewListener(addr netip.AddrPort) *Listener {
	l := &Listener{addr: addr}
	l.changed = sync.NewCond(&l.mu)
	return l
}

// Accept implements [net.Listener].
func (l *Listener) Accept() (net.Conn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.queue) == 0 && !l.closed {
		l.changed.Wait()
	}
	if l.closed {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
	first := l.queue[0]
	l.queue = l.queue[1:]
	if first.err != nil {
		return nil, first.err
	}
	return first.conn, nil
}

// Close implements [net.Listener]. Connections that nobody accepted are reset.
func (l *Listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return &net.OpError{Op: "close", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
	l.closed = true
	for _, a := range l.queue {
		if a.conn != nil {
			a.conn.Abort()
		}
	}
	l.queue = nil
	l.changed.Broadcast()
	return nil
}

// Addr implements [net.Listener]; it is a *net.TCPAddr.
func (l *Listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

// Connect returns the client's end of a new connection, which comes from the
// address given. It does not wait until it is accepted.
func (l *Listener) Connect(from netip.AddrPort) (*Conn, error) {
	client, server := Pipe(PipeOptions{A: from, B: l.addr, Buffer: l.Buffer})
	if err := l.push(accepted{conn: server}); err != nil {
		return nil, err
	}
	return client, nil
}

// Fail makes one Accept return err, once it has returned what is queued before.
func (l *Listener) Fail(err error) error { return l.push(accepted{err: err}) }

func (l *Listener) push(a accepted) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return &net.OpError{Op: "dial", Net: "tcp", Addr: l.Addr(), Err: net.ErrClosed}
	}
	l.queue = append(l.queue, a)
	l.changed.Broadcast()
	return nil
}

package proxytest

import (
	"context"
	"net"
	"net/netip"
	"sync"

	"imapgate/proxy"
)

// Network is an in-memory network of backends, by the name that routes use. Its
// Dial is a [proxy.DialFunc]. The zero value is an empty network, where every
// connection is refused. All methods are safe for concurrent use.
type Network struct {
	wg sync.WaitGroup

	mu       sync.Mutex
	backends map[string]*Backend
	conns    []*Conn
	dialled  map[string]int
	closed   bool
}

// Add puts a backend into the network, in the place of one of that name.
func (n *Network) Add(name string, b *Backend) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.backends == nil {
		n.backends = make(map[string]*Backend)
	}
	n.backends[name] = b
}

// Dialled returns how often a backend was dialled, in vain too.
func (n *Network) Dialled(name string) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.dialled[name]
}

// Dial connects to a backend, which then serves the connection in a goroutine
// that Close waits for.
func (n *Network) Dial(_ context.Context, b *proxy.Backend) (net.Conn, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dialled == nil {
		n.dialled = make(map[string]int)
	}
	n.dialled[b.Name]++
	server := n.backends[b.Name]
	if server == nil || n.closed {
		return nil, errRefused
	}
	port := uint16(50000 + len(n.conns)%10000)
	near, far := Pipe(PipeOptions{
		A:      netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 254}), port),
		B:      netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 1}), 143),
		Buffer: server.Buffer,
	})
	n.conns = append(n.conns, far)
	n.wg.Go(func() { server.serve(far) })
	return near, nil
}

// Close resets all connections, and waits for the backends.
func (n *Network) Close() {
	n.mu.Lock()
	n.closed = true
	for _, c := range n.conns {
		c.Abort()
	}
	n.mu.Unlock()
	n.wg.Wait()
}

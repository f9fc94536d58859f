package proxytest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing/synctest"
	"time"

	"imapgate/proxy"
)

// dial is the proxy's attempt to connect to a backend.
type dial struct {
	backend string
	address string
	answer  chan answer // buffered
}

type answer struct {
	conn net.Conn
	err  error
}

// dial is the proxy's [proxy.DialFunc].
func (r *runner) dial(ctx context.Context, b *proxy.Backend) (net.Conn, error) {
	d := &dial{backend: b.Name, address: b.Address, answer: make(chan answer, 1)}
	r.mu.Lock()
	r.dials = append(r.dials, d)
	r.mu.Unlock()
	select {
	case a := <-d.answer:
		return a.conn, a.err
	case <-ctx.Done():
		r.mu.Lock()
		r.dials = slices.DeleteFunc(r.dials, func(other *dial) bool { return other == d })
		r.mu.Unlock()
		select {
		case a := <-d.answer: // both happened; nobody may lose the connection
			return a.conn, a.err
		default:
		}
		return nil, ctx.Err()
	}
}

func (r *runner) connect(e event) error {
	from := r.setup.client
	if e.arg(0) == "from" {
		var err error
		if from, err = netip.ParseAddrPort(e.arg(1)); err != nil {
			return err
		}
	}
	conn, err := r.listener.Connect(from)
	if err != nil {
		return err
	}
	r.client = &speaker{who: 'C', name: fmt.Sprintf("client %d", len(r.clients)+1), raw: conn}
	r.clients = append(r.clients, r.client)
	return nil
}

// awaitDial lets time pass until the proxy has dialled a backend.
func (r *runner) awaitDial(backend, within string) error {
	limit, err := time.ParseDuration(within)
	if err != nil {
		return err
	}
	for began := time.Now(); time.Since(began) < limit && !r.hasDialled(backend); synctest.Wait() {
		<-time.After(100 * time.Millisecond)
	}
	return nil
}

func (r *runner) hasDialled(backend string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.ContainsFunc(r.dials, func(d *dial) bool { return d.backend == backend })
}

func (r *runner) answerDial(e event) error {
	if within := e.opts["within"]; within != "" {
		if err := r.awaitDial(e.arg(0), within); err != nil {
			return err
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	i := slices.IndexFunc(r.dials, func(d *dial) bool { return d.backend == e.arg(0) })
	if i < 0 {
		if len(r.dials) > 0 {
			return fmt.Errorf("the proxy has dialled %s instead", r.dials[0].backend)
		}
		return errors.New("the proxy has not dialled")
	}
	d := r.dials[i]
	r.dials = slices.Delete(r.dials, i, i+1)
	switch e.arg(1) {
	case "refused":
		d.answer <- answer{err: errRefused}
		return nil
	case "hangs":
		return nil
	case "":
	default:
		return fmt.Errorf("dial %s", e.arg(1))
	}
	n := len(r.backends) + 1
	address, err := netip.ParseAddrPort(d.address)
	if err != nil {
		address = netip.MustParseAddrPort("10.0.0.1:143") // a name that nothing resolves
	}
	mine, theirs := Pipe(PipeOptions{
		A: address,
		B: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, 254}), uint16(50000+n)), //nolint:gosec // few connections
	})
	r.backend = &speaker{who: 'B', name: fmt.Sprintf("backend %d (%s)", n, d.backend), raw: mine, host: d.backend}
	r.backends = append(r.backends, r.backend)
	d.answer <- answer{conn: theirs}
	return nil
}

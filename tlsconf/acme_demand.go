package tlsconf

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/caddyserver/certmagic"
)

const (
	// A name on demand costs an order. What a crowd of strangers can make us order
	// stays well below what CAs allow: Let's Encrypt has 300 an account in three
	// hours.
	onDemandBurst = 20
	onDemandEvery = time.Minute

	// demandTimeout is what a handshake waits for an order; one takes a few seconds.
	demandTimeout = 7 * time.Second

	// maxOnDemand bounds how many names on demand are kept in memory.
	maxOnDemand = 10_000
)

var (
	errTooMany    = errors.New("too many certificates were asked for within a short time; a client's next attempt tries again")
	errTooLarge   = errors.New("too many names on demand")
	errNotAllowed = errors.New("the name is not allowed any more")
)

// awaiter is a connection whose handshake takes the place of others while it is
// computed, and gives that back while it waits.
type awaiter interface {
	Await(wait func(done <-chan struct{})) error
}

// demand sees to it that there is a certificate for a name that a client asks for,
// and waits for it. The order goes on without the handshake, for the next one. It says
// whether there is a certificate.
func (a *ACME) demand(conn net.Conn, name string) (bool, error) {
	if !a.allowed(name) {
		return false, nil
	}
	m := a.managed(name)
	if m == nil {
		if a.count() >= maxOnDemand {
			a.o.Report(ACMEReport{Name: name, Err: errTooLarge})
			return false, nil
		}
		m = a.add(name, true)
	}
	if m.due(time.Now()) && !a.do(func(ctx context.Context) { a.attempt(ctx, m, a.obtain) }) {
		return false, nil
	}
	wait := func(done <-chan struct{}) {
		t := time.NewTimer(a.o.DemandTimeout)
		defer t.Stop()
		select {
		case <-m.tried:
		case <-t.C:
		case <-done:
		case <-a.stopped:
		}
	}
	if c, ok := conn.(awaiter); ok {
		if err := c.Await(wait); err != nil {
			return false, err
		}
	} else {
		wait(nil)
	}
	return m.isStored(), nil
}

// allowed says whether a certificate for a name may be obtained on demand.
func (a *ACME) allowed(name string) bool {
	return name != "" && a.o.OnDemand != nil && a.o.OnDemand(name) && CheckDomain(name, a.o.Challenge, a.o.Directory) == nil
}

// forget lets go of a name that was obtained on demand.
func (a *ACME) forget(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.names, name)
	a.cache.RemoveManaged([]certmagic.SubjectIssuer{{Subject: name}})
}

func (a *ACME) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return len(a.names)
}

// due says whether a name on demand is to be obtained now, to one caller.
func (m *managed) due(now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.onDemand || m.stored || now.Before(m.next) {
		return false
	}
	m.next = now.Add(retries[0]) // whatever comes of it
	return true
}

// bucket bounds how often something happens: burst times at once, and once more in
// each every.
type bucket struct {
	burst int
	every time.Duration

	mu   sync.Mutex
	left int
	last time.Time // when one was last added
}

// take takes one, if there is one.
func (b *bucket) take(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if added := int(now.Sub(b.last) / b.every); added > 0 {
		b.left, b.last = min(b.burst, b.left+added), now
	}
	if b.left == 0 {
		return false
	}
	b.left--
	return true
}

package proxy

import (
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// failureMemory is how long a client address is remembered after its last
// failed login.
const failureMemory = 10 * time.Minute

// maxFailureEntries bounds the memory of a failureLog: about 10 MiB.
const maxFailureEntries = 100_000

// failureLog counts failed logins by client address, IPv6 by its /64, so that
// each further one is answered more slowly. The zero value is empty.
type failureLog struct {
	mu      sync.Mutex
	entries map[netip.Prefix]failureEntry
}

type failureEntry struct {
	count int
	last  time.Time
}

// add counts a failure of a, and returns how many there are.
func (f *failureLog) add(a netip.Addr, now time.Time) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.entries == nil {
		f.entries = make(map[netip.Prefix]failureEntry)
	}
	key := network(a)
	e := f.entries[key]
	if now.Sub(e.last) > failureMemory {
		e.count = 0
		if len(f.entries) >= maxFailureEntries {
			f.shrink(now)
		}
	}
	e.count++
	e.last = now
	f.entries[key] = e
	return e.count
}

// shrink drops what has expired, and if that is nothing, some entries: an
// attacker with that many addresses is not slowed down by a delay for each.
func (f *failureLog) shrink(now time.Time) {
	for k, e := range f.entries {
		if now.Sub(e.last) > failureMemory {
			delete(f.entries, k)
		}
	}
	for k := range f.entries {
		if len(f.entries) < maxFailureEntries*9/10 {
			return
		}
		delete(f.entries, k)
	}
}

// clear forgets the failures of a: somebody behind it knows a password.
func (f *failureLog) clear(a netip.Addr) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.entries, network(a))
}

// network is what counts as one client: an IPv4 address, or an IPv6 /64.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address at all: a socket that is not TCP
	}
	return p
}

// failureDelay is what the nth failed login of an address waits.
func failureDelay(first, most time.Duration, n int) time.Duration {
	d := first
	for ; n > 1 && d < most; n-- {
		d *= 2
	}
	return min(d, most)
}

// movingAverage is an exponentially weighted mean of durations, over about the
// last eight. The zero value is zero. It is safe for concurrent use; a lost
// update does not matter.
type movingAverage struct{ ns atomic.Int64 }

func (m *movingAverage) add(d time.Duration) {
	old := m.ns.Load()
	if old == 0 {
		m.ns.Store(int64(d))
		return
	}
	m.ns.Store(old + (int64(d)-old)/8)
}

func (m *movingAverage) value() time.Duration { return time.Duration(m.ns.Load()) }

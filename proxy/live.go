package proxy

import (
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// liveBackends is what is known of the backends now, as opposed to what is
// configured. The zero value knows nothing.
type liveBackends struct {
	judging sync.Mutex // held from a verdict until it is told; taken before mu

	mu       sync.Mutex
	backends map[string]*liveBackend
}

// liveBackend is one of them. It is guarded by liveBackends.mu, but for poke.
type liveBackend struct {
	b    *Backend
	caps []string // before login; nil: never heard

	down      bool
	wrong     bool         // the last look found what only the operator can mend
	suspect   bool         // it should be down, but most of its pool looks that way
	since     time.Time    // of the last change
	good, bad int          // looks in a row
	failed    netip.Prefix // a client's, see network
	failedAt  time.Time    // when that client could not be connected
	gate      gate
	poke      chan struct{} // asks for a look at once
}

// update keeps what is known of the backends that cfg still has unchanged, and
// returns the names of the others: they are up until something says otherwise.
func (l *liveBackends) update(cfg *Config) (fresh []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := make(map[string]*liveBackend, len(cfg.Backends))
	for name, b := range cfg.Backends {
		old := l.backends[name]
		if old != nil && old.b.Address == b.Address && old.b.TLS == b.TLS {
			old.b = b
			next[name] = old
			continue
		}
		next[name] = &liveBackend{b: b, poke: make(chan struct{}, 1), gate: gate{room: freshLogins}}
		fresh = append(fresh, name)
	}
	l.backends = next
	return fresh
}

// of returns what is known of b, nil when b is not configured any more. The
// caller holds mu.
func (l *liveBackends) of(b *Backend) *liveBackend {
	if live := l.backends[b.Name]; live != nil && live.b.Address == b.Address && live.b.TLS == b.TLS {
		return live
	}
	return nil
}

// learned notes the capabilities of b.
func (l *liveBackends) learned(b *Backend, caps []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if live := l.of(b); live != nil {
		live.caps = caps
		live.failed = netip.Prefix{}
	}
}

// known returns the capabilities of the backends that were heard, and whether
// those are all.
func (l *liveBackends) known() (heard [][]string, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, live := range l.backends {
		if live.caps != nil {
			heard = append(heard, live.caps)
		}
	}
	return heard, len(heard) == len(l.backends)
}

// verdict is what one look, or one client's failure, leads to.
type verdict int

const (
	unchanged verdict = iota
	nowUp
	nowDown
	suspicious // it should be down, but most of its pool looks that way
)

// looked counts one look at b.
func (l *liveBackends) looked(b *Backend, ck Check, ok bool, now time.Time, pools map[string][]string) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.of(b)
	if live == nil {
		return unchanged
	}
	if ok {
		live.good++
		live.bad, live.suspect = 0, false
		if live.down && live.good >= ck.Rise {
			live.restart(now.Sub(live.since))
			live.down, live.since = false, now
			return nowUp
		}
		return unchanged
	}
	live.bad++
	live.good = 0
	if live.down || live.bad < ck.Fall {
		return unchanged
	}
	return l.fall(live, ck, now, pools)
}

// unreachable counts a client that could not be connected to b. One client's
// trouble says nothing: the backend may refuse it alone. Two different ones do.
func (l *liveBackends) unreachable(b *Backend, ck Check, client netip.Prefix, now time.Time, pools map[string][]string) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.of(b)
	if live == nil || live.down {
		return unchanged
	}
	if ck.Interval > 0 {
		live.look()
	}
	if !live.failed.IsValid() || now.Sub(live.failedAt) > passiveWindow || live.failed == client {
		live.failed, live.failedAt = client, now
		return unchanged
	}
	live.bad = max(live.bad, 1)
	v := l.fall(live, ck, now, pools)
	if v == nowDown {
		live.look() // nobody else finds out when it is up again
	}
	return v
}

// fall takes a backend down, unless most of a pool of two or more looks down: then
// it is rather the checker that is cut off, and the last state is kept.
func (l *liveBackends) fall(live *liveBackend, ck Check, now time.Time, pools map[string][]string) verdict {
	for _, pool := range ck.Pools {
		members := pools[pool]
		bad := 0
		for _, name := range members {
			m := l.backends[name]
			switch {
			case m == nil:
			case m.down && now.Sub(m.since) > max(passiveWindow, 3*ck.Interval):
				// It has been down for long: that says nothing about this moment.
			case m.down, m.bad > 0:
				bad++
			}
		}
		if len(members) > 1 && 2*bad > len(members) {
			if live.suspect {
				return unchanged
			}
			live.suspect = true
			return suspicious
		}
	}
	live.down, live.since, live.good = true, now, 0
	live.dismiss()
	return nowDown
}

// look asks for a look at once.
func (live *liveBackend) look() {
	select {
	case live.poke <- struct{}{}:
	default: // it has been asked for
	}
}

func (l *liveBackends) poker(b *Backend) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if live := l.of(b); live != nil {
		return live.poke
	}
	return nil
}

// nextLook returns when to look again; nil: when somebody asks. A first failure is
// looked into more quickly.
func (l *liveBackends) nextLook(b *Backend, ck Check) *time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.of(b)
	d := ck.Interval
	switch {
	case live == nil:
		return nil
	case d <= 0 && live.bad == 0 && !live.down:
		return nil
	case d <= 0:
		d = retryLook
	case live.bad > 0 && !live.down || live.good > 0 && live.down:
		d = min(d, max(d/4, minLook))
	}
	d -= rand.N(max(d/10, 1)) //nolint:gosec // so that proxies do not look in step
	return &d
}

// upWithin says whether b is up, or was within d.
func (l *liveBackends) upWithin(b *Backend, d time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.of(b)
	return live != nil && (!live.down || time.Since(live.since) < d)
}

// noteWrong notes whether a look failed for what only the operator can mend.
func (l *liveBackends) noteWrong(b *Backend, fail *failure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if live := l.of(b); live != nil {
		live.wrong = fail != nil && fail.result == resultMisconfigured
	}
}

// isWrong says whether a backend is down for what only the operator can mend.
func (l *liveBackends) isWrong(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.backends[name]
	return live != nil && live.down && live.wrong
}

// isDown says whether a backend is down, or not configured any more: nobody may
// wait for sessions there to end by themselves.
func (l *liveBackends) isDown(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.backends[name]
	return live == nil || live.down
}

// firstFailure says whether the last look at b was the first bad one in a row.
func (l *liveBackends) firstFailure(b *Backend) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.of(b)
	return live != nil && live.bad == 1 && !live.down
}

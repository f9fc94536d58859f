package proxy

import (
	"context"
	"hash/maphash"
	"net/netip"
	"sync"
	"time"
)

const (
	failureMemory = 10 * time.Minute // after its last failure an address, or a user, is forgotten
	homeMemory    = 30 * 24 * time.Hour
	clearPause    = time.Minute // between two successes that clear an address

	maxFailureEntries = 100_000 // of addresses, and of users: about 10 MiB each
	maxHomes          = 200_000 // about 8 MiB
)

// failureLog counts failed logins by the client's address and by the user's name, so
// that each further one is answered more slowly. The zero value is empty.
//
// What is slowed down is the answer to a wrong password, and nothing else: who has
// the right one is let in at once, whatever others have done from the same address
// or in the same name. So nobody can be locked out. What remains is how long an
// honest mistake takes to be answered:
//
//   - By address: all behind one address share its count. A login that succeeds
//     from there clears it, since somebody there is no guesser; once a minute, or
//     a guesser with an account of his own would clear it before each guess.
//     Networks of many users (webmail, NAT) can be exempted altogether.
//   - By user: this is for guesses at one user from many addresses. Everybody can
//     make a stranger's count grow, so it counts only for addresses from which that
//     user has not logged in before. The user's own devices are not slowed down by
//     an attack, nor do their mistakes count. A success does not clear it: while a
//     user is attacked his own mail program logs in every few minutes.
//
// Names count whether or not they exist, so that the delay does not tell. Guesses
// that wait side by side are bounded by Limits.UnauthenticatedPerAddress: one more
// connection from their address has the oldest of them answered, and hung up on. So
// who takes silence for a no is not slowed down. Whatever slowed him down would do so
// to his neighbours behind the address too: they look alike until a backend has judged.
type failureLog struct {
	mu        sync.Mutex
	addresses failures[netip.Prefix]
	users     failures[string]
	homes     homes
}

// failures counts by key. The zero value is empty.
type failures[K comparable] map[K]failureEntry

type failureEntry struct {
	count   int
	last    time.Time
	cleared time.Time
}

// add counts a failure, and returns how many there are.
func (f *failures[K]) add(key K, now time.Time) int {
	if *f == nil {
		*f = make(failures[K])
	}
	m := *f
	e, ok := m[key]
	if now.Sub(e.last) > failureMemory {
		e = failureEntry{}
	}
	if !ok && len(m) >= maxFailureEntries {
		m.shrink(now)
	}
	e.count++
	e.last = now
	m[key] = e
	return e.count
}

// shrink drops what has expired, and if that is nothing, some entries: an
// attacker with that many addresses is not slowed down by a delay for each.
func (f failures[K]) shrink(now time.Time) {
	for k, e := range f {
		if now.Sub(e.last) > failureMemory {
			delete(f, k)
		}
	}
	for k := range f {
		if len(f) < maxFailureEntries*9/10 {
			return
		}
		delete(f, k)
	}
}

// homes are the addresses from which users have logged in, in few bytes: a hash of
// both, and when. One that is lost costs its user a delay while he is attacked.
// The zero value is empty.
type homes struct {
	seed maphash.Seed
	last map[uint64]int64 // Unix time
}

func (h *homes) key(user string, from netip.Prefix) uint64 {
	return maphash.Comparable(h.seed, struct {
		user string
		from netip.Prefix
	}{user, from})
}

func (h *homes) add(user string, from netip.Prefix, now time.Time) {
	if h.last == nil {
		h.seed, h.last = maphash.MakeSeed(), make(map[uint64]int64)
	}
	key := h.key(user, from)
	if _, ok := h.last[key]; !ok && len(h.last) >= maxHomes {
		for k := range h.last { // any tenth of them
			if delete(h.last, k); len(h.last) < maxHomes*9/10 {
				break
			}
		}
	}
	h.last[key] = now.Unix()
}

func (h *homes) has(user string, from netip.Prefix, now time.Time) bool {
	if h.last == nil {
		return false
	}
	last, ok := h.last[h.key(user, from)]
	return ok && now.Sub(time.Unix(last, 0)) < homeMemory
}

// add counts a failure of a user from an address, "" for a name that is none, and
// returns how many count by address and by user.
func (f *failureLog) add(a netip.Addr, user string, now time.Time) (byAddress, byUser int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	from := network(a)
	byAddress = f.addresses.add(from, now)
	if user != "" && !f.homes.has(user, from, now) {
		byUser = f.users.add(user, now)
	}
	return byAddress, byUser
}

// clear forgets the failures of an address: somebody behind it knows a password.
func (f *failureLog) clear(a netip.Addr, user string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	from := network(a)
	f.homes.add(user, from, now)
	if e, ok := f.addresses[from]; ok && now.Sub(e.cleared) >= clearPause {
		e.count, e.cleared = 0, now
		f.addresses[from] = e
	}
}

// FailedLogins is how many logins of an address or of a user have failed.
type FailedLogins struct {
	Address netip.Prefix // the zero value: it is a user's
	User    string
	Count   int
	Last    time.Time
}

// FailedLogins returns what the delays of failed logins are counted from, for the
// server that takes over from this one.
func (s *Server) FailedLogins() []FailedLogins {
	f := &s.failures
	f.mu.Lock()
	defer f.mu.Unlock()
	out := make([]FailedLogins, 0, len(f.addresses)+len(f.users))
	for address, e := range f.addresses {
		out = append(out, FailedLogins{Address: address, Count: e.count, Last: e.last})
	}
	for user, e := range f.users {
		out = append(out, FailedLogins{User: user, Count: e.count, Last: e.last})
	}
	return out
}

// RestoreFailedLogins takes over what another server counted. Call it before Serve.
func (s *Server) RestoreFailedLogins(list []FailedLogins) {
	f := &s.failures
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, l := range list {
		e := failureEntry{count: l.Count, last: l.Last}
		if l.User != "" {
			f.users.restore(l.User, e)
		} else {
			f.addresses.restore(l.Address, e)
		}
	}
}

func (f *failures[K]) restore(key K, e failureEntry) {
	if *f == nil {
		*f = make(failures[K])
	}
	if len(*f) < maxFailureEntries {
		(*f)[key] = e
	}
}

// failureDelay is what the nth failed login waits; none for the zeroth.
func failureDelay(first, most time.Duration, n int) time.Duration {
	if n == 0 {
		return 0
	}
	d := first
	for ; n > 1 && d < most; n-- {
		d *= 2
	}
	return min(d, most)
}

// delay makes guessing slow: each further failure of an address, and of a user from
// addresses that are not the user's, waits longer. No backend connection is held
// meanwhile.
func (c *conn) delay(ctx context.Context, a *attempt) {
	from := c.client.remote.Addr()
	if contains(c.cfg.ExemptNetworks, from) {
		return
	}
	byAddress, byUser := c.srv.failures.add(from, a.route.key, time.Now())
	limit := limitFailures
	if byUser > byAddress {
		limit = limitUserFailures
	}
	c.srv.metrics.Limited(limit)
	ctx, cancel := context.WithDeadline(ctx, c.started.Add(c.cfg.LoginTimeout))
	defer cancel()
	c.srv.wait(ctx, failureDelay(c.cfg.FailureDelay, c.cfg.FailureDelayMax, max(byAddress, byUser)))
}

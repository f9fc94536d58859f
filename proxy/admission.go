package proxy

import (
	"container/list"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// admission counts what clients take up, for Limits. The zero value counts nothing
// yet. It belongs to the server and not to its configuration, so that a reload
// forgets nobody.
type admission struct {
	mu        sync.Mutex
	all       int
	waiting   list.List // of *conn: who is not logged in, oldest first
	addresses map[netip.Prefix]addressCount
	users     map[string]*userCount
	lines     map[string]time.Time // when a limit was logged last
}

// addressCount is what one address has.
type addressCount struct {
	all, waiting int
	queue        *list.List // of *conn: who of it is not logged in, oldest first; nil when nobody is
}

// userCount is what one user has.
type userCount struct {
	sessions int
	from     []fromCount // by address, but for exempt ones; there are few
}

type fromCount struct {
	address  netip.Prefix
	sessions int
}

// at returns where the sessions from an address are counted, -1 for nowhere.
func (u *userCount) at(address netip.Prefix) int {
	return slices.IndexFunc(u.from, func(f fromCount) bool { return f.address == address })
}

// place is what one connection takes up, from its accept to the end of its session.
// It is given back by leave, and nowhere else. All fields are guarded by
// admission.mu. The zero value takes up nothing.
type place struct {
	in      *admission
	waiting bool          // not logged in
	queued  *list.Element // in admission.waiting; nil once it was told to go
	own     *list.Element // in the queue of its address, likewise
	owes    int           // the bound it came beyond before it was known whose place it takes; 0: none
	address netip.Prefix  // it counts for; the zero value: for none
	user    string        // whose session it is
	from    netip.Prefix  // the user's address; the zero value: none that counts
	gone    bool          // it was given back
}

// slack is by how many connections a bound may be exceeded while those that were
// told to make room are leaving.
func slack(bound int) int { return max(8, bound/16) }

// judgement is what becomes of a newcomer: which limit it has come up to, "" for none,
// and who makes room for it then. When nobody does, it is turned away.
type judgement struct {
	limit string
	goes  *conn
	now   bool // those who were told before it are slow to go: this one is not waited for
}

func (j judgement) refused() bool { return j.limit != "" && j.goes == nil }

// arrive gives c a place, unless there is no room for it within bound (0: none) or
// at its address. The address is counted at once, so that a burst from it is judged
// as what comes one by one is; it is the zero value when it does not count. While it
// is not known yet nobody is told to go: countFor finds out who it is to be.
func (a *admission) arrive(c *conn, address netip.Prefix, known bool, bound int) judgement {
	a.mu.Lock()
	defer a.mu.Unlock()
	full, owes := bound > 0 && a.all >= bound, 0
	if full && (a.all >= bound+slack(bound) || a.waiting.Len() == 0) {
		return judgement{limit: limitConnections}
	}
	j := a.crowded(address, &c.cfg.Limits)
	switch {
	case j.refused():
		return j
	case full && !known:
		owes = bound
	case full && j.goes == nil:
		j = judgement{limit: limitConnections, goes: a.first(&a.waiting)}
	}
	a.all++
	c.place = &place{in: a, waiting: true, queued: a.waiting.PushBack(c), owes: owes, address: address}
	c.place.forAddress(+1)
	return j
}

// crowded judges one more connection from an address. Where the address has as many
// as it may have, its own that has waited longest for its login goes: neither
// strangers nor neighbours behind the same address can be kept out by who only holds
// connections open. The caller holds mu.
func (a *admission) crowded(address netip.Prefix, l *Limits) (j judgement) {
	if !address.IsValid() {
		return j
	}
	has := a.addresses[address]
	var n, bound int
	switch {
	case l.ConnectionsPerAddress > 0 && has.all >= l.ConnectionsPerAddress:
		j.limit, n, bound = limitAddress, has.all, l.ConnectionsPerAddress
	case l.UnauthenticatedPerAddress > 0 && has.waiting >= l.UnauthenticatedPerAddress:
		j.limit, n, bound = limitUnauthenticated, has.waiting, l.UnauthenticatedPerAddress
	default:
		return j
	}
	// Who does not read what it is told takes its time to go. Those after it are not
	// told, or they would keep the place of newcomers together.
	if has.queue != nil && n < bound+2*slack(bound) {
		j.goes, j.now = a.first(has.queue), n >= bound+slack(bound)
	}
	return j
}

// first takes the connection that has waited longest for its login out of a queue, and
// out of the other one that it is in; nil when there is none. The caller tells it to
// go, and holds mu.
func (a *admission) first(queue *list.List) *conn {
	e := queue.Front()
	if e == nil {
		return nil
	}
	c, _ := e.Value.(*conn)
	p := c.place
	p.forAddress(-1)
	a.waiting.Remove(p.queued)
	p.queued = nil
	p.forAddress(+1)
	return c
}

// shed takes a share of those who have not logged in out of the queue, oldest
// first, at least one if there is one.
func (a *admission) shed(share float64) []*conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*conn
	for range max(1, int(share*float64(a.waiting.Len()))) {
		c := a.first(&a.waiting)
		if c == nil {
			break
		}
		out = append(out, c)
	}
	return out
}

// full says whether there is no room within bound.
func (a *admission) full(bound int) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return bound > 0 && a.all >= bound
}

// countFor makes the connection count for an address instead of the one before, if
// there is room for it there. An address that has too many displaces its own, even
// where there are too many in all.
func (p *place) countFor(address netip.Prefix, l *Limits) (j judgement) {
	a := p.in
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.queued == nil {
		return j // it was told to go
	}
	if address != p.address {
		if j = a.crowded(address, l); j.refused() {
			return j
		}
		p.forAddress(-1)
		p.address = address
		p.forAddress(+1)
	}
	if p.owes > 0 && a.all > p.owes && j.goes == nil {
		j = judgement{limit: limitConnections}
		a.waiting.MoveToBack(p.queued) // it is the newcomer, whatever has come meanwhile
		if a.waiting.Len() > 1 {
			j.goes = a.first(&a.waiting)
		}
	}
	p.owes = 0
	return j
}

// forAddress adds n connections like this one to its address, or takes them away. The
// caller holds mu.
func (p *place) forAddress(n int) {
	if !p.address.IsValid() {
		return
	}
	a := p.in
	has := a.addresses[p.address]
	has.all += n
	if p.waiting {
		has.waiting += n
	}
	switch {
	case p.own != nil: // n is negative
		has.queue.Remove(p.own)
		if p.own = nil; has.queue.Len() == 0 {
			has.queue = nil
		}
	case n > 0 && p.queued != nil:
		if has.queue == nil {
			has.queue = list.New()
		}
		p.own = has.queue.PushBack(p.queued.Value)
	}
	if has == (addressCount{}) {
		delete(a.addresses, p.address)
		return
	}
	if a.addresses == nil {
		a.addresses = make(map[netip.Prefix]addressCount)
	}
	a.addresses[p.address] = has
}

// logIn makes the connection a session of a user, unless the user has too many
// already. It returns the limit that forbids it.
func (p *place) logIn(user string, from netip.Prefix, l *Limits) string {
	a := p.in
	a.mu.Lock()
	defer a.mu.Unlock()
	if has := a.users[user]; has != nil {
		switch {
		case l.SessionsPerUser > 0 && has.sessions >= l.SessionsPerUser:
			return limitUser
		case l.SessionsPerUserAddress > 0 && from.IsValid():
			if i := has.at(from); i >= 0 && has.from[i].sessions >= l.SessionsPerUserAddress {
				return limitUserAddress
			}
		}
	}
	p.forAddress(-1)
	p.dequeue()
	p.forAddress(+1)
	p.user, p.from = user, from
	p.forUser(+1)
	return ""
}

// dequeue ends the connection's wait for its login. The caller holds mu.
func (p *place) dequeue() {
	p.waiting = false
	if p.queued != nil {
		p.in.waiting.Remove(p.queued)
		p.queued = nil
	}
}

// forUser adds n sessions like this one to its user. The caller holds mu.
func (p *place) forUser(n int) {
	a := p.in
	has := a.users[p.user]
	if has == nil {
		has = new(userCount)
		if a.users == nil {
			a.users = make(map[string]*userCount)
		}
		a.users[p.user] = has
	}
	if has.sessions += n; has.sessions == 0 {
		delete(a.users, p.user)
		return
	}
	if !p.from.IsValid() {
		return
	}
	i := has.at(p.from)
	if i < 0 {
		i = len(has.from)
		has.from = append(has.from, fromCount{address: p.from})
	}
	if has.from[i].sessions += n; has.from[i].sessions == 0 {
		has.from = slices.Delete(has.from, i, i+1)
	}
}

// leave gives the place back. Only the first call does something.
func (p *place) leave() {
	a := p.in
	a.mu.Lock()
	defer a.mu.Unlock()
	if p.gone {
		return
	}
	p.gone = true
	p.forAddress(-1)
	if p.user != "" {
		p.forUser(-1)
	}
	p.dequeue()
	a.all--
}

// worthALine says whether it is time to log that a limit is reached.
func (a *admission) worthALine(limit string, now time.Time) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if last, ok := a.lines[limit]; ok && now.Sub(last) < limitLogPause {
		return false
	}
	if a.lines == nil {
		a.lines = make(map[string]time.Time)
	}
	a.lines[limit] = now
	return true
}

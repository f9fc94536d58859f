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
type addressCount struct{ all, waiting int }

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
	address netip.Prefix  // it counts for; the zero value: for none
	user    string        // whose session it is
	from    netip.Prefix  // the user's address; the zero value: none that counts
	gone    bool          // it was given back
}

// slack is by how many connections a bound may be exceeded while those that were
// told to make room are leaving.
func slack(bound int) int { return max(8, bound/16) }

// arrive gives c a place, unless its address has too many or bound (0: none) leaves no
// room; then it returns the limit that forbids it. It may be another one that has to
// make room: the caller tells it to go. The address is counted at once, so that a burst
// from it is judged as what comes one by one is; it is the zero value when it is not
// known yet, or does not count.
func (a *admission) arrive(c *conn, address netip.Prefix, bound int) (limit string, goes *conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if limit = a.tooMany(address, &c.cfg.Limits); limit != "" {
		return limit, nil
	}
	if bound > 0 && a.all >= bound {
		if a.all >= bound+slack(bound) {
			return limitConnections, nil
		}
		if goes = a.oldest(); goes == nil {
			return limitConnections, nil
		}
	}
	a.all++
	c.place = &place{in: a, waiting: true, queued: a.waiting.PushBack(c), address: address}
	c.place.forAddress(+1)
	return "", goes
}

// tooMany returns the limit that forbids one more connection from an address, ""
// for none. The caller holds mu.
func (a *admission) tooMany(address netip.Prefix, l *Limits) string {
	if !address.IsValid() {
		return ""
	}
	has := a.addresses[address]
	switch {
	case l.ConnectionsPerAddress > 0 && has.all >= l.ConnectionsPerAddress:
		return limitAddress
	case l.UnauthenticatedPerAddress > 0 && has.waiting >= l.UnauthenticatedPerAddress:
		return limitUnauthenticated
	}
	return ""
}

// oldest takes the connection that has waited longest for its login out of the
// queue, nil when there is none. The caller holds mu.
func (a *admission) oldest() *conn {
	e := a.waiting.Front()
	if e == nil {
		return nil
	}
	c, _ := a.waiting.Remove(e).(*conn)
	c.place.queued = nil
	return c
}

// shed takes a share of those who have not logged in out of the queue, oldest
// first, at least one if there is one.
func (a *admission) shed(share float64) []*conn {
	a.mu.Lock()
	defer a.mu.Unlock()
	var out []*conn
	for range max(1, int(share*float64(a.waiting.Len()))) {
		c := a.oldest()
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

// countFor makes the connection count for an address instead of the one before,
// unless that has too many already. It returns the limit that forbids it.
func (p *place) countFor(address netip.Prefix, l *Limits) string {
	a := p.in
	a.mu.Lock()
	defer a.mu.Unlock()
	if address == p.address {
		return ""
	}
	if limit := a.tooMany(address, l); limit != "" {
		return limit
	}
	p.forAddress(-1)
	p.address = address
	p.forAddress(+1)
	return ""
}

// forAddress adds n connections like this one to its address. The caller holds mu.
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

package admin

import (
	"net/http"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"imapgate/proxy"
	"imapgate/route"
)

// filter chooses sessions. Empty fields choose all.
type filter struct {
	user    string // key, or mask
	masked  bool
	network netip.Prefix
	backend string
	id      string
}

// newFilter reads a filter. A name is made into a key, as a login makes it; a mask
// is lower-cased as keys are, and matches whole keys.
func newFilter(names route.Names, user, ip, backend, id string) (filter, error) {
	f := filter{backend: backend, id: id, masked: isMask(user)}
	switch {
	case f.masked:
		f.user = route.Names{CaseSensitive: names.CaseSensitive}.Key(user)
	case user != "":
		f.user = names.Key(user)
	}
	if ip == "" {
		return f, nil
	}
	if at, err := netip.ParseAddr(ip); err == nil {
		at = at.Unmap().WithZone("")
		f.network = netip.PrefixFrom(at, at.BitLen())
		return f, nil
	}
	network, err := netip.ParsePrefix(ip)
	if err != nil {
		return f, failf(http.StatusBadRequest, "ip=%q is neither an address nor a network", ip)
	}
	f.network = network.Masked()
	return f, nil
}

func (f *filter) empty() bool {
	return f.user == "" && !f.network.IsValid() && f.backend == "" && f.id == ""
}

func (f *filter) match(i proxy.SessionInfo) bool {
	switch {
	case f.id != "" && i.ID != f.id:
		return false
	case f.backend != "" && i.Backend != f.backend:
		return false
	case f.network.IsValid() && !f.network.Contains(i.Remote.Addr().Unmap().WithZone("")):
		return false
	case f.masked:
		return matchMask(f.user, i.User)
	}
	return f.user == "" || f.user == i.User
}

// isMask says whether a name has wildcards.
func isMask(name string) bool {
	for _, c := range name {
		if c == '*' || c == '?' {
			return true
		}
	}
	return false
}

// matchMask matches a name with a mask as doveadm does: * is anything, ? is one
// character. It takes time in proportion to the product of the lengths at worst.
func matchMask(mask, name string) bool {
	m, n := []rune(mask), []rune(name)
	star, back := -1, 0 // the last *, and what it stands for so far
	i, j := 0, 0
	for j < len(n) {
		switch {
		case i < len(m) && m[i] == '*':
			star, back = i, j
			i++
		case i < len(m) && (m[i] == '?' || m[i] == n[j]):
			i++
			j++
		case star >= 0:
			back++
			i, j = star+1, back
		default:
			return false
		}
	}
	for i < len(m) && m[i] == '*' {
		i++
	}
	return i == len(m)
}

// sessions lists sessions.
func (s *Server) sessions(c *call) (*Sessions, error) {
	query := c.URL.Query()
	limit, err := c.number("limit", 0)
	if err != nil {
		return nil, err
	}
	f, err := newFilter(s.Site.InForce().Names, query.Get("user"), query.Get("ip"), query.Get("backend"), query.Get("id"))
	if err != nil {
		return nil, err
	}
	all := s.Proxy.Sessions()
	switch order := query.Get("order"); order {
	case "", "oldest":
	case "newest":
		slices.Reverse(all)
	default:
		return nil, failf(http.StatusBadRequest, "order=%q is neither oldest nor newest", order)
	}
	out := &Sessions{Now: time.Now().UTC(), Sessions: []Session{}}
	for _, i := range all {
		if !f.match(i) {
			continue
		}
		out.Total++
		if limit == 0 || out.Total <= limit {
			out.Sessions = append(out.Sessions, newSession(i))
		}
	}
	return out, nil
}

func newSession(i proxy.SessionInfo) Session {
	return Session{
		ID: i.ID, User: i.User, Backend: i.Backend, Listener: i.Listener, Mechanism: i.Mechanism, TLS: i.TLS,
		IP: i.Remote.Addr().Unmap().String(), Port: int(i.Remote.Port()), Since: i.Since.UTC(),
		BytesFromClient: i.FromClient, BytesFromBackend: i.FromBackend, Ending: i.Ending, PID: i.PID,
	}
}

// sessionsOf counts the sessions of a user.
func (s *Server) sessionsOf(st *route.State, key string) int {
	select {
	case <-st.Gone(key):
		return 0 // without a look at all sessions there are
	default:
	}
	n := 0
	for _, i := range s.Proxy.Sessions() {
		if i.User == key {
			n++
		}
	}
	return n
}

// kick ends sessions. With a rate it takes its time, and ends early with its
// caller.
func (s *Server) kick(c *call, in *KickRequest) (*Kicked, error) {
	f, err := newFilter(s.Site.InForce().Names, in.User, in.IP, in.Backend, in.ID)
	switch {
	case err != nil:
		return nil, err
	case f.empty():
		return nil, failf(http.StatusBadRequest, "say whom: user, ip, backend or id")
	case !(in.Rate >= 0 && in.Rate <= 1e6):
		return nil, failf(http.StatusBadRequest, "rate is a number of sessions a second")
	}
	if _, err := c.change(in.Why, time.Time{}); err != nil {
		return nil, err
	}
	s.changed(c, "kick", "", in.Why, zap.String("user", in.User), zap.String("ip", in.IP), zap.String("backend", in.Backend), zap.Float64("rate", in.Rate))
	n, err := s.Proxy.Kick(c.Context(), f.match, proxy.KickOptions{Rate: in.Rate, Reason: "kick"})
	if err != nil {
		return nil, failf(http.StatusServiceUnavailable, "interrupted after %d sessions", n)
	}
	return &Kicked{Sessions: n}, nil
}

package proxy

import (
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// Limits bound what clients may take up. A field that is zero is no limit. A client
// counts by its real address, that of a PROXY header or of a trusted proxy's ID,
// IPv6 by its /64; a user by the normalised name.
//
// What can be said where a limit is reached depends on when that is known. Before
// TLS on a listener with TLSImplicit nothing can be said in IMAP, and a handshake
// only to say it would cost more than what the limit is to save: the connection is
// closed. All others are told BYE with UNAVAILABLE. A user's limit is known when the
// backend has accepted the credentials, and not before: who has no password learns
// nothing of it. It is answered with NO and LIMIT. See RFC 5530, Section 3.
type Limits struct {
	// Connections bounds connections and sessions in all. Where it is reached the
	// connection that has waited longest for its login makes room; when all are
	// logged in, the new one is turned away. Descriptors (see Options) bound it too.
	Connections int

	// ConnectionsPerAddress bounds connections and sessions of one address,
	// UnauthenticatedPerAddress those that have not logged in. Where one is reached
	// the address's own connection that has waited longest for its login makes room,
	// and when there is none the new one is turned away. Neither is for
	// Config.ExemptNetworks, and for trusted proxies only until they have told
	// whom they speak for.
	ConnectionsPerAddress     int
	UnauthenticatedPerAddress int

	// SessionsPerUser bounds the sessions of one user, SessionsPerUserAddress
	// those from one address, as Dovecot's mail_max_userip_connections does. The
	// latter is not for Config.ExemptNetworks.
	SessionsPerUser        int
	SessionsPerUserAddress int

	// AcceptRate is how many connections are accepted in a second, over all
	// listeners. Others wait in the system's queue.
	AcceptRate int
}

// What limits are called, in metrics and in the log.
const (
	limitConnections     = "connections"
	limitAddress         = "connections_per_address"
	limitUnauthenticated = "unauthenticated_per_address"
	limitUser            = "sessions_per_user"
	limitUserAddress     = "sessions_per_user_and_address"
	limitAcceptRate      = "accept_rate"
	limitFailures        = "failed_logins_per_address"
	limitUserFailures    = "failed_logins_per_user"
	limitOverload        = "overload"
)

// limitError ends a connection that there is no room for.
type limitError struct{ limit string }

func (e *limitError) Error() string { return "limit reached: " + e.limit }

// bye is the last line for who is turned away.
func (e *limitError) bye() string {
	if e.limit == limitConnections || e.limit == limitOverload {
		return "* BYE [UNAVAILABLE] Too many connections."
	}
	return "* BYE [UNAVAILABLE] Too many connections from your address."
}

// countAddress makes the connection count for the address that its client is known
// by now: once that is known at all, and whenever it becomes another one. The error
// ends the connection.
func (c *conn) countAddress() error {
	full := c.srv.settle(c, c.place.countFor(c.countedAddress(), &c.cfg.Limits))
	if full == nil {
		return nil
	}
	if c.state == "accept" || c.state == "proxy" {
		c.state = "limit"
	}
	return full
}

// countedAddress is what the connection counts for by the address that its client is
// known by now, the zero value for none.
func (c *conn) countedAddress() netip.Prefix {
	from := c.client.remote.Addr()
	if contains(c.cfg.ExemptNetworks, from) || contains(c.cfg.TrustedNetworks, from) {
		return netip.Prefix{}
	}
	return network(from)
}

// countUser makes the connection count as a session of the user who has just proved
// to be one. The failure is for a user who has too many.
func (c *conn) countUser(user string) *failure {
	from := network(c.client.remote.Addr())
	if contains(c.cfg.ExemptNetworks, c.client.remote.Addr()) {
		from = netip.Prefix{}
	}
	limit := c.place.logIn(user, from, &c.cfg.Limits)
	if limit == "" {
		return nil
	}
	c.srv.metrics.Limited(limit)
	return &failure{reply: errTooMany, result: resultLimited, state: "login/limit", reason: limit, err: &limitError{limit}}
}

// limitLogPause is how often a limit that is reached all the time is logged.
const limitLogPause = time.Second

// limited counts what a limit has kept or turned out, and logs it now and then: an attack is
// not to fill the disk too.
func (s *Server) limited(limit string, fields ...zap.Field) {
	s.metrics.Limited(limit)
	if s.admission.worthALine(limit, time.Now()) {
		s.log.Warn("limit reached", append(fields, zap.String("limit", limit))...)
	}
}

// network is what counts as one client: an IPv4 address, or an IPv6 /64.
func network(a netip.Addr) netip.Prefix {
	a = a.Unmap()
	bits := a.BitLen()
	if a.Is6() {
		bits = 64
	}
	p, err := a.WithZone("").Prefix(bits)
	if err != nil {
		return netip.Prefix{} // no address at all: a socket that is not TCP
	}
	return p
}

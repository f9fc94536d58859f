package tlsconf

import (
	"crypto/hkdf"
	"crypto/sha256"
	"crypto/tls"
	"fmt"
	"sync/atomic"
)

// Tickets makes and opens the session tickets of listeners, with the keys that
// are set: those of a file survive a restart and are shared by the proxies that
// share the file. Without any, each listener has keys of its own, which nobody
// else knows and which crypto/tls changes daily. The zero value has none. It is
// safe for concurrent use.
type Tickets struct {
	keys atomic.Pointer[TicketKeys]
}

// Set replaces the keys; nil stands for none.
func (t *Tickets) Set(keys *TicketKeys) { t.keys.Store(keys) }

// Attach makes a listener's configuration use these tickets, before it serves.
//
// A configuration that asks for client certificates gets none at all: a ticket
// would carry the identity of one handshake past the verification of the next,
// maybe at a listener that trusts other authorities (CVE-2025-68121). The keys of
// all others are derived from those of the file and from what the listener
// demands of a handshake, so that a ticket does not open where more is demanded.
// The address is not a part of that: a session begun on one port, or at one
// proxy, may be resumed at another.
func (t *Tickets) Attach(c *tls.Config) {
	if c.ClientAuth != tls.NoClientCert {
		c.SessionTicketsDisabled = true
	}
	if c.SessionTicketsDisabled {
		return
	}
	s := &sealer{tickets: t, domain: fmt.Sprintf("imapgate session tickets, TLS %#x or newer, no client certificates", c.MinVersion)}
	c.WrapSession = func(cs tls.ConnectionState, ss *tls.SessionState) ([]byte, error) {
		return s.config().EncryptTicket(cs, ss)
	}
	c.UnwrapSession = func(identity []byte, cs tls.ConnectionState) (*tls.SessionState, error) {
		return s.config().DecryptTicket(identity, cs)
	}
}

// set returns the keys in force, nil for none.
func (t *Tickets) set() *ticketSet {
	if keys := t.keys.Load(); keys != nil {
		return keys.current.Load()
	}
	return nil
}

// sealer is the tickets of one listener.
type sealer struct {
	tickets *Tickets
	domain  string // what the listener demands: the context of its keys
	now     atomic.Pointer[sealed]
}

// sealed is a configuration that serves nothing but its ticket keys.
type sealed struct {
	set  *ticketSet // whose keys they are; nil: keys of its own
	conf *tls.Config
}

// config returns the configuration with the keys in force. It is made when they
// have changed.
func (s *sealer) config() *tls.Config {
	for {
		set, old := s.tickets.set(), s.now.Load()
		if old != nil && old.set == set {
			return old.conf
		}
		next := &sealed{set: set, conf: new(tls.Config)}
		if set != nil {
			next.conf.SetSessionTicketKeys(set.derive(s.domain))
		}
		s.now.CompareAndSwap(old, next) // of two at once, both go on with one
	}
}

// derive returns keys for one purpose. See RFC 5869.
func (set *ticketSet) derive(purpose string) [][32]byte {
	keys := make([][32]byte, len(set.keys))
	for i, key := range set.keys {
		derived, err := hkdf.Key(sha256.New, key.secret[:], nil, purpose, len(keys[i]))
		if err != nil {
			panic("tlsconf: " + err.Error()) // only for lengths that are not asked for
		}
		copy(keys[i][:], derived)
	}
	return keys
}

package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"time"

	"imapgate/route"
)

// TLSMode says when a connection is encrypted. The zero value is invalid, so
// that a forgotten setting never means clear text.
type TLSMode int

// TLS modes, of listeners and of backends.
const (
	TLSImplicit TLSMode = iota + 1 // TLS from the first byte (port 993)
	TLSStartTLS                    // clear text until STARTTLS (port 143); no login before it
	TLSNone                        // clear text; logins in the clear are accepted
)

// String returns the mode as it is written in the configuration file.
func (m TLSMode) String() string {
	switch m {
	case TLSImplicit:
		return "implicit"
	case TLSStartTLS:
		return "starttls"
	case TLSNone:
		return "none"
	}
	return "invalid"
}

// Listener is one listening socket and how its connections begin. It is static
// once handed to [Server.Serve].
type Listener struct {
	net.Listener

	// Name is what logs and metrics call this listener, the configured address.
	Name string

	// Tuned says that the socket was opened with ListenConfig, so that its
	// connections have what the others are given one by one.
	Tuned bool

	// TLS says how TLS begins; TLSConfig is needed unless TLS is TLSNone.
	// One *tls.Config serves all connections: a clone for each would lose
	// session resumption.
	TLS       TLSMode
	TLSConfig *tls.Config

	// ProxyFrom lists the networks whose connections must begin with a PROXY
	// protocol header. When it is not empty, connections from elsewhere are
	// dropped. Empty: no header is expected or understood.
	ProxyFrom []netip.Prefix

	// ProxyTLS says that TLS ends in front of this listener: the SSL TLV of the
	// PROXY header then decides whether the client's connection counts as
	// encrypted. Meaningful with TLSNone and ProxyFrom only.
	ProxyTLS bool

	// CertificateUser names the user of a verified client certificate. With it
	// the listener offers AUTH=EXTERNAL to clients that presented one.
	CertificateUser func(*x509.Certificate) (string, error)
}

// Backend is one IMAP server behind the proxy and how to log in there.
// It is static once it is part of a [Config].
type Backend struct {
	Name    string // as routes name it
	Address string // host:port

	// TLS says how TLS begins; TLSConfig verifies the server, and is needed
	// unless TLS is TLSNone.
	TLS       TLSMode
	TLSConfig *tls.Config

	// CurrentTLS, unless nil, is asked for the configuration of each new
	// connection, in place of TLSConfig: its files change while it serves.
	CurrentTLS func() *tls.Config

	// ProxyProtocol is the version (1 or 2) of the PROXY header that is sent
	// before anything else; 0 sends none.
	ProxyProtocol byte

	// Warm is how many connections at the most are kept ready for a login; 0
	// keeps none. It has no effect beside ProxyProtocol.
	Warm int

	// NoPipelining waits for the reply to ID before it sends the login.
	NoPipelining bool

	// MaxLogins is how many logins may be under way at the same time, from the dial
	// to the tagged reply; others wait. Zero means DefaultMaxLogins.
	MaxLogins int

	// Source is the local address to connect from; the zero value leaves the
	// choice to the system.
	Source netip.Addr

	// MasterUser and MasterPassword log in users whom the proxy itself has
	// authenticated, by their certificate (EXTERNAL): SASL PLAIN with the user
	// as authzid and MasterUser as authcid. Users with a password of their own
	// are logged in with that, always: the proxy cannot check it.
	MasterUser     string
	MasterPassword Secret
}

// Router knows where a user lives. It is a route.Table, but for tests. It is
// called with the normalised name and must be safe for concurrent use. An error
// for which errors.Is(err, route.ErrUnknownUser) holds means that there is no such
// user; any other error means that the question cannot be answered now.
type Router interface {
	Begin(key string) (*route.Lease, error)
}

// Config is everything about serving that a reload may change. It is static
// once handed to [Server.SetConfig]; zero fields take the defaults named here.
type Config struct {
	Router   Router              // required
	Names    route.Names         // how typed names become keys of Router
	Backends map[string]*Backend // by name

	Greeting     string   // text of the greeting: "IMAP server ready."
	ID           []string // key, value, key, value…: the answer to ID; empty: NIL
	Mechanisms   []string // SASL mechanisms enabled: PLAIN LOGIN XOAUTH2 OAUTHBEARER EXTERNAL
	Capabilities []string // pinned capabilities after TLS; empty: they follow the backends

	LoginTimeout   time.Duration // from accept to login, in all: 60 s
	TLSTimeout     time.Duration // one TLS handshake with a client: 10 s
	BackendTimeout time.Duration // from connecting to a backend to its tagged reply, retries included: 30 s
	ConnectTimeout time.Duration // from connecting to a backend to its greeting: 5 s
	CloseSpread    time.Duration // over which the sessions of a dead backend are ended: 30 s

	// Handshakes is how many TLS handshakes with clients are computed at the
	// same time: as many as there are processors.
	Handshakes int

	// Check is how backends are watched, but for those that are in Checks.
	// Health is told what comes of it; nil tells nobody.
	Check  Check
	Checks map[string]Check
	Health HealthSink

	// Limits bound what clients may take up; zero: no limits.
	Limits Limits

	// MaxFailures is the number of failed logins after which a client is
	// disconnected: 10.
	MaxFailures int

	// FailureDelay is what the first failed login of a client address, or of a
	// user from addresses that are not the user's, waits; it doubles with every
	// further one, up to FailureDelayMax: 1 s and 15 s. ExemptNetworks are those
	// of many users (webmail, NAT): addresses there never wait, and the limits
	// that count by address are not for them.
	FailureDelay    time.Duration
	FailureDelayMax time.Duration
	ExemptNetworks  []netip.Prefix

	// TrustedNetworks are those of other proxies, whose ID may tell the
	// client's address and session (x-originating-ip and so on).
	TrustedNetworks []netip.Prefix

	// MasterUsers are the authcids, as normalised names, that may log in as
	// somebody else with an authzid. The master of user*master is the backend's
	// to judge: the separator alone allows the form.
	MasterUsers []string
}

// tlsConfig returns the TLS configuration for a new connection.
func (b *Backend) tlsConfig() *tls.Config {
	if b.CurrentTLS != nil {
		return b.CurrentTLS()
	}
	return b.TLSConfig
}

// DialFunc opens a connection to a backend.
type DialFunc func(ctx context.Context, b *Backend) (net.Conn, error)

// withDefaults returns a copy of the configuration with its zero fields filled
// in, or what is wrong with it.
func (cfg *Config) withDefaults() (*Config, error) {
	if cfg == nil || cfg.Router == nil {
		return nil, errors.New("no router")
	}
	full := *cfg
	if full.Greeting == "" {
		full.Greeting = "IMAP server ready."
	}
	if full.Mechanisms == nil {
		full.Mechanisms = []string{"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "EXTERNAL"}
	}
	setDefault(&full.LoginTimeout, 60*time.Second)
	setDefault(&full.TLSTimeout, 10*time.Second)
	setDefault(&full.BackendTimeout, 30*time.Second)
	setDefault(&full.ConnectTimeout, 5*time.Second)
	setDefault(&full.CloseSpread, 30*time.Second)
	setDefault(&full.Handshakes, runtime.GOMAXPROCS(0))
	setDefault(&full.MaxFailures, 10)
	setDefault(&full.FailureDelay, time.Second)
	setDefault(&full.FailureDelayMax, 15*time.Second)
	full.Capabilities = slices.Clone(full.Capabilities)
	for i, name := range full.Capabilities {
		if up := strings.ToUpper(name); strings.HasPrefix(up, "AUTH=") {
			full.Capabilities[i] = up // as it is compared with what a client asks for
		}
	}
	for _, m := range full.Mechanisms {
		if mechanisms[m] == nil {
			return nil, fmt.Errorf("mechanism %q cannot be routed", m)
		}
	}
	for name, b := range full.Backends {
		switch {
		case b.Name != name:
			return nil, fmt.Errorf("backend %s is called %q", name, b.Name)
		case b.TLS < TLSImplicit || b.TLS > TLSNone:
			return nil, fmt.Errorf("backend %s: no TLS mode", name)
		case b.MaxLogins < 0:
			return nil, fmt.Errorf("backend %s: MaxLogins is %d", name, b.MaxLogins)
		case b.Warm < 0:
			return nil, fmt.Errorf("backend %s: %d warm connections", name, b.Warm)
		case b.ProxyProtocol > 2:
			return nil, fmt.Errorf("backend %s: there is no PROXY protocol version %d", name, b.ProxyProtocol)
		case b.TLS != TLSNone && b.TLSConfig == nil && b.CurrentTLS == nil:
			return nil, fmt.Errorf("backend %s: TLS mode %s without a TLS configuration", name, b.TLS)
		}
	}
	return &full, nil
}

func setDefault[T int | time.Duration](v *T, d T) {
	if *v == 0 {
		*v = d
	}
}

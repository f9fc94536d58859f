package proxytest

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"imapgate/proxy"
)

// setup is what the config section of a transcript describes.
type setup struct {
	ca       *CA
	rogue    *CA // an authority that nobody trusts
	client   netip.AddrPort
	address  netip.AddrPort
	listener proxy.Listener
	config   proxy.Config
	routing  *routing
	check    proxy.Check // of backends that are not in checks
	checks   map[string]proxy.Check
	auth     tls.ClientAuthType
	user     func(*x509.Certificate) (string, error)
	servers  map[string]*tls.Config // of backends, for the runner's side
}

func newSetup(tb testing.TB) *setup {
	tb.Helper()
	return &setup{
		ca: NewCA(tb), rogue: NewCA(tb),
		client:  netip.MustParseAddrPort("192.0.2.1:40000"),
		address: netip.MustParseAddrPort("198.51.100.1:143"),
		config:  proxy.Config{Mechanisms: []string{"PLAIN", "LOGIN"}, Backends: make(map[string]*proxy.Backend)},
		routing: newRouting(),
		checks:  make(map[string]proxy.Check),
		servers: make(map[string]*tls.Config),
	}
}

// set applies one setting.
func (s *setup) set(tb testing.TB, key, value string) error {
	tb.Helper()
	if name, ok := strings.CutPrefix(key, "backend "); ok {
		return s.setBackend(tb, name, value)
	}
	if name, ok := strings.CutPrefix(key, "route "); ok {
		s.routing.rows[name] = value
		return nil
	}
	if name, ok := strings.CutPrefix(key, "pool "); ok {
		return s.routing.addPool(name, value)
	}
	if name, ok := strings.CutPrefix(key, "check "); ok {
		ck := s.check
		err := setCheck(&ck, value)
		s.checks[name] = ck
		return err
	}
	if d, ok := s.durations()[key]; ok {
		v, err := time.ParseDuration(value)
		*d = v
		return err
	}
	if p, ok := s.networks()[key]; ok {
		v, err := prefixes(value)
		*p = v
		return err
	}
	var err error
	c := &s.config
	switch key {
	case "listen":
		s.listener.TLS, err = tlsMode(value)
	case "address":
		s.address, err = netip.ParseAddrPort(value)
	case "client":
		s.client, err = netip.ParseAddrPort(value)
	case "client_auth":
		s.auth = tls.VerifyClientCertIfGiven
		if value == "require" {
			s.auth = tls.RequireAndVerifyClientCert
		}
		if s.user == nil {
			s.user = userFromEmail
		}
	case "client_user":
		s.user = userFromEmail
		if value == "cn" {
			s.user = userFromCommonName
		}
	case "proxy_tls":
		s.listener.ProxyTLS, err = yes(value)
	case "mechanisms":
		c.Mechanisms = strings.Fields(value)
	case "capabilities":
		c.Capabilities = strings.Fields(value)
	case "id":
		c.ID, err = unquoted(value)
	case "greeting":
		c.Greeting = value
	case "master_users":
		c.MasterUsers = strings.Fields(value)
	case "master_separator":
		c.Names.MasterSeparator = value
	case "default_domain":
		c.Names.DefaultDomain = value
	case "case_sensitive":
		c.Names.CaseSensitive, err = yes(value)
	case "check":
		err = setCheck(&s.check, value)
	case "limits":
		err = setLimits(&c.Limits, value)
	case "max_failures":
		c.MaxFailures, err = strconv.Atoi(value)
	default:
		err = errors.New("no such setting")
	}
	return err
}

// setLimits reads a limits line: connections=2 sessions_per_user=1.
func setLimits(l *proxy.Limits, value string) error {
	limits := map[string]*int{
		"connections":                   &l.Connections,
		"connections_per_address":       &l.ConnectionsPerAddress,
		"unauthenticated_per_address":   &l.UnauthenticatedPerAddress,
		"sessions_per_user":             &l.SessionsPerUser,
		"sessions_per_user_and_address": &l.SessionsPerUserAddress,
		"accept_rate":                   &l.AcceptRate,
	}
	for word := range strings.FieldsSeq(value) {
		key, v, _ := strings.Cut(word, "=")
		n, err := strconv.Atoi(v)
		if limits[key] == nil || err != nil {
			return fmt.Errorf("limit %q", word)
		}
		*limits[key] = n
	}
	return nil
}

func (s *setup) durations() map[string]*time.Duration {
	c := &s.config
	return map[string]*time.Duration{
		"login_timeout":     &c.LoginTimeout,
		"tls_timeout":       &c.TLSTimeout,
		"backend_timeout":   &c.BackendTimeout,
		"connect_timeout":   &c.ConnectTimeout,
		"probe":             &s.check.Interval,
		"affinity":          &s.routing.affinity,
		"close_spread":      &c.CloseSpread,
		"failure_delay":     &c.FailureDelay,
		"failure_delay_max": &c.FailureDelayMax,
	}
}

func (s *setup) networks() map[string]*[]netip.Prefix {
	return map[string]*[]netip.Prefix{
		"proxy_from": &s.listener.ProxyFrom,
		"trusted":    &s.config.TrustedNetworks,
		"exempt":     &s.config.ExemptNetworks,
	}
}

func (s *setup) setBackend(tb testing.TB, name, value string) error {
	tb.Helper()
	if value == "none" {
		delete(s.config.Backends, name)
		return nil
	}
	b := &proxy.Backend{Name: name, Address: name + ".internal:143"}
	words, err := splitWords(value)
	if err != nil {
		return err
	}
	for _, w := range words {
		key, v, _ := strings.Cut(w, "=")
		switch key {
		case "tls":
			b.TLS, err = tlsMode(v)
		case "address":
			b.Address = v
		case "proxy":
			var version uint64
			version, err = strconv.ParseUint(v, 10, 8)
			b.ProxyProtocol = byte(version)
		case "warm":
			b.Warm, err = strconv.Atoi(v)
		case "pipelining":
			var on bool
			on, err = yes(v)
			b.NoPipelining = !on
		case "max_logins":
			b.MaxLogins, err = strconv.Atoi(v)
		case "master":
			user, password, _ := strings.Cut(v, ":")
			b.MasterUser, b.MasterPassword = user, proxy.NewSecret([]byte(password))
		default:
			err = errors.New("no such setting")
		}
		if err != nil {
			return fmt.Errorf("backend %s: %s: %w", name, w, err)
		}
	}
	host := name + ".internal"
	if b.TLS != proxy.TLSNone {
		b.TLSConfig = &tls.Config{
			RootCAs: s.ca.Pool(), ServerName: host, MinVersion: tls.VersionTLS12,
			ClientSessionCache: tls.NewLRUClientSessionCache(0),
		}
	}
	s.config.Backends[name] = b
	if s.servers[name] == nil {
		s.servers[name] = &tls.Config{
			Certificates: []tls.Certificate{s.ca.Issue(tb, CertOptions{Hosts: []string{host}})},
			MinVersion:   tls.VersionTLS12,
		}
	}
	return nil
}

// finish makes the listener's TLS configuration, once all is known.
func (s *setup) finish(tb testing.TB, l *Listener) *proxy.Listener {
	tb.Helper()
	pl := s.listener
	pl.Listener, pl.Name = l, s.address.String()
	pl.CertificateUser = s.user
	if pl.TLS != proxy.TLSNone {
		pl.TLSConfig = &tls.Config{
			Certificates: []tls.Certificate{s.ca.Issue(tb, CertOptions{Hosts: []string{"imap.example.org"}})},
			NextProtos:   []string{"imap", "acme-tls/1"},
			ClientAuth:   s.auth,
			ClientCAs:    s.ca.Pool(),
			MinVersion:   tls.VersionTLS12,
		}
	}
	return &pl
}

// snapshot returns the configuration as it is now: what comes later does not
// change it.
func (s *setup) snapshot() (*proxy.Config, error) {
	c := s.config
	router, err := s.routing.load(c.Names, c.Backends)
	if err != nil {
		return nil, err
	}
	c.Router = router
	c.Health = router.table.State()
	c.Backends = maps.Clone(c.Backends)
	c.Check = s.check
	c.Checks = make(map[string]proxy.Check)
	for name := range c.Backends {
		ck, ok := s.checks[name]
		if !ok {
			ck = s.check
		}
		ck.Pools = s.routing.poolsOf(name)
		c.Checks[name] = ck
	}
	return &c, nil
}

func userFromEmail(c *x509.Certificate) (string, error) {
	if len(c.EmailAddresses) != 1 {
		return "", errors.New("not exactly one address")
	}
	return c.EmailAddresses[0], nil
}

func userFromCommonName(c *x509.Certificate) (string, error) {
	if c.Subject.CommonName == "" {
		return "", errors.New("no common name")
	}
	return c.Subject.CommonName, nil
}

func tlsMode(s string) (proxy.TLSMode, error) {
	for _, m := range []proxy.TLSMode{proxy.TLSImplicit, proxy.TLSStartTLS, proxy.TLSNone} {
		if m.String() == s {
			return m, nil
		}
	}
	return 0, fmt.Errorf("tls mode %q", s)
}

func yes(s string) (bool, error) {
	if s != "yes" && s != "no" {
		return false, fmt.Errorf("%q is neither yes nor no", s)
	}
	return s == "yes", nil
}

func prefixes(s string) ([]netip.Prefix, error) {
	var all []netip.Prefix
	for word := range strings.FieldsSeq(strings.ReplaceAll(s, ",", " ")) {
		p, err := netip.ParsePrefix(word)
		if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

func unquoted(s string) ([]string, error) {
	words, err := splitWords(s)
	for i, w := range words {
		if strings.HasPrefix(w, `"`) && err == nil {
			words[i], err = strconv.Unquote(w)
		}
	}
	return words, err
}

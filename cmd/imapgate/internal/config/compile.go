package config

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"

	"imapgate/proxy"
	"imapgate/route"
	"imapgate/tlsconf"
)

// Compiled is what a configuration is made into: everything that serving needs
// but open sockets and the table.
type Compiled struct {
	*Parsed

	// Listeners have no socket yet.
	Listeners []Listener

	// Certificates are those of tls.certificates, nil when there are none.
	Certificates *tlsconf.Files

	// TicketKeys are those of tls.ticket_keys, nil when there are none.
	TicketKeys *tlsconf.TicketKeys

	// BackendTLS is the TLS of each backend that has any, by the backend's name.
	BackendTLS map[string]*tlsconf.ClientFiles

	// ACME is what tls.acme says, nil when it is absent.
	ACME *ACMEOptions

	// Proxy has no Router yet.
	Proxy proxy.Config

	// Warnings are those of the parse, and those about certificates that have
	// expired and ticket keys that are old.
	Warnings Errors
}

// Listener is one entry of listen.
type Listener struct {
	Pos   Pos
	Serve proxy.Listener

	// ID is the address, and a number where an address with port 0 comes more
	// than once.
	ID string

	// Fingerprint changes with every setting that a listener must be opened
	// anew for. Certificates are not among them.
	Fingerprint string
}

// GetCertificate chooses the certificate of a handshake, as in
// [tls.Config.GetCertificate].
type GetCertificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)

// Compile reads certificates, keys and passwords and makes what serving needs.
// Listeners ask get for their certificates, so that a later reload can replace
// these without opening the listeners anew. The error is of type Errors.
func (p *Parsed) Compile(get GetCertificate) (*Compiled, error) {
	c := &compiler{Parsed: p}
	out := &Compiled{Parsed: p, BackendTLS: make(map[string]*tlsconf.ClientFiles)}
	out.Certificates = c.certificates()
	out.TicketKeys = c.ticketKeys()
	out.ACME = c.acme()
	seen := make(map[string]int)
	for i := range p.Listen {
		l := c.listener(&p.Listen[i], get)
		if seen[l.ID]++; seen[l.ID] > 1 {
			l.ID = fmt.Sprintf("%s (%d)", l.ID, seen[l.ID])
		}
		out.Listeners = append(out.Listeners, l)
	}
	out.Proxy = c.login()
	out.Proxy.Backends = make(map[string]*proxy.Backend, len(p.Backends))
	for i := range p.Backends {
		e := &p.Backends[i]
		b := c.backend(e.Name.V, &e.V)
		if b.TLS != proxy.TLSNone {
			if files := c.clientTLS(e.Name.V, &e.V); files != nil {
				b.TLSConfig, b.CurrentTLS = files.Config(), files.Config
				out.BackendTLS[b.Name] = files
			}
		}
		out.Proxy.Backends[b.Name] = b
	}
	out.Proxy.Check, out.Proxy.Checks = c.checks()
	c.stateDir()
	if len(c.errs) > 0 {
		return nil, c.errs.sorted()
	}
	out.Warnings = append(append(out.Warnings, p.Warnings...), c.stale(out)...)
	return out, nil
}

// compiler collects what cannot be had.
type compiler struct {
	*Parsed
	errs Errors
}

// fail notes that something outside the file is not as the file says.
func (c *compiler) fail(at Pos, err error, format string, args ...any) {
	c.errs = append(c.errs, &Error{File: c.name, Pos: at, Msg: fmt.Sprintf(format, args...), Err: err})
}

// Fail returns the error of something outside the file that is not as the file
// says.
func (p *Parsed) Fail(at Pos, err error, msg string) error {
	return Errors{{File: p.name, Pos: at, Msg: msg, Err: err}}
}

// path returns the file that a value names.
func (p *Parsed) path(v Value[string]) string { return resolve(filepath.Dir(p.name), v.V) }

// readable notes when a file that a value names cannot be opened. It returns
// the file's path, "" when the value is not given.
func (c *compiler) readable(v Value[string]) (path string, ok bool) {
	if !v.Given() {
		return "", true
	}
	path = c.path(v)
	if err := canRead(path); err != nil {
		c.fail(v.Pos, err, "cannot read %s", path)
		return path, false
	}
	return path, true
}

// canRead opens a file and closes it.
func canRead(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return plainCause(err, path)
	}
	// Before it is opened: opening a named pipe would wait for a writer.
	if !info.Mode().IsRegular() {
		return errors.New("it is not a regular file")
	}
	f, err := os.Open(path) //nolint:gosec // the operator's configuration names it
	if err != nil {
		return plainCause(err, path)
	}
	return f.Close()
}

// certificates loads every pair by itself, so that each error has its place,
// and then all together.
func (c *compiler) certificates() *tlsconf.Files {
	var pairs []tlsconf.Pair
	for _, pair := range c.TLS.Certificates {
		cert, certOK := c.readable(pair.Cert)
		key, keyOK := c.readable(pair.Key)
		files := tlsconf.Pair{Cert: cert, Key: key}
		if certOK && keyOK {
			if _, err := tlsconf.NewFiles([]tlsconf.Pair{files}); err != nil {
				c.fail(pair.Cert.Pos, err, "certificate cannot be used")
				continue
			}
		}
		pairs = append(pairs, files)
	}
	if len(pairs) == 0 || len(c.errs) > 0 {
		return nil
	}
	files, err := tlsconf.NewFiles(pairs)
	if err != nil {
		c.fail(c.TLS.Pos, err, "certificates cannot be used")
	}
	return files
}

func tlsMode(word string) proxy.TLSMode {
	switch word {
	case "implicit":
		return proxy.TLSImplicit
	case "starttls":
		return proxy.TLSStartTLS
	case "none":
		return proxy.TLSNone
	}
	return 0 // no mode: fails closed
}

func (c *compiler) listener(l *Listen, get GetCertificate) Listener {
	out := Listener{Pos: l.Address.Pos, ID: l.Address.V, Serve: proxy.Listener{Name: l.Address.V, TLS: tlsMode(l.TLS.V)}}
	if l.ProxyProtocol != nil {
		out.Serve.ProxyFrom = values(l.ProxyProtocol.From)
		out.Serve.ProxyTLS = l.ProxyProtocol.TLS.V
	}
	var caSum [sha256.Size]byte
	if out.Serve.TLS != proxy.TLSNone {
		out.Serve.TLSConfig, caSum = c.serverTLS(l, get)
	}
	if l.ClientUser.Given() {
		if field, err := tlsconf.ParseNameField(l.ClientUser.V); err != nil {
			c.fail(l.ClientUser.Pos, err, "client_user")
		} else {
			out.Serve.CertificateUser = func(cert *x509.Certificate) (string, error) {
				return tlsconf.UserFromCertificate(cert, field)
			}
		}
	}
	out.Fingerprint = fmt.Sprint(l.TLS.V, c.TLS.MinVersion.V, c.TLS.Profile.V, out.Serve.ProxyFrom, out.Serve.ProxyTLS,
		l.ClientAuth.V, caSum, l.ClientUser.V, c.answersTLSALPN())
	return out
}

// serverTLS makes a listener's TLS configuration. It also returns the hash of
// the CAs, so that a reload notices when they have changed.
func (c *compiler) serverTLS(l *Listen, get GetCertificate) (*tls.Config, [sha256.Size]byte) {
	var caSum [sha256.Size]byte
	o := tlsconf.ServerOptions{Certificates: get, Compatible: c.TLS.Profile.V == compatible && !l.asks(), ACME: c.answersTLSALPN()}
	if c.TLS.MinVersion.V == "1.3" {
		o.MinVersion = tls.VersionTLS13
	} else {
		o.MinVersion = tls.VersionTLS12
	}
	switch l.ClientAuth.V {
	case "request":
		o.ClientAuth = tls.VerifyClientCertIfGiven
	case "require":
		o.ClientAuth = tls.RequireAndVerifyClientCert
	}
	if ca, ok := c.readable(l.ClientCA); !ok {
		return nil, caSum
	} else if ca != "" {
		var err error
		if o.ClientCAs, err = tlsconf.CAPool(ca); err != nil {
			c.fail(l.ClientCA.Pos, err, "client_ca cannot be used")
			return nil, caSum
		}
		if content, err := c.src.ReadFile(ca); err == nil {
			caSum = sha256.Sum256(content)
		}
	}
	conf, err := tlsconf.Server(o)
	if err != nil {
		c.fail(l.TLS.Pos, err, "TLS of listener %s", l.Address.V)
	}
	return conf, caSum
}

func (c *compiler) backend(name string, b *Backend) *proxy.Backend {
	out := &proxy.Backend{
		Name: name, Address: b.Address.V, TLS: tlsMode(b.TLS.V),
		Warm: b.Warm.V, NoPipelining: !b.Pipelining.V, MaxLogins: b.MaxLogins.V, Source: b.Source.V,
	}
	switch b.ProxyProtocol.V {
	case "v1":
		out.ProxyProtocol = 1
	case "v2":
		out.ProxyProtocol = 2
	}
	if b.Master != nil {
		out.MasterUser = b.Master.User.V
		out.MasterPassword = c.password(b.Master.PasswordFile)
	}
	return out
}

// password reads a file that holds a password and nothing else.
func (c *compiler) password(v Value[string]) proxy.Secret {
	line := c.secret(v, "password")
	defer clear(line)
	return proxy.NewSecret(line)
}

// secret reads a file that holds a secret and nothing else; what is its name.
func (c *compiler) secret(v Value[string], what string) []byte {
	path := c.path(v)
	line, err := c.src.ReadFile(path)
	if err != nil {
		c.fail(v.Pos, plainCause(err, path), "cannot read %s", path)
		return nil
	}
	for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
		line = line[:len(line)-1]
	}
	if len(line) == 0 {
		c.fail(v.Pos, errors.New("it is empty"), "no %s in %s", what, path)
	}
	return line
}

// login makes the part of the proxy's configuration that is about login.
func (c *compiler) login() proxy.Config {
	l := &c.Login
	names := c.names()
	out := proxy.Config{
		Names:           names,
		Greeting:        l.Greeting.V,
		Mechanisms:      values(l.Mechanisms),
		Capabilities:    values(l.Capabilities),
		LoginTimeout:    l.Timeout.V,
		TLSTimeout:      l.TLSTimeout.V,
		BackendTimeout:  l.BackendTimeout.V,
		ConnectTimeout:  l.ConnectTimeout.V,
		Handshakes:      c.Limits.Handshakes.V,
		CloseSpread:     c.CloseSpread.V,
		Limits:          c.limits(),
		MaxFailures:     l.MaxFailures.V,
		FailureDelay:    l.FailureDelay.V,
		FailureDelayMax: l.FailureDelayMax.V,
		ExemptNetworks:  values(l.ExemptNetworks),
		TrustedNetworks: values(l.TrustedNetworks),
	}
	for _, e := range l.ID {
		out.ID = append(out.ID, e.Name.V, e.V.V)
	}
	for _, u := range l.MasterUsers {
		out.MasterUsers = append(out.MasterUsers, names.Key(u.V))
	}
	return out
}

// names says how typed names become keys of the table.
func (p *Parsed) names() route.Names {
	return route.Names{
		DefaultDomain:   p.Login.DefaultDomain.V,
		MasterSeparator: p.Login.MasterSeparator.V,
		CaseSensitive:   p.Login.CaseSensitive.V,
	}
}

// values strips positions. The result is never nil.
func values[T string | netip.Prefix](list []Value[T]) []T {
	out := make([]T, len(list))
	for i := range list {
		out[i] = list[i].V
	}
	return out
}

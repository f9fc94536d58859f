package config

import (
	"fmt"
	"net"
	"slices"
	"strings"
)

// check looks at what a single value cannot tell: references, and settings that
// contradict each other.
func (p *Parsed) check() {
	p.checkListen()
	p.checkTLS()
	p.checkBackends()
	p.checkPools()
	p.checkRoute()
	p.checkLogin()
	p.checkLimits()
	p.checkHealth()
	p.checkAdmin()
	p.checkShutdown()
}

func (p *Parsed) checkShutdown() {
	s := &p.Shutdown
	if s.DrainDelay.V > 0 && s.DrainDelay.V >= s.Timeout.V {
		p.fail(s.DrainDelay.Pos, "raise shutdown.timeout too", "drain_delay %s leaves nothing of shutdown.timeout %s", s.DrainDelay.V, s.Timeout.V)
	}
}

// fail notes a mistake, unless the value could not be read in the first place.
func (p *Parsed) fail(at Pos, hint, format string, args ...any) {
	if !p.w.broken[at] {
		p.w.fail("", at, hint, format, args...)
	}
}

// pointless reports a setting that another one leaves without effect.
func (p *Parsed) pointless(given bool, at Pos, name, because string) {
	if given {
		p.fail(at, "remove it", "%s has no effect %s", name, because)
	}
}

func (p *Parsed) checkListen() {
	seen := make(map[string]Pos)
	encrypted := Pos{}
	for i := range p.Listen {
		l := &p.Listen[i]
		if first, ok := seen[l.Address.V]; ok && l.Address.V != "" && !strings.HasSuffix(l.Address.V, ":0") {
			p.fail(l.Address.Pos, fmt.Sprintf("the first is in line %d", first.Line), "address %q comes twice", l.Address.V)
		}
		seen[l.Address.V] = l.Address.Pos
		inClear := l.TLS.V == "none"
		if !inClear && l.TLS.Given() && !p.w.broken[l.TLS.Pos] && encrypted.Line == 0 {
			encrypted = l.TLS.Pos
		}
		if pp := l.ProxyProtocol; pp != nil {
			p.pointless(pp.TLS.V && !inClear, pp.TLS.Pos, "proxy_protocol.tls", "unless the listener has tls: none")
		}
		asks := l.asks()
		switch {
		case inClear && asks:
			p.fail(l.ClientAuth.Pos, "certificates need tls: implicit or starttls", "client_auth: %s on a listener without TLS", l.ClientAuth.V)
		case asks && !l.ClientCA.Given():
			p.fail(l.ClientAuth.Pos, "add client_ca: the CAs, in PEM, that client certificates are verified against", "client_auth: %s without client_ca", l.ClientAuth.V)
		case !asks:
			p.pointless(l.ClientCA.Given(), l.ClientCA.Pos, "client_ca", "without client_auth: request or require")
			p.pointless(l.ClientUser.Given(), l.ClientUser.Pos, "client_user", "without client_auth: request or require")
		case l.ClientUser.Given():
			p.checkExternal(l)
		}
	}
	p.checkACME(encrypted.Line > 0)
	if encrypted.Line > 0 && len(p.TLS.Certificates) == 0 && p.TLS.ACME == nil && !p.w.failedUnder("tls") {
		p.fail(encrypted, "add tls: {certificates: [{cert: FILE, key: FILE}]}, or tls: {acme: {domains: [NAME], email: ADDRESS}}", "a listener with TLS needs a certificate, and there is none")
	}
}

// checkExternal looks at what logins with a client certificate need. The proxy
// knows no passwords, so it needs a master user wherever it logs such a user in.
func (p *Parsed) checkExternal(l *Listen) {
	isExternal := func(m Value[string]) bool { return m.V == "EXTERNAL" }
	if !slices.ContainsFunc(p.Login.Mechanisms, isExternal) {
		p.pointless(true, l.ClientUser.Pos, "client_user", "without EXTERNAL in login.mechanisms")
	}
	for i := range p.Backends {
		if p.Backends[i].V.Master == nil {
			p.fail(l.ClientUser.Pos, "add master: {user: NAME, password_file: FILE} to it", "client_user needs a master user at every backend, and %s has none", p.Backends[i].Name.V)
		}
	}
}

func (p *Parsed) checkBackends() {
	for i := range p.Backends {
		b := &p.Backends[i].V
		p.pointless(b.ProxyProtocol.Given() && b.Warm.V > 0 && b.Warm.Given(), b.Warm.Pos, "warm",
			"with proxy_protocol, whose header names one client")
		if b.TLS.V == "none" {
			const because = "with tls: none"
			p.pointless(b.TLSName.Given(), b.TLSName.Pos, "tls_name", because)
			p.pointless(b.CA.Given(), b.CA.Pos, "ca", because)
			p.pointless(len(b.Pins) > 0, firstPos(b.Pins), "pins", because)
			p.pointless(b.Verify.Given(), b.Verify.Pos, "verify", because)
			p.pointless(b.Cert.Given(), b.Cert.Pos, "cert", because)
			p.pointless(b.Key.Given(), b.Key.Pos, "key", because)
			continue
		}
		if b.Verify.V == "none" {
			const because = "with verify: none"
			p.pointless(b.CA.Given(), b.CA.Pos, "ca", because)
			p.pointless(len(b.Pins) > 0, firstPos(b.Pins), "pins", because)
		}
		switch {
		case b.Cert.Given() && !b.Key.Given():
			p.fail(b.Cert.Pos, "add key: the file of its private key", "cert without key")
		case b.Key.Given() && !b.Cert.Given():
			p.fail(b.Key.Pos, "add cert: the file of the certificate", "key without cert")
		}
	}
}

func firstPos[T any](list []Value[T]) Pos {
	if len(list) == 0 {
		return Pos{}
	}
	return list[0].Pos
}

func (p *Parsed) checkPools() {
	backends := entryNames(p.Backends)
	for i := range p.Pools {
		pool := &p.Pools[i]
		if slices.Contains(backends, pool.Name.V) {
			p.fail(pool.Name.Pos, "choose another name: routes name backends and pools alike", "pool %q is called like a backend", pool.Name.V)
		}
		seen := make(map[string]bool)
		for _, m := range pool.V.Backends {
			switch {
			case !slices.Contains(backends, m.V):
				p.fail(m.Pos, didYouMean(m.V, backends), "pool %s: %q is no backend", pool.Name.V, m.V)
			case seen[m.V]:
				p.fail(m.Pos, "remove one of them", "pool %s: backend %q comes twice", pool.Name.V, m.V)
			}
			seen[m.V] = true
		}
	}
}

func entryNames[T any](entries []Entry[T]) []string {
	names := make([]string, len(entries))
	for i := range entries {
		names[i] = entries[i].Name.V
	}
	return names
}

func (p *Parsed) checkRoute() {
	r := &p.Route
	targets := append(entryNames(p.Backends), entryNames(p.Pools)...)
	if r.Default.Given() && !slices.Contains(targets, r.Default.V) {
		p.fail(r.Default.Pos, didYouMean(r.Default.V, targets), "route.default: %q is neither a backend nor a pool", r.Default.V)
	}
	if r.Pos.Line > 0 && len(r.Tables) == 0 && !r.Default.Given() && !p.w.failedUnder("route") {
		p.fail(r.Pos, "add tables: [FILE], default: BACKEND, or both", "route says nothing: nobody could log in")
	}
	seen := make(map[string]bool)
	for _, t := range r.Tables {
		if seen[t.V] {
			p.fail(t.Pos, "remove one of them", "table %q comes twice", t.V)
		}
		seen[t.V] = t.V != ""
	}
}

func (p *Parsed) checkLogin() {
	l := &p.Login
	if l.ConnectTimeout.V > l.BackendTimeout.V && l.ConnectTimeout.Given() {
		p.fail(l.ConnectTimeout.Pos, "connecting is a part of the login at a backend", "connect_timeout %s is longer than backend_timeout %s", l.ConnectTimeout.V, l.BackendTimeout.V)
	}
	if l.FailureDelay.V > l.FailureDelayMax.V {
		at, hint := l.FailureDelay.Pos, "raise failure_delay_max too"
		if !l.FailureDelay.Given() {
			at, hint = l.FailureDelayMax.Pos, "lower failure_delay too"
		}
		p.fail(at, hint, "failure_delay %s is longer than failure_delay_max %s", l.FailureDelay.V, l.FailureDelayMax.V)
	}
	// See RFC 2971, Section 3.3, for the bounds of ID.
	if len(l.ID) > 30 {
		p.fail(l.ID[30].Name.Pos, "see RFC 2971, Section 3.3", "login.id has more than 30 entries")
	}
	for _, e := range l.ID {
		if len(e.Name.V) > 30 {
			p.fail(e.Name.Pos, "at most 30 octets", "login.id: the key %q is too long", cut(e.Name.V, 40))
		}
		if len(e.V.V) > 1000 {
			p.fail(e.V.Pos, "at most 1000 octets", "login.id.%s is too long", e.Name.V)
		}
	}
	if strings.ContainsFunc(l.Greeting.V, func(r rune) bool { return r > 0x7e }) {
		p.fail(l.Greeting.Pos, "a greeting is plain ASCII text", "login.greeting: %q is not valid", l.Greeting.V)
	}
	if g := l.Greeting.V; strings.HasPrefix(g, "[") {
		p.fail(l.Greeting.Pos, "text that begins with [ would be a response code", "login.greeting: %q is not valid", g)
	}
}

// warnings lists the settings that give up protection.
func (p *Parsed) warnings() Errors {
	warnings := &walker{file: p.name, lines: p.w.lines, broken: p.w.broken}
	for i := range p.Listen {
		l := &p.Listen[i]
		switch {
		case l.TLS.V != "none":
		case l.ProxyProtocol != nil && l.ProxyProtocol.TLS.V:
			warnings.fail("", l.TLS.Pos, "", "listener %s gets passwords in clear text from the proxy in front of it (tls: none)", l.Address.V)
		default:
			warnings.fail("", l.TLS.Pos, "", "listener %s accepts passwords in clear text (tls: none)", l.Address.V)
		}
	}
	for i := range p.Backends {
		name, b := p.Backends[i].Name.V, &p.Backends[i].V
		switch {
		case b.TLS.V == "none":
			warnings.fail("", b.TLS.Pos, "", "passwords go to backend %s in clear text (tls: none)", name)
		case b.Verify.V == "none":
			warnings.fail("", b.Verify.Pos, "", "the certificate of backend %s is not verified (verify: none): whoever is on the path can read passwords", name)
		}
	}
	if t := p.TLS.Profile; t.V == compatible {
		warnings.fail("", t.Pos, "", "clients may use TLS 1.0 and 1.1 (tls.profile: compatible), which are forbidden since 2021 (RFC 8996)")
	}
	if p.Debug.CoreDumps.V {
		warnings.fail("", p.Debug.CoreDumps.Pos, "", "a crash may write passwords and keys to a core file (core_dumps: true)")
	}
	if a := p.Admin; a != nil && a.HTTP.Given() && !isLoopback(a.HTTP.V) {
		warnings.fail("", a.HTTP.Pos, "", "admin.http %s gets tokens in clear text: put TLS in front of it", a.HTTP.V)
	}
	return warnings.errs
}

// tlsName returns the name that a backend's certificate must hold.
func (b *Backend) tlsName() string {
	if b.TLSName.Given() {
		return b.TLSName.V
	}
	host, _, _ := net.SplitHostPort(b.Address.V)
	return strings.TrimSuffix(host, ".")
}

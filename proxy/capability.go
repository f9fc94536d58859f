package proxy

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"go.uber.org/zap"

	"imapgate/proxy/imap"
)

// maxProbes is how many backends are looked at at a time.
const maxProbes = 8

// liveBackends is what is known of the backends now, as opposed to what is
// configured. The zero value knows nothing.
type liveBackends struct {
	mu       sync.Mutex
	backends map[string]liveBackend
}

type liveBackend struct {
	b    *Backend
	caps []string // before login; nil: never heard
	down string   // how far the last look came that failed; "": it did not fail
}

// update keeps what is known of the backends that cfg still has unchanged.
func (l *liveBackends) update(cfg *Config) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := make(map[string]liveBackend, len(cfg.Backends))
	for name, b := range cfg.Backends {
		old := l.backends[name]
		next[name] = liveBackend{b: b}
		if old.b != nil && old.b.Address == b.Address && old.b.TLS == b.TLS {
			next[name] = liveBackend{b: b, caps: old.caps, down: old.down}
		}
	}
	l.backends = next
}

// learned notes the capabilities of b.
func (l *liveBackends) learned(b *Backend, caps []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if cur, ok := l.backends[b.Name]; ok && cur.b.Address == b.Address && cur.b.TLS == b.TLS {
		cur.caps = caps
		l.backends[b.Name] = cur
	}
}

// noted notes how the last look at b ended ("" is well), and says whether that is
// news.
func (l *liveBackends) noted(b *Backend, down string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	cur, ok := l.backends[b.Name]
	if !ok || cur.down == down {
		return false
	}
	cur.down = down
	l.backends[b.Name] = cur
	return true
}

// known returns the capabilities of the backends that were heard, and whether
// those are all.
func (l *liveBackends) known() (heard [][]string, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, b := range l.backends {
		if b.caps != nil {
			heard = append(heard, b.caps)
		}
	}
	return heard, len(heard) == len(l.backends)
}

// advertise settles what this connection offers. It is settled once before TLS
// and once after it, so that what was offered is not refused a moment later when
// the backends have changed.
func (c *conn) advertise() {
	known, all := c.srv.live.known()
	caps := []string{"IMAP4rev1"}
	if all && len(known) > 0 && everywhere(known, "IMAP4REV2") {
		caps = append(caps, "IMAP4rev2")
	}
	caps = append(caps, "SASL-IR", "LITERAL-", "ID", "ENABLE", "IDLE")
	switch {
	case !c.mayLogin && c.l.TLS == TLSStartTLS:
		caps = append(caps, "STARTTLS", "LOGINDISABLED")
	case !c.mayLogin:
		caps = append(caps, "LOGINDISABLED")
	case len(c.cfg.Capabilities) > 0:
		caps = c.pinned(known)
	default:
		caps = append(caps, c.offered(known)...)
	}
	c.caps = caps
}

// offered returns AUTH= for the mechanisms that are enabled and that every
// backend announces, and LOGINDISABLED if passwords are not taken at all. As long
// as no backend was heard, these are the ones that every backend can be given in
// some form.
func (c *conn) offered(known [][]string) []string {
	var caps []string
	for _, m := range c.cfg.Mechanisms {
		var ok bool
		switch {
		case m == sasl.External:
			ok = c.offersExternal(known)
		case len(known) > 0:
			ok = everywhere(known, "AUTH="+m)
		default:
			ok = m == sasl.Plain || m == sasl.Login
		}
		if ok {
			caps = append(caps, "AUTH="+m)
		}
	}
	if !slices.Contains(c.cfg.Mechanisms, sasl.Plain) && !slices.Contains(c.cfg.Mechanisms, sasl.Login) {
		caps = append(caps, "LOGINDISABLED")
	}
	return caps
}

// offersExternal says whether EXTERNAL can succeed: this client has a verified
// certificate, and every backend can log a user in on the proxy's word.
func (c *conn) offersExternal(known [][]string) bool {
	if c.l.CertificateUser == nil || c.tlsState == nil || len(c.tlsState.VerifiedChains) == 0 {
		return false
	}
	for _, b := range c.cfg.Backends {
		if b.MasterUser == "" {
			return false
		}
	}
	return everywhere(known, "AUTH="+sasl.Plain) // what says it is PLAIN with an authzid
}

// pinned returns the operator's own list, without what this proxy does not do.
func (c *conn) pinned(known [][]string) []string {
	return slices.DeleteFunc(slices.Clone(c.cfg.Capabilities), func(name string) bool {
		up := strings.ToUpper(name)
		if m, ok := strings.CutPrefix(up, "AUTH="); ok {
			return mechanisms[m] == nil || m == sasl.External && !c.offersExternal(known)
		}
		switch up {
		case "STARTTLS", "LITERAL+", "LOGIN-REFERRALS", "MAILBOX-REFERRALS", "UNAUTHENTICATE", "COMPRESS=DEFLATE":
			return true
		}
		return false
	})
}

func everywhere(all [][]string, name string) bool {
	return !slices.ContainsFunc(all, func(caps []string) bool { return !imap.HasCapability(caps, name) })
}

// probe looks at the backends' capabilities every ProbeInterval until the server
// closes, so that what is offered follows the backends without any login.
func (s *Server) probe(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := make(chan struct{})
	defer close(stop)
	s.wg.Go(func() {
		select {
		case <-s.closing:
			cancel()
		case <-stop:
		}
	})
	for {
		select {
		case <-s.reconfigured: // taken note of with the next line
		default:
		}
		cfg := s.cfg.Load()
		if cfg.ProbeInterval <= 0 {
			s.markProbed()
			select {
			case <-s.reconfigured:
				continue
			case <-s.closing:
				return
			}
		}
		s.probeAll(ctx, cfg)
		s.markProbed()
		t := time.NewTimer(cfg.ProbeInterval)
		select {
		case <-t.C:
		case <-s.reconfigured:
		case <-s.closing:
			t.Stop()
			return
		}
		t.Stop()
	}
}

// probeAll looks at every backend once.
func (s *Server) probeAll(ctx context.Context, cfg *Config) {
	var wg sync.WaitGroup
	slots := make(chan struct{}, maxProbes)
	for _, b := range cfg.Backends {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			s.probeOne(ctx, cfg, b)
		})
	}
	wg.Wait()
}

// probeOne looks at one backend. What it cannot learn stays as it is: a backend
// that is down says nothing about what it can do.
func (s *Server) probeOne(ctx context.Context, cfg *Config, b *Backend) {
	ctx, cancel := context.WithTimeout(ctx, cfg.BackendTimeout)
	defer cancel()
	bc, fail := s.connect(ctx, cfg, b, nil)
	switch {
	case fail == nil:
		if s.live.noted(b, "") {
			s.log.Info("backend reached again", zap.String("backend", b.Name), zap.String("address", b.Address))
		}
	case s.isClosed():
		return
	default:
		s.metrics.BackendFailed(b.Name, fail.reason)
		if s.live.noted(b, fail.state) {
			level := zap.WarnLevel
			if fail.result == resultMisconfigured {
				level = zap.ErrorLevel
			}
			s.log.Log(level, "backend not reached", zap.String("backend", b.Name), zap.String("address", b.Address),
				zap.String("state", fail.state), zap.Error(fail.err))
		}
		return
	}
	defer bc.close()
	tag := newTag()
	if bc.send([]byte(tag+" LOGOUT")) == nil {
		_, _, _ = bc.await(nil, tag)
	}
}

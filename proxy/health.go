package proxy

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/emersion/go-sasl"
	"go.uber.org/zap"

	"imapgate/proxy/imap"
)

// Check says how a backend's health is watched. The zero value never looks: then
// only the failures of logins count.
type Check struct {
	Interval time.Duration // between looks, at the most: up to a tenth less
	Timeout  time.Duration // of one look: Config.ConnectTimeout
	Rise     int           // good looks in a row after which a backend is up again: 2
	Fall     int           // bad looks in a row after which it is down: 3

	// User and Password, when set, log in; else a look ends at the greeting and
	// the capabilities behind TLS.
	User     string
	Password Secret

	// Pools are the names of the backend's pools, for the guard against a
	// checker that is itself cut off.
	Pools []string
}

// HealthSink is told when a backend's health changes. It is route.State.
type HealthSink interface {
	// SetHealth notes a backend's health and why, and says whether it is news.
	SetHealth(backend string, up bool, why string) bool
}

const (
	retryLook     = 5 * time.Second  // between looks at a backend that is down, where no Interval is set
	minLook       = time.Second      // between looks after a first failure
	passiveWindow = 30 * time.Second // in which two clients' failures count together
	deadAfter     = 30 * time.Second // a backend is down before its sessions are ended
)

// liveBackends is what is known of the backends now, as opposed to what is
// configured. The zero value knows nothing.
type liveBackends struct {
	judging sync.Mutex // held from a verdict until it is told; taken before mu

	mu       sync.Mutex
	backends map[string]*liveBackend
}

// liveBackend is one of them. It is guarded by liveBackends.mu, but for poke.
type liveBackend struct {
	b    *Backend
	caps []string // before login; nil: never heard

	down      bool
	wrong     bool         // the last look found what only the operator can mend
	suspect   bool         // it should be down, but most of its pool looks that way
	since     time.Time    // of the last change
	good, bad int          // looks in a row
	failed    netip.Prefix // a client's, see network
	failedAt  time.Time    // when that client could not be connected
	gate      gate
	poke      chan struct{} // asks for a look at once
}

// update keeps what is known of the backends that cfg still has unchanged, and
// returns the names of the others: they are up until something says otherwise.
func (l *liveBackends) update(cfg *Config) (fresh []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	next := make(map[string]*liveBackend, len(cfg.Backends))
	for name, b := range cfg.Backends {
		old := l.backends[name]
		if old != nil && old.b.Address == b.Address && old.b.TLS == b.TLS {
			old.b = b
			next[name] = old
			continue
		}
		next[name] = &liveBackend{b: b, poke: make(chan struct{}, 1), gate: gate{room: freshLogins}}
		fresh = append(fresh, name)
	}
	l.backends = next
	return fresh
}

// of returns what is known of b, nil when b is not configured any more. The
// caller holds mu.
func (l *liveBackends) of(b *Backend) *liveBackend {
	if live := l.backends[b.Name]; live != nil && live.b.Address == b.Address && live.b.TLS == b.TLS {
		return live
	}
	return nil
}

// learned notes the capabilities of b.
func (l *liveBackends) learned(b *Backend, caps []string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if live := l.of(b); live != nil {
		live.caps = caps
		live.failed = netip.Prefix{}
	}
}

// known returns the capabilities of the backends that were heard, and whether
// those are all.
func (l *liveBackends) known() (heard [][]string, all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, live := range l.backends {
		if live.caps != nil {
			heard = append(heard, live.caps)
		}
	}
	return heard, len(heard) == len(l.backends)
}

// verdict is what one look, or one client's failure, leads to.
type verdict int

const (
	unchanged verdict = iota
	nowUp
	nowDown
	suspicious // it should be down, but most of its pool looks that way
)

// looked counts one look at b.
func (l *liveBackends) looked(b *Backend, ck Check, ok bool, now time.Time, pools map[string][]string) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.of(b)
	if live == nil {
		return unchanged
	}
	if ok {
		live.good++
		live.bad, live.suspect = 0, false
		if live.down && live.good >= ck.Rise {
			live.restart(now.Sub(live.since))
			live.down, live.since = false, now
			return nowUp
		}
		return unchanged
	}
	live.bad++
	live.good = 0
	if live.down || live.bad < ck.Fall {
		return unchanged
	}
	return l.fall(live, ck, now, pools)
}

// unreachable counts a client that could not be connected to b. One client's
// trouble says nothing: the backend may refuse it alone. Two different ones do.
func (l *liveBackends) unreachable(b *Backend, ck Check, client netip.Prefix, now time.Time, pools map[string][]string) verdict {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.of(b)
	if live == nil || live.down {
		return unchanged
	}
	if ck.Interval > 0 {
		live.look()
	}
	if !live.failed.IsValid() || now.Sub(live.failedAt) > passiveWindow || live.failed == client {
		live.failed, live.failedAt = client, now
		return unchanged
	}
	live.bad = max(live.bad, 1)
	v := l.fall(live, ck, now, pools)
	if v == nowDown {
		live.look() // nobody else finds out when it is up again
	}
	return v
}

// fall takes a backend down, unless most of a pool of two or more looks down: then
// it is rather the checker that is cut off, and the last state is kept.
func (l *liveBackends) fall(live *liveBackend, ck Check, now time.Time, pools map[string][]string) verdict {
	for _, pool := range ck.Pools {
		members := pools[pool]
		bad := 0
		for _, name := range members {
			m := l.backends[name]
			switch {
			case m == nil:
			case m.down && now.Sub(m.since) > max(passiveWindow, 3*ck.Interval):
				// It has been down for long: that says nothing about this moment.
			case m.down, m.bad > 0:
				bad++
			}
		}
		if len(members) > 1 && 2*bad > len(members) {
			if live.suspect {
				return unchanged
			}
			live.suspect = true
			return suspicious
		}
	}
	live.down, live.since, live.good = true, now, 0
	live.dismiss()
	return nowDown
}

// look asks for a look at once.
func (live *liveBackend) look() {
	select {
	case live.poke <- struct{}{}:
	default: // it has been asked for
	}
}

// checkFor returns how b is watched, with defaults filled in.
func (cfg *Config) checkFor(name string) Check {
	ck, ok := cfg.Checks[name]
	if !ok {
		ck = cfg.Check
	}
	setDefault(&ck.Timeout, cfg.ConnectTimeout)
	setDefault(&ck.Rise, 2)
	setDefault(&ck.Fall, 3)
	return ck
}

// pools returns the members of each pool, as the checks tell them.
func (cfg *Config) pools() map[string][]string {
	pools := make(map[string][]string)
	for name, ck := range cfg.Checks {
		for _, p := range ck.Pools {
			pools[p] = append(pools[p], name)
		}
	}
	return pools
}

// watchBackends watches the backends' health and capabilities until the server
// closes.
func (s *Server) watchBackends(ctx context.Context) {
	for {
		select {
		case <-s.reconfigured: // it is the one that is loaded here
		default:
		}
		cfg := s.cfg.Load()
		round, cancel := context.WithCancel(ctx)
		var watchers, first sync.WaitGroup
		for _, b := range cfg.Backends {
			first.Add(1)
			watchers.Go(func() { s.watchBackend(round, cfg, b, sync.OnceFunc(first.Done)) })
		}
		watchers.Go(func() {
			first.Wait()
			s.markProbed()
		})
		stocks := newStocks(cfg)
		for _, st := range stocks {
			watchers.Go(func() { s.keepStock(round, cfg, st) })
		}
		s.stocks.Store(&stocks)
		closing := false
		select {
		case <-s.reconfigured:
		case <-s.closing:
			closing = true
		}
		s.stocks.Store(nil)
		cancel()
		watchers.Wait()
		if closing {
			return
		}
	}
}

// watchBackend looks at one backend again and again, whatever the looks at others
// do: one that hangs takes its timeout and delays nobody. first is called after the
// first look, or at once when there is none.
func (s *Server) watchBackend(ctx context.Context, cfg *Config, b *Backend, first func()) {
	defer first()
	ck := cfg.checkFor(b.Name)
	pools := cfg.pools()
	poke := s.live.poker(b)
	if ck.Interval <= 0 {
		first()
		if !s.pause(ctx, s.live.nextLook(b, ck), poke) {
			return
		}
	}
	for {
		fail := s.look(ctx, cfg, b, ck)
		if ctx.Err() != nil {
			return
		}
		if fail != nil {
			s.metrics.BackendFailed(b.Name, fail.reason)
		}
		s.live.noteWrong(b, fail)
		v := unchanged
		if fail == nil || !fail.ours {
			v = s.judge(ctx, cfg, b, fail, func() verdict { return s.live.looked(b, ck, fail == nil, time.Now(), pools) })
		}
		if v == unchanged && fail != nil && s.live.firstFailure(b) {
			s.log.Log(fail.level(), "backend not reached", zap.String("backend", b.Name), zap.String("address", b.Address),
				zap.String("state", fail.state), zap.Error(fail.err))
		}
		first()
		if !s.pause(ctx, s.live.nextLook(b, ck), poke) {
			return
		}
	}
}

// pause waits for the next look: for d, or for somebody to ask for one. Without d
// it is the latter alone.
func (s *Server) pause(ctx context.Context, d *time.Duration, poke <-chan struct{}) bool {
	var due <-chan time.Time
	if d != nil {
		t := time.NewTimer(*d)
		defer t.Stop()
		due = t.C
	}
	select {
	case <-due:
	case <-poke:
	case <-ctx.Done():
		return false
	}
	return true
}

func (l *liveBackends) poker(b *Backend) <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if live := l.of(b); live != nil {
		return live.poke
	}
	return nil
}

// nextLook returns when to look again; nil: when somebody asks. A first failure is
// looked into more quickly.
func (l *liveBackends) nextLook(b *Backend, ck Check) *time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.of(b)
	d := ck.Interval
	switch {
	case live == nil:
		return nil
	case d <= 0 && live.bad == 0 && !live.down:
		return nil
	case d <= 0:
		d = retryLook
	case live.bad > 0 && !live.down || live.good > 0 && live.down:
		d = min(d, max(d/4, minLook))
	}
	d -= rand.N(max(d/10, 1)) //nolint:gosec // so that proxies do not look in step
	return &d
}

// look looks at a backend once: as far as its capabilities, and on to a login
// where a user for that is configured.
func (s *Server) look(ctx context.Context, cfg *Config, b *Backend, ck Check) *failure {
	ctx, cancel := context.WithTimeout(ctx, ck.Timeout)
	defer cancel()
	bc, fail := s.connect(ctx, cfg, b, nil)
	if fail != nil {
		return fail
	}
	defer bc.close()
	if ck.User != "" {
		if fail := bc.tryLogin(ck); fail != nil {
			return fail
		}
	}
	tag := newTag()
	if bc.send([]byte(tag+" LOGOUT")) == nil {
		_, _, _ = bc.await(nil, tag)
	}
	return nil
}

// tryLogin logs the check's own user in.
func (bc *backendConn) tryLogin(ck Check) *failure {
	const state = "login/authenticate"
	mechanism, err := bc.passwordMechanism(sasl.Plain)
	if err != nil {
		return misconfigured(state, "login", err)
	}
	sc := bc.passwordScript(mechanism, ck.User, ck.Password)
	defer sc.wipe()
	tag := newTag()
	err = bc.send([]byte(tag+" "), sc.line)
	if err == nil {
		var r imap.Response
		r, _, err = bc.await(func(imap.Response) error { return sc.answer(bc) }, tag)
		if err == nil && r.Name != "OK" {
			err = errors.New("the check's own login was refused")
		}
	}
	if err != nil {
		return unavailable(state, "check", err)
	}
	return nil
}

// judge comes to a verdict and acts on it: it tells the routing table, and the
// log. One verdict is told before the next is come to, so that the last word is
// the right one.
func (s *Server) judge(ctx context.Context, cfg *Config, b *Backend, fail *failure, decide func() verdict) verdict {
	s.live.judging.Lock()
	defer s.live.judging.Unlock()
	v := decide()
	fields := []zap.Field{zap.String("backend", b.Name), zap.String("address", b.Address)}
	why := "answers again"
	if fail != nil {
		why = fail.Error()
		fields = append(fields, zap.String("state", fail.state), zap.Error(fail.err))
	}
	switch v {
	case unchanged:
	case suspicious:
		s.log.Error("most of a pool looks down: keeping the last state, is this host cut off?", fields...)
	case nowUp:
		s.setHealth(cfg, b, true, why)
		s.log.Info("backend up", fields...)
	case nowDown:
		s.setHealth(cfg, b, false, why)
		if st := s.stock(b); st != nil {
			st.poke()
		}
		s.log.Error("backend down", fields...)
		s.wg.Go(func() { s.endDead(context.WithoutCancel(ctx), cfg, b) })
	}
	return v
}

func (s *Server) setHealth(cfg *Config, b *Backend, up bool, why string) {
	if cfg.Health != nil {
		cfg.Health.SetHealth(b.Name, up, why)
	}
}

// endDead ends the sessions of a backend that stays down: their clients would wait
// for answers that do not come. A backend that only restarts keeps its sessions.
func (s *Server) endDead(ctx context.Context, cfg *Config, b *Backend) {
	if !s.wait(ctx, deadAfter) || s.live.upWithin(b, deadAfter) {
		return
	}
	_, _ = s.Kick(ctx, func(i SessionInfo) bool { return i.Backend == b.Name && s.live.isDown(b.Name) }, KickOptions{
		Spread: cfg.CloseSpread, Reason: endBackend.reason, Text: "Connection to the mail store lost.",
	})
}

// upWithin says whether b is up, or was within d.
func (l *liveBackends) upWithin(b *Backend, d time.Duration) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.of(b)
	return live != nil && (!live.down || time.Since(live.since) < d)
}

// noteWrong notes whether a look failed for what only the operator can mend.
func (l *liveBackends) noteWrong(b *Backend, fail *failure) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if live := l.of(b); live != nil {
		live.wrong = fail != nil && fail.result == resultMisconfigured
	}
}

// isWrong says whether a backend is down for what only the operator can mend.
func (l *liveBackends) isWrong(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.backends[name]
	return live != nil && live.down && live.wrong
}

// isDown says whether a backend is down, or not configured any more: nobody may
// wait for sessions there to end by themselves.
func (l *liveBackends) isDown(name string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.backends[name]
	return live == nil || live.down
}

// firstFailure says whether the last look at b was the first bad one in a row.
func (l *liveBackends) firstFailure(b *Backend) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.of(b)
	return live != nil && live.bad == 1 && !live.down
}

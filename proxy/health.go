package proxy

import (
	"context"
	"errors"
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

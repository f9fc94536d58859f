package proxy

import (
	"context"
	"errors"
	"os"
	"slices"
	"time"

	"github.com/emersion/go-sasl"
	"go.uber.org/zap"

	"imapgate/route"
)

// Bounds of a login.
const (
	maxName      = 255         // octets of a user name
	maxRetries   = 3           // further rounds after a failed one
	retryPause   = time.Second // between them
	maxFailovers = 3           // backends that are tried for one user

	movedPause = 50 * time.Millisecond // before a login begins anew
)

// routed is where a login goes.
type routed struct {
	key    string          // the normalised name, that was looked up
	user   string          // the user as typed, without a master suffix
	master string          // the master suffix, "" for none
	place  route.Placement // the answer
}

// login finds the user's backend and logs in there, within one budget.
func (c *conn) login(ctx context.Context, a *attempt) (*backendConn, *failure) {
	c.state = "login"
	began := time.Now()
	ctx, cancel := context.WithDeadline(ctx, earlier(began.Add(c.cfg.BackendTimeout), c.started.Add(c.cfg.LoginTimeout)))
	defer cancel()

	b, fail := c.authenticate(ctx, a)
	if fail == nil {
		c.srv.failures.clear(c.client.remote.Addr(), a.route.key, time.Now())
		if fail = c.countUser(a.route.key); fail != nil {
			c.srv.forget(b.entering)
			_ = b.raw.Close()
			b.lease.End()
			b = nil
		}
	}
	if fail != nil && errors.Is(c.interruption(), errEvicted) {
		// How far it had come would tell whether there is such a user, and says nothing
		// about a backend.
		fail = &failure{reply: errUnavailable, result: resultLimited, state: "login/limit", reason: "evicted", err: errEvicted}
	}
	res := resultOK
	if fail != nil {
		res = fail.result
		if res == resultMisconfigured {
			c.log.Error("backend misconfigured", append(c.loginFields(a, fail.backend), zap.String("state", fail.state), zap.Error(fail.err))...)
		}
	}
	c.srv.metrics.Authenticated(a.mechanism, string(res), time.Since(began))
	return b, fail
}

// authenticate routes the user and logs in where the route leads. It begins anew
// when the user was held or moved meanwhile: a user is on one backend at a time.
func (c *conn) authenticate(ctx context.Context, a *attempt) (*backendConn, *failure) {
	if fail := c.identify(a); fail != nil {
		return nil, fail
	}
	if c.client.ttl-1 <= 0 {
		return nil, misconfigured("login/route", "loop", errors.New("proxy loop: the TTL is spent"))
	}
	for {
		lease, err := c.cfg.Router.Begin(a.route.key)
		if err != nil {
			return nil, c.noRoute(ctx, err)
		}
		a.route.place = lease.Placement()
		held := lease.Held()
		if held == nil {
			c.srv.metrics.Routed(a.route.place.Reason.String())
			bc, fail := c.reach(ctx, a, lease)
			if fail == nil {
				bc.lease = lease
				return bc, nil
			}
			if !fail.moved || !c.srv.wait(ctx, movedPause) {
				return nil, fail
			}
		} else {
			lease.End()
		}
		if !c.srv.waitFor(ctx, held) {
			return nil, unavailable("login/route", "held", errors.New("the user is held, or being moved"))
		}
	}
}

// noRoute is the failure of a user for whom there is no backend.
func (c *conn) noRoute(ctx context.Context, err error) *failure {
	if errors.Is(err, route.ErrUnknownUser) {
		// The answer must not come sooner than that to a wrong password.
		c.pretend(ctx)
		return rejected(resultUnknownUser, err)
	}
	down, ok := errors.AsType[*route.UnavailableError](err)
	if !ok {
		return unavailable("login/route", "route", err)
	}
	f := unavailable("login/route", "down", err)
	if c.srv.live.isWrong(down.Backend) {
		f = misconfigured("login/route", "down", err)
	}
	f.backend = down.Backend
	return f
}

// identify finds out who is to be routed, and that it is who is authenticated.
func (c *conn) identify(a *attempt) *failure {
	if a.malformed {
		return rejected(resultInvalid, errors.New("malformed message"))
	}
	needsSecret := a.mechanism != sasl.External
	if !validName(a.authcid) || a.authzid != "" && !validName(a.authzid) ||
		needsSecret && a.secret.Empty() || a.password() && !cleanSecret(a.secret) {
		return rejected(resultInvalid, errors.New("empty, too long, or with control characters"))
	}
	who := a.authcid
	if a.authzid != "" && a.authzid != a.authcid {
		if !slices.Contains(c.cfg.MasterUsers, c.cfg.Names.Key(a.authcid)) {
			return &failure{
				reply: errForbidden, result: resultForbidden, state: "login/authorize",
				reason: "forbidden", err: errors.New("not a master user"),
			}
		}
		who = a.authzid
	}
	a.route.user, a.route.master = c.cfg.Names.Split(who)
	if a.route.user == "" {
		return rejected(resultInvalid, errors.New("empty name"))
	}
	a.route.key = c.cfg.Names.Key(a.route.user)
	c.traceUser(a.route.key)
	return nil
}

// validName says whether s can be the name of a user at all.
func validName(s string) bool {
	return s != "" && len(s) <= maxName && !hasControl(s)
}

func cleanSecret(s Secret) bool {
	return !slices.ContainsFunc(s.b, isControl)
}

func hasControl(s string) bool {
	for i := range len(s) {
		if isControl(s[i]) {
			return true
		}
	}
	return false
}

func isControl(ch byte) bool { return ch < ' ' || ch == 0x7f }

// reach logs in at the first backend of the placement that can be reached. The
// rounds are those of one backend that is restarting; inside a round, the next
// backend is tried at once.
func (c *conn) reach(ctx context.Context, a *attempt, lease *route.Lease) (bc *backendConn, _ *failure) {
	defer func() {
		if bc == nil {
			lease.End()
		}
	}()
	names := a.route.place.Backends
	if len(names) == 0 {
		return nil, misconfigured("login/route", "route", errors.New("the route names no backend"))
	}
	names = names[:min(len(names), maxFailovers)]
	var last *failure
	for round := 0; ; round++ {
		for _, name := range names {
			b := c.cfg.Backends[name]
			if b == nil {
				fail := misconfigured("login/route", "route", errors.New("the route names a backend that does not exist"))
				fail.backend = name
				return nil, fail
			}
			if !c.claim(ctx, lease, name) {
				return nil, moved(name)
			}
			at, fail := c.loginAt(ctx, a, b)
			if fail == nil {
				f := c.facts(a, at)
				at.entering = c.srv.enter(f.info())
				if lease.Commit(name) {
					return at, nil
				}
				c.srv.forget(at.entering)
				_ = at.raw.Close()
				return nil, moved(name)
			}
			last = fail
			fail.backend = name
			c.noteBackend(ctx, a, b, fail)
			if !fail.retry {
				return nil, fail
			}
			if !fail.unreached {
				break // it is there, and has seen the user's credentials
			}
		}
		if round == maxRetries || !c.srv.wait(ctx, retryPause) {
			return nil, last
		}
		if c.cfg.Health != nil && slices.ContainsFunc(names, c.srv.live.isDown) {
			return nil, moved(names[0]) // what is known by now may lead elsewhere
		}
	}
}

// claim announces the login to the routing table, which refuses it while the user
// is elsewhere. Sessions at a backend that is down are ended for it: their user
// has come back, and cannot wait for them. After a refusal the login begins anew.
func (c *conn) claim(ctx context.Context, lease *route.Lease, backend string) bool {
	if lease.Claim(ctx, backend) {
		return true
	}
	gone, key := lease.Evict(), lease.Placement().Key
	dead := func(i SessionInfo) bool { return i.User == key && c.srv.live.isDown(i.Backend) }
	o := KickOptions{Reason: endBackend.reason, Text: "Connection to the mail store lost."}
	_, err := c.srv.Kick(ctx, dead, o)
	if c.srv.kickElsewhere != nil {
		c.srv.kickElsewhere(ctx, key, dead, o)
	}
	if err == nil {
		// Another login of the user ends soon, one way or the other. Going back to
		// its backend meanwhile would keep the two from ever going on.
		soon, cancel := context.WithTimeout(ctx, c.cfg.ConnectTimeout)
		defer cancel()
		c.srv.waitFor(soon, gone)
	}
	return false
}

// moved is the failure of a login whose user was assigned to another backend
// meanwhile. The login begins anew.
func moved(backend string) *failure {
	f := unavailable("login/route", "moved", errors.New("the user was assigned to another backend"))
	f.backend, f.moved = backend, true
	return f
}

// loginAt makes one attempt at one backend: through a warm connection where there
// is one, else through one of its own.
func (c *conn) loginAt(ctx context.Context, a *attempt, b *Backend) (_ *backendConn, fail *failure) {
	leave, fail := c.srv.admit(ctx, c.cfg, b)
	if fail != nil {
		return nil, fail
	}
	defer func() { leave(fail) }()
	began := time.Now()
	c.traced().say("-", "connecting to "+b.Name)
	stock := c.srv.stock(b)
	if stock != nil {
		if warm := stock.take(); warm != nil {
			warm.leave = leave
			warm.guard(ctx)
			bc, fail := c.loginOn(ctx, a, warm, began)
			if fail == nil || !fail.stale {
				stock.answers.add(time.Since(began))
				stock.poke() // there is one less
				c.srv.metrics.WarmLogin(b.Name, warmHit)
				return bc, fail
			}
			c.srv.metrics.WarmLogin(b.Name, warmStale)
			stock.clear() // the others are no better
			began = time.Now()
		} else {
			c.srv.metrics.WarmLogin(b.Name, warmMiss)
		}
	}
	bc, fail := c.srv.connect(ctx, c.cfg, b, &c.client)
	if fail != nil {
		// A client that comes with its login in the last second gives the backend
		// no time to answer.
		deadline, _ := ctx.Deadline()
		fail.ours = fail.ours || ctx.Err() != nil || isTimeout(fail.err) && deadline.Sub(began) < c.cfg.ConnectTimeout
		return nil, fail
	}
	if stock != nil {
		stock.poke() // not before: the client who waits comes first
	}
	bc.leave = leave
	return c.loginOn(ctx, a, bc, began)
}

// loginOn logs in through a connection, and closes it when that fails.
func (c *conn) loginOn(ctx context.Context, a *attempt, bc *backendConn, began time.Time) (*backendConn, *failure) {
	deadline, _ := ctx.Deadline()
	bc.trace = c.traced()
	fail := bc.login(c, a, deadline)
	bc.trace = nil
	if fail == nil && !bc.release() {
		fail = unavailable("login/authenticate", "timeout", ctx.Err())
	}
	if fail != nil {
		bc.close()
		if fail.result == resultRejected {
			c.srv.rejections.add(time.Since(began))
		}
		// The backend was not asked in vain but too late.
		fail.stale = bc.warm && !bc.answered && fail.retry && ctx.Err() == nil && isIOError(fail.err)
		return nil, fail
	}
	if bc.warm {
		setUserTimeout(bc.raw, userTimeout)
	}
	return bc, nil
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// noteBackend counts a failed attempt that is the backend's fault, and logs one
// that may pass.
func (c *conn) noteBackend(ctx context.Context, a *attempt, b *Backend, f *failure) {
	if f.result != resultUnavailable && f.result != resultMisconfigured || f.client != nil || f.moved || c.interruption() != nil {
		return // the client's matter, that is logged with its reply, or ours
	}
	c.srv.metrics.BackendFailed(f.backend, f.reason)
	if f.result == resultUnavailable {
		c.log.Warn("backend failed", append(c.loginFields(a, f.backend), zap.String("state", f.state), zap.Error(f.err))...)
	}
	if f.unreached && !f.ours {
		c.srv.judge(ctx, c.cfg, b, f, func() verdict {
			return c.srv.live.unreachable(b, c.cfg.checkFor(b.Name), network(c.client.remote.Addr()), time.Now(), c.cfg.pools())
		})
	}
}

// refuse answers a login that failed. Wrong credentials are answered after a
// delay; an outage is answered at once.
func (c *conn) refuse(ctx context.Context, a *attempt, f *failure) error {
	c.log.Info("login failed", append(c.loginFields(a, f.backend),
		zap.String("result", string(f.result)), zap.String("state", f.state), zap.Error(f.err))...)
	switch f.result {
	case resultRejected, resultUnknownUser, resultInvalid, resultForbidden:
		c.failed++
		c.delay(ctx, a)
	case resultRefused:
		if f.reply.Code != "INUSE" && f.reply.Code != "LIMIT" {
			c.failed++ // some servers say ALERT for a wrong password
		}
	case resultOK, resultLimited, resultUnavailable, resultMisconfigured, resultCannot, resultCancelled:
	}
	if f.client != nil {
		return f.client
	}
	for _, u := range f.untagged {
		c.say(u)
	}
	c.no(a.tag, f.reply)
	if c.failed >= c.cfg.MaxFailures {
		return errTooManyFail
	}
	return nil
}

// master returns the user who logs in for another one, "" for none.
func (a *attempt) master() string {
	switch {
	case a.route.master != "":
		return a.route.master
	case a.authzid != "" && a.authzid != a.authcid && validName(a.authcid):
		return a.authcid
	}
	return ""
}

// loginFields are the log fields of a login.
func (c *conn) loginFields(a *attempt, backend string) []zap.Field {
	return loginFields(c.fields(), a.mechanism, a.route.key, a.master(), backend)
}

// loginFields adds what is known of a login to the fields of its connection. The
// user stands behind the address: a name cannot be made to look like an address to
// what reads the log.
func loginFields(f []zap.Field, mechanism, user, master, backend string) []zap.Field {
	f = append(f, zap.String("mechanism", mechanism), zap.String("user", user))
	if master != "" {
		f = append(f, zap.String("master", master))
	}
	if backend != "" {
		f = append(f, zap.String("backend", backend))
	}
	return f
}

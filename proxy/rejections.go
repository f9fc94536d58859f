package proxy

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"
)

// rejections remembers how long backends took to reject the last logins: users who
// do not exist are to be rejected no sooner and no later. Single durations are kept,
// and not their mean: the answers are to look alike, and a mean has no spread. The
// zero value remembers none.
type rejections struct {
	mu     sync.Mutex
	took   [32]time.Duration
	count  int           // in all
	late   time.Duration // by how much timers are, on this machine, as of lately
	asking chan struct{} // closed when somebody who asks a backend has its answer; nil: nobody asks
}

func (r *rejections) add(d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.took[r.count%len(r.took)] = d
	r.count++
}

// like returns how long one of the last rejections took, less what a timer is late
// by. Where none is known, the
// caller is to ask a backend and to close the channel then, or, when there is no
// channel to close, to wait for the one who asks.
func (r *rejections) like() (d time.Duration, known bool, ask, asked chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := min(r.count, len(r.took)); n > 0 {
		return r.took[rand.IntN(n)] - r.late, true, nil, nil //nolint:gosec // no secret
	}
	if r.asking != nil {
		return 0, false, nil, r.asking
	}
	r.asking = make(chan struct{})
	return 0, false, r.asking, nil
}

// woke takes note of how much later a wait ended than it should have: some ten
// microseconds, or a millisecond on a busy machine, which is a lot beside a backend
// that is quick to reject.
func (r *rejections) woke(late time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.late += (late - r.late) / 8
}

// answered ends what a caller of like began.
func (r *rejections) answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	close(r.asking)
	r.asking = nil
}

// pretend takes as long as a backend that rejects a login, for a user who does not
// exist. Until the first rejection nobody knows how long that is, and a backend is
// asked: with a name that is not the client's, nor is the password.
func (c *conn) pretend(ctx context.Context) {
	began := time.Now()
	d, known, ask, asked := c.srv.rejections.like()
	switch {
	case ask != nil:
		c.askRejection(ctx)
		c.srv.rejections.answered()
		return // it took what it took
	case !known:
		select {
		case <-asked:
		case <-ctx.Done():
		case <-c.srv.closing:
		}
		d, _, ask, _ = c.srv.rejections.like()
		if ask != nil {
			c.srv.rejections.answered() // there is no backend to ask
		}
	}
	if due := began.Add(d); c.srv.wait(ctx, time.Until(due)) {
		c.srv.rejections.woke(time.Since(due))
	}
}

// Whom no backend knows.
const (
	noUser     = "imapgate-no-such-user"
	noPassword = "no-such-password"
)

// askRejection has a login rejected by some backend that works, which is noted as
// every rejection is.
func (c *conn) askRejection(ctx context.Context) {
	for name, b := range c.cfg.Backends { // in any order
		if c.srv.live.isDown(name) {
			continue
		}
		a := newAttempt("", commandLogin, attempt{authcid: noUser, secret: NewSecret([]byte(noPassword))})
		a.route.user = noUser
		if bc, fail := c.loginAt(ctx, a, b); fail == nil {
			_ = bc.raw.Close()
		}
		return
	}
}

package admin

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"go.uber.org/zap"

	"imapgate/proxy"
	"imapgate/route"
)

const (
	defaultMoveTimeout = 30 * time.Second
	maxMoveTimeout     = 10 * time.Minute
	moveMargin         = 10 * time.Second // a hold outlives the move that made it by that
)

// move sends a user to another backend, such that nobody has to look after it:
//
//	hold      new logins wait
//	kick      sessions end, each at a response boundary
//	wait      until they are gone
//	pin       the user belongs to the other backend
//	release   logins that waited go there
//
// Whatever goes wrong on the way leaves the user where they were. A hold by
// people is left as it is.
func (s *Server) move(c *call, in *MoveRequest) (*Moved, error) {
	ch, err := c.change(in.Why, in.Until)
	if err != nil {
		return nil, err
	}
	timeout := defaultMoveTimeout
	if in.TimeoutSeconds != 0 {
		timeout = time.Duration(in.TimeoutSeconds * float64(time.Second))
		if timeout <= 0 || timeout > maxMoveTimeout {
			return nil, failf(http.StatusBadRequest, "timeout_seconds is not between 0 and %g", maxMoveTimeout.Seconds())
		}
	}
	if err := s.canTake(in.Backend); err != nil {
		return nil, err
	}
	key, p, done, err := s.enter(c)
	if err != nil {
		return nil, err
	}
	defer done()
	out := &Moved{User: key, To: in.Backend, Held: p.Held, DryRun: in.DryRun}
	if len(p.Backends) > 0 {
		out.From = p.Backends[0]
	}
	m := mover{s: s, st: s.Site.InForce().Table.State(), key: key, to: in.Backend}
	if in.DryRun {
		out.Sessions = m.elsewhere()
		return out, nil
	}
	ctx, cancel := context.WithTimeout(c.Context(), timeout)
	defer cancel()
	if !p.Held {
		err := m.st.Hold(key, route.Change{By: c.by, Why: "move to " + in.Backend, Until: time.Now().Add(timeout + moveMargin)})
		defer m.st.Release(key)
		if err != nil {
			return nil, s.stateError(m.st, err)
		}
	}
	if out.Sessions, err = m.clear(ctx); err != nil {
		return nil, err
	}
	if err := m.st.Pin(key, in.Backend, ch); err != nil {
		return nil, s.stateError(m.st, err)
	}
	s.changed(c, "move", key, in.Why, zap.String("from", out.From), zap.String("backend", in.Backend), zap.Int("sessions", out.Sessions))
	return out, nil
}

// canTake refuses to move users to where they would not be served.
func (s *Server) canTake(backend string) error {
	if backend == "" {
		return failf(http.StatusBadRequest, "backend is missing")
	}
	b, err := findBackend(s.Site.InForce().Table, backend)
	switch {
	case err != nil:
		return err
	case b.Admin == route.AdminMaint:
		return failf(http.StatusConflict, "%s is in maintenance: nobody would be served there", backend)
	case !b.Up:
		return failf(http.StatusConflict, "%s is down: nobody would be served there", backend)
	}
	return nil
}

// mover moves one user.
type mover struct {
	s   *Server
	st  *route.State
	key string
	to  string
}

// there says whether a session is one that the user must not have after the move.
func (m *mover) there(i proxy.SessionInfo) bool { return i.User == m.key && i.Backend != m.to }

// elsewhere counts the sessions that would end.
func (m *mover) elsewhere() int {
	n := 0
	for _, i := range m.s.Proxy.Sessions() {
		if m.there(i) {
			n++
		}
	}
	return n
}

// kickAgain is how often a move looks for sessions that it did not see: a login
// may become one at that very moment.
const kickAgain = 250 * time.Millisecond

// clear ends the user's sessions, if they are elsewhere, and waits for that. It
// returns how many there were.
func (m *mover) clear(ctx context.Context) (int, error) {
	gone := m.st.Gone(m.key)
	select {
	case <-gone:
		return 0, nil // without a look at all sessions there are
	default:
	}
	again := time.NewTicker(kickAgain)
	defer again.Stop()
	total := 0
	for {
		n, err := m.s.Proxy.Kick(ctx, m.there, proxy.KickOptions{Reason: "move", Text: "Your mailbox is being moved, connect again."})
		total += n
		if err == nil && total == 0 && m.stays() {
			return 0, nil
		}
		select {
		case <-gone:
			return total, nil
		case <-again.C:
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return total, failf(http.StatusGatewayTimeout, "%s was not moved: %d sessions were told to end, and are not gone", m.key, total)
			}
			return total, failf(http.StatusServiceUnavailable, "%s was not moved: interrupted", m.key)
		}
	}
}

// stays says whether the user has sessions at the backend they are moved to.
func (m *mover) stays() bool {
	return slices.ContainsFunc(m.s.Proxy.Sessions(), func(i proxy.SessionInfo) bool { return i.User == m.key && i.Backend == m.to })
}

package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"go.uber.org/zap"

	"imapgate/proxy"
	"imapgate/route"
)

// changed logs what somebody changes.
func (s *Server) changed(c *call, action, name, why string, fields ...zap.Field) {
	if name != "" {
		fields = append([]zap.Field{zap.String("name", name)}, fields...)
	}
	if why != "" {
		fields = append(fields, zap.String("why", why))
	}
	s.log.Info("operator", append([]zap.Field{zap.String("action", action), zap.String("by", c.by)}, fields...)...)
}

// moment is a time for the log; the zero time is left out.
func moment(name string, t time.Time) zap.Field {
	if t.IsZero() {
		return zap.Skip()
	}
	return zap.Time(name, t)
}

const maxWhy = 500 // bytes of a reason

// change returns what the state notes of a change.
func (c *call) change(why string, until time.Time) (route.Change, error) {
	if len(why) > maxWhy || strings.ContainsFunc(why, func(r rune) bool { return r < ' ' }) {
		return route.Change{}, failf(http.StatusBadRequest, "why is one line of %d bytes at the most", maxWhy)
	}
	if !until.IsZero() && !until.After(time.Now()) {
		return route.Change{}, failf(http.StatusBadRequest, "until (%s) is in the past", until.Format(time.RFC3339))
	}
	return route.Change{By: c.by, Why: why, Until: until}, nil
}

// stateError is the error of a change that the state did not make.
func (s *Server) stateError(st *route.State, err error) error {
	saving := st.SaveError()
	switch {
	case err == nil:
		return nil
	case errors.Is(err, route.ErrUnknownBackend):
		return failf(http.StatusNotFound, "%s", errors.Unwrap(err).Error()) // without the kind of change
	case saving != nil && errors.Is(err, saving):
		s.log.Error("changes are not saved", zap.Error(err))
		return failf(http.StatusInternalServerError, "%s", err.Error())
	}
	return failf(http.StatusBadRequest, "%s", err.Error())
}

// saved returns an error when a change that cannot fail could not be saved.
func (s *Server) saved(st *route.State) error { return s.stateError(st, st.SaveError()) }

// drain lets nobody new come to a backend. With a deadline it becomes maintenance
// then.
func (s *Server) drain(c *call, in *DrainRequest) (*Changed, error) {
	ch, err := c.change(in.Why, in.Until)
	if err != nil {
		return nil, err
	}
	switch {
	case in.Deadline.IsZero():
	case !in.Deadline.After(time.Now()):
		return nil, failf(http.StatusBadRequest, "the deadline (%s) is in the past: use maint", in.Deadline.Format(time.RFC3339))
	case !in.Until.IsZero() && !in.Deadline.Before(in.Until):
		return nil, failf(http.StatusBadRequest, "the deadline (%s) is not before the end of the drain (%s)", in.Deadline.Format(time.RFC3339), in.Until.Format(time.RFC3339))
	}
	name := c.PathValue("name")
	ch.Deadline = in.Deadline
	if err := s.setAdmin(name, route.AdminDrain, ch); err != nil {
		return nil, err
	}
	s.changed(c, "drain", name, in.Why, moment("until", in.Until), moment("deadline", in.Deadline))
	if !in.Deadline.IsZero() {
		s.leave(c.Context(), name, in.Deadline)
	}
	return s.changedBackend(name)
}

// maint lets nobody come to a backend, and ends the sessions there.
func (s *Server) maint(c *call, in *ChangeRequest) (*Changed, error) {
	ch, err := c.change(in.Why, in.Until)
	if err != nil {
		return nil, err
	}
	name := c.PathValue("name")
	if err := s.setAdmin(name, route.AdminMaint, ch); err != nil {
		return nil, err
	}
	s.changed(c, "maint", name, in.Why, moment("until", in.Until))
	out, err := s.changedBackend(name)
	if err == nil {
		out.Ending = out.Backend.Sessions
	}
	s.leave(c.Context(), name, time.Time{})
	return out, err
}

// ready takes drain and maint back.
func (s *Server) ready(c *call, in *ReasonRequest) (*Changed, error) {
	ch, err := c.change(in.Why, time.Time{})
	if err != nil {
		return nil, err
	}
	name := c.PathValue("name")
	if err := s.setAdmin(name, route.AdminReady, ch); err != nil {
		return nil, err
	}
	s.changed(c, "ready", name, in.Why)
	return s.changedBackend(name)
}

// setAdmin changes the admin state of a backend. What an earlier change was about
// to do is not done.
func (s *Server) setAdmin(name string, a route.Admin, ch route.Change) error {
	in := s.Site.InForce()
	if _, err := findBackend(in.Table, name); err != nil && a != route.AdminReady {
		return err
	}
	if err := in.Table.State().SetAdmin(name, a, ch); err != nil {
		return s.stateError(in.Table.State(), err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if l := s.leaving[name]; l != nil {
		l.cancel()
		delete(s.leaving, name)
	}
	return nil
}

// weight changes the weight of a backend.
func (s *Server) weight(c *call, in *WeightRequest) (*Changed, error) {
	ch, err := c.change(in.Why, in.Until)
	if err != nil {
		return nil, err
	}
	name := c.PathValue("name")
	table := s.Site.InForce().Table
	if _, err := findBackend(table, name); err != nil && in.Weight != 0 {
		return nil, err
	}
	if err := table.State().SetWeight(name, in.Weight, ch); err != nil {
		return nil, s.stateError(table.State(), err)
	}
	s.changed(c, "weight", name, in.Why, zap.Int("weight", in.Weight), moment("until", in.Until))
	return s.changedBackend(name)
}

func (s *Server) changedBackend(name string) (*Changed, error) {
	b, err := findBackend(s.Site.InForce().Table, name)
	if err != nil {
		// A reload took it away, and what people had changed has now gone too.
		b = route.BackendStatus{Name: name, Admin: route.AdminReady, Pools: []string{}}
	}
	out := s.backend(b, s.Proxy.Logins()[name], time.Now())
	out.Unconfigured = err != nil
	return &Changed{Backend: out}, nil
}

// findBackend returns a backend of the table in force. What is known of backends
// outlives the tables that had them, so that the state does not tell.
func findBackend(t *route.Table, name string) (route.BackendStatus, error) {
	for _, b := range t.Backends() {
		if b.Name == name {
			return b, nil
		}
	}
	return route.BackendStatus{}, failf(http.StatusNotFound, "unknown backend %q", name)
}

// leaving is a backend whose sessions are to end.
type leaving struct{ cancel context.CancelFunc }

// leave ends the sessions of a backend, from the deadline of its drain on, in a
// goroutine of its own; at once, if that is zero.
func (s *Server) leave(ctx context.Context, name string, deadline time.Time) {
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	l := &leaving{cancel: cancel}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		cancel()
		return
	}
	if old := s.leaving[name]; old != nil {
		old.cancel()
	}
	s.leaving[name] = l
	s.wg.Go(func() {
		defer cancel()
		s.empty(ctx, name, deadline)
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.leaving[name] == l {
			delete(s.leaving, name)
		}
	})
}

// resume takes up the deadlines of drains that were made before the last stop.
func (s *Server) resume(ctx context.Context) {
	for _, o := range s.Site.InForce().Table.State().Overrides() {
		if !o.Deadline.IsZero() {
			s.leave(ctx, o.Name, o.Deadline)
		}
	}
}

// stopLeaving ends what leave began.
func (s *Server) stopLeaving() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, l := range s.leaving {
		l.cancel()
	}
}

// empty waits for the deadline, and then ends the sessions of a backend.
func (s *Server) empty(ctx context.Context, name string, deadline time.Time) {
	if !deadline.IsZero() {
		if !sleep(ctx, time.Until(deadline)) {
			return
		}
		// From now on sessions that are still there bring in no further ones.
		due, err := s.Site.InForce().Table.State().Overdue(name, deadline)
		if err != nil {
			s.log.Error("changes are not saved", zap.Error(err))
		}
		if !due {
			return
		}
		s.log.Info("drain: deadline", zap.String("backend", name))
	}
	n, err := s.endSessions(ctx, func(i proxy.SessionInfo) bool { return i.Backend == name }, s.Site.InForce().CloseSpread, proxy.KickOptions{
		Reason: "maintenance", Text: "The mail server goes into maintenance.",
	})
	if err == nil {
		s.log.Info("sessions were told to end", zap.String("backend", name), zap.Int("sessions", n))
	}
}

// maxWaves bounds how often endSessions goes through all sessions.
const maxWaves = 60

// endSessions ends the sessions that match, spread over some time, those of each
// user together: one that is left would draw the others back.
func (s *Server) endSessions(ctx context.Context, match func(proxy.SessionInfo) bool, spread time.Duration, o proxy.KickOptions) (int, error) {
	wave := make(map[string]int) // by user
	for _, i := range s.Proxy.Sessions() {
		if _, known := wave[i.User]; !known && match(i) {
			wave[i.User] = len(wave)
		}
	}
	waves := min(len(wave), maxWaves)
	total := 0
	for n := range waves {
		if n > 0 && !sleep(ctx, spread/time.Duration(waves)) {
			return total, ctx.Err()
		}
		ended, err := s.Proxy.Kick(ctx, func(i proxy.SessionInfo) bool {
			// Whoever came meanwhile goes last.
			at, known := wave[i.User]
			return match(i) && (known && at%waves == n || !known && n == waves-1)
		}, o)
		total += ended
		if err != nil {
			return total, err
		}
	}
	return total, nil
}

// sleep waits, and says whether ctx lasted.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(max(0, d))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

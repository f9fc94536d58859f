package admin

import (
	"errors"
	"net/http"
	"time"

	"go.uber.org/zap"

	"imapgate/route"
)

// key returns the key of the user that a path names, as a login would make it.
func (s *Server) key(c *call) (string, error) {
	names := s.Site.InForce().Names
	user, master := names.Split(c.PathValue("user"))
	if master != "" {
		return "", failf(http.StatusBadRequest, "%q names a master user too: give the user alone", c.PathValue("user"))
	}
	return names.Key(user), nil
}

// enter begins a change of a user whom a table knows: a typing error must not lie
// around as the pin of nobody. done ends the change.
func (s *Server) enter(c *call) (key string, p route.Placement, done func(), err error) {
	if key, err = s.key(c); err != nil {
		return "", p, nil, err
	}
	if done, err = s.begin(key); err != nil {
		return "", p, nil, err
	}
	p, err = s.Site.InForce().Table.Explain(key)
	if _, ok := errors.AsType[*route.UnavailableError](err); err != nil && !ok {
		done()
		return "", p, nil, lookupError(key, err)
	}
	return key, p, done, nil
}

// pin sends a user to a backend.
func (s *Server) pin(c *call, in *PinRequest) (*UserChanged, error) {
	ch, err := c.change(in.Why, in.Until)
	if err != nil {
		return nil, err
	}
	if in.Backend == "" {
		return nil, failf(http.StatusBadRequest, "backend is missing")
	}
	if _, err := findBackend(s.Site.InForce().Table, in.Backend); err != nil {
		return nil, err
	}
	key, _, done, err := s.enter(c)
	if err != nil {
		return nil, err
	}
	defer done()
	st := s.Site.InForce().Table.State()
	if err := st.Pin(key, in.Backend, ch); err != nil {
		return nil, s.stateError(st, err)
	}
	s.changed(c, "pin", key, in.Why, zap.String("backend", in.Backend), moment("until", in.Until))
	return &UserChanged{User: key, Backend: in.Backend, Sessions: s.sessionsOf(st, key)}, nil
}

// unpin takes a pin back.
func (s *Server) unpin(c *call, in *ReasonRequest) (*UserChanged, error) {
	return s.takeBack(c, in, "unpin", "%s is not pinned", (*route.State).Unpin)
}

// hold makes logins of a user wait.
func (s *Server) hold(c *call, in *ChangeRequest) (*UserChanged, error) {
	ch, err := c.change(in.Why, in.Until)
	if err != nil {
		return nil, err
	}
	key, _, done, err := s.enter(c)
	if err != nil {
		return nil, err
	}
	defer done()
	st := s.Site.InForce().Table.State()
	if err := st.Hold(key, ch); err != nil {
		return nil, s.stateError(st, err)
	}
	s.changed(c, "hold", key, in.Why, moment("until", in.Until))
	return &UserChanged{User: key, Sessions: s.sessionsOf(st, key)}, nil
}

// release ends a hold.
func (s *Server) release(c *call, in *ReasonRequest) (*UserChanged, error) {
	return s.takeBack(c, in, "release", "%s is not held", (*route.State).Release)
}

// takeBack ends a pin or a hold, of users that no table knows any more too.
func (s *Server) takeBack(c *call, in *ReasonRequest, action, none string, drop func(*route.State, string) bool) (*UserChanged, error) {
	if _, err := c.change(in.Why, time.Time{}); err != nil {
		return nil, err
	}
	key, err := s.key(c)
	if err != nil {
		return nil, err
	}
	done, err := s.begin(key)
	if err != nil {
		return nil, err
	}
	defer done()
	st := s.Site.InForce().Table.State()
	if !drop(st, key) {
		return nil, failf(http.StatusNotFound, none, key)
	}
	s.changed(c, action, key, in.Why)
	if err := s.saved(st); err != nil {
		return nil, err
	}
	return &UserChanged{User: key, Sessions: s.sessionsOf(st, key)}, nil
}

// begin keeps changes of one user apart: a move is several. done ends the change.
func (s *Server) begin(key string) (done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.moving[key]; ok {
		return nil, failf(http.StatusConflict, "%s is being moved or changed by somebody else just now", key)
	}
	s.moving[key] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.moving, key)
	}, nil
}

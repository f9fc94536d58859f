package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"

	"go.uber.org/zap"
)

// upgrade goes on as a new process.
func (s *Server) upgrade(c *call, in *UpgradeRequest) (*Upgraded, error) {
	s.changed(c, "upgrade", "", "", zap.Bool("if_changed", in.IfChanged))
	if in.IfChanged && !s.Site.NewProgram() {
		r, err := s.reload(c, &ReloadRequest{})
		return &Upgraded{PID: os.Getpid(), Version: s.Build.Version, OldPID: os.Getpid(), OldVersion: s.Build.Version, Reload: r}, err
	}
	u, err := s.Site.Upgrade(c.Context(), UpgradeOptions{By: c.by})
	if err != nil {
		lines := []string{err.Error()}
		if several, ok := errors.AsType[Mistakes](err); ok {
			lines = messages(several)
		}
		return nil, &apiError{code: http.StatusBadGateway, text: "not upgraded, the old process serves on: " + lines[0], details: lines[1:]}
	}
	return &u, nil
}

// ErrUpgrading is why there is no reload, and no other upgrade, during an upgrade.
var ErrUpgrading = errors.New("an upgrade is under way: ask again when it is over")

// errFrozen answers changes while a new process takes over.
var errFrozen = &apiError{code: http.StatusServiceUnavailable, text: "a new process is taking over: ask again in a moment"}

// changing notes that a change is under way, until the function that it returns is
// called.
func (s *Server) changing() (func(), error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.frozen {
		return nil, errFrozen
	}
	s.changes++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.changes--; s.changes == 0 && s.settled != nil {
			close(s.settled)
			s.settled = nil
		}
	}, nil
}

// Freeze refuses changes from now on, and waits until none is under way: what the
// caller sees then is what a new process is to have. After an error nothing is
// frozen.
func (s *Server) Freeze(ctx context.Context) error {
	s.mu.Lock()
	s.frozen = true
	var settled chan struct{}
	if s.changes > 0 {
		settled = make(chan struct{})
		s.settled = settled
	}
	s.mu.Unlock()
	if settled == nil {
		return nil
	}
	select {
	case <-settled:
		return nil
	case <-ctx.Done():
		s.Thaw()
		return errors.New("a change is under way: a move, say")
	}
}

// Thaw takes Freeze back.
func (s *Server) Thaw() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.frozen, s.settled = false, nil
}

// KeepSocket makes the file of a unix socket outlive the listener, or not: it is
// removed by whoever serves it last.
func (l *Listener) KeepSocket(keep bool) {
	if u, ok := l.Listener.(*net.UnixListener); ok {
		u.SetUnlinkOnClose(!keep)
	}
}

// Local says whether it is a unix socket.
func (l *Listener) Local() bool { return l.local }

package main

import (
	"context"
	"errors"
	"os"
	"sync"

	"go.uber.org/zap"

	"imapgate/cmd/imapgate/internal/admin"
	"imapgate/cmd/imapgate/internal/config"
	"imapgate/route"
)

// adminServer is the API of a running proxy. It outlives the proxy's shutdown, so
// that people can watch it.
type adminServer struct {
	server    *admin.Server
	listeners []*admin.Listener
	log       *zap.Logger
	cancel    context.CancelFunc
	keep      bool // the socket's file is somebody else's to remove
	serving   sync.WaitGroup
}

// openAdmin opens what the configuration says of the API.
func (a *app) openAdmin(ctx context.Context, l *loaded, in *inherited) (*adminServer, error) {
	b := build()
	s := &adminServer{log: a.log.Named("admin"), cancel: func() {}}
	var err error
	s.server, err = admin.New(admin.Options{
		Proxy: a.whole(), Site: adminSite{a}, Metrics: a.metrics, History: a.history, Log: s.log,
		Build:  admin.Build{Version: b.Version, Revision: b.Revision, Go: b.Go, Platform: b.Platform},
		Config: a.path, OverridesFile: l.conf.OverridesPath(),
	})
	if err != nil {
		return nil, err
	}
	s.server.SetTokens(l.tokens)
	open := func(at config.Pos, listener *admin.Listener, err error) error {
		if err != nil {
			s.close()
			return &exitError{exitFailed, l.conf.Fail(at, err, "the admin API cannot be served")}
		}
		s.listeners = append(s.listeners, listener)
		return nil
	}
	if path := l.conf.SocketPath(); path != "" {
		there := in.take(adminUnix, "unix", path)
		s.keep = there != nil && in.keep
		listener, err := admin.ListenUnix(ctx, path, there)
		if err := open(l.conf.Admin.Socket.Pos, listener, err); err != nil {
			return nil, err
		}
	}
	if address := l.conf.AdminAddress(); address != "" {
		listener, err := admin.ListenTCP(ctx, address, l.tokens != nil, in.take(adminTCP, "tcp", address))
		if err := open(l.conf.Admin.HTTP.Pos, listener, err); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// What the API's sockets are called when they are handed over: an upgrade keeps
// them, as a reload does, whatever the configuration says by then.
const (
	adminUnix = "admin.socket"
	adminTCP  = "admin.http"
)

func adminSocketName(l *admin.Listener) string {
	if l.Local() {
		return adminUnix
	}
	return adminTCP
}

// leave leaves the sockets to the new process. Requests that have come are answered
// until stop.
func (s *adminServer) leave() {
	for _, l := range s.listeners {
		l.KeepSocket(true)
	}
	s.close()
}

// close closes the listeners.
func (s *adminServer) close() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
}

// serve serves until stop. Without listeners, deadlines of drains are all there is
// to do.
func (s *adminServer) serve(ctx context.Context) {
	for _, l := range s.listeners {
		l.KeepSocket(s.keep)
	}
	ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.serving.Go(func() {
		if err := s.server.Serve(ctx, s.listeners...); err != nil {
			s.log.Error("the admin API is not served any more", zap.Error(err))
		}
	})
}

// address returns the TCP address that is served, "" when there is none.
func (s *adminServer) address() string {
	for _, l := range s.listeners {
		if l.Addr().Network() == "tcp" {
			return l.Addr().String()
		}
	}
	return ""
}

// stop ends serving.
func (s *adminServer) stop() {
	s.cancel()
	s.serving.Wait()
}

// setTokens replaces the tokens that are accepted.
func (s *adminServer) setTokens(t *admin.Tokens) { s.server.SetTokens(t) }

// adminSite is an app as the API sees it.
type adminSite struct{ a *app }

// InForce implements [admin.Site], like the methods below.
func (s adminSite) InForce() admin.InForce {
	l := s.a.current.Load()
	in := admin.InForce{
		Table: l.routing.Table, Names: l.routing.Names,
		CloseSpread: l.conf.CloseSpread.V, Certificates: l.conf.Certificates,
	}
	if running := s.a.acme.Load(); running != nil {
		in.ACME = running.ACME
	}
	return in
}

var errStopping = errors.New("imapgate is shutting down")

// Reload asks for a reload, and waits until it is over.
func (s adminSite) Reload(ctx context.Context, o admin.ReloadOptions) (admin.Reload, error) {
	done := make(chan reloadResult, 1)
	select {
	case s.a.requests <- reloadRequest{force: o.Force, by: o.By, done: done}:
	case <-s.a.stopping:
		return admin.Reload{}, errStopping
	case <-ctx.Done():
		return admin.Reload{}, ctx.Err()
	}
	select {
	case r := <-done:
		return r.reload, r.err
	case <-s.a.stopping:
		return admin.Reload{}, errStopping
	case <-ctx.Done():
		return admin.Reload{}, ctx.Err()
	}
}

// Upgrade asks for an upgrade, and waits until it is over.
func (s adminSite) Upgrade(ctx context.Context, o admin.UpgradeOptions) (admin.Upgraded, error) {
	done := make(chan upgradeResult, 1)
	select {
	case s.a.upgrades <- upgradeRequest{by: o.By, done: done}:
	case <-s.a.stopping:
		return admin.Upgraded{}, errStopping
	case <-ctx.Done():
		return admin.Upgraded{}, ctx.Err()
	}
	var err error
	select {
	case r := <-done:
		return r.upgrade, r.err
	case <-s.a.stopping:
		err = errStopping
	case <-ctx.Done():
		err = ctx.Err()
	}
	select {
	case r := <-done: // which comes before the API stops here
		return r.upgrade, r.err
	default:
		return admin.Upgraded{}, err
	}
}

// NewProgram says whether an upgrade would start another program than the one that
// runs.
func (s adminSite) NewProgram() bool {
	path, err := executable()
	if err != nil {
		return true // the upgrade will tell
	}
	next, err := os.Stat(path)
	if err != nil {
		return true
	}
	running, err := os.Stat("/proc/self/exe")
	return err != nil || !os.SameFile(next, running)
}

// Older implements [admin.Site].
func (s adminSite) Older() *admin.OlderProcess { return s.a.older.describe() }

// Compare loads a table beside the one in force, and compares the two.
func (s adminSite) Compare(ctx context.Context, c admin.Candidate) (route.Diff, error) {
	l := s.a.current.Load()
	table, err := l.conf.LoadCandidate(ctx, c.Name, c.Rows, c.Replaces)
	if err != nil {
		return route.Diff{}, err
	}
	return l.routing.Table.Diff(table, c.Limit)
}

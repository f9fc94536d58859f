package main

import (
	"context"
	"errors"
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
	serving   sync.WaitGroup
}

// openAdmin opens what the configuration says of the API.
func (a *app) openAdmin(ctx context.Context, l *loaded, in *inherited) (*adminServer, error) {
	b := build()
	s := &adminServer{log: a.log.Named("admin"), cancel: func() {}}
	var err error
	s.server, err = admin.New(admin.Options{
		Proxy: a.server, Site: adminSite{a}, Metrics: a.metrics, History: a.history, Log: s.log,
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
		listener, err := admin.ListenUnix(ctx, path, in.take(path, "unix", path))
		if err := open(l.conf.Admin.Socket.Pos, listener, err); err != nil {
			return nil, err
		}
	}
	if address := l.conf.AdminAddress(); address != "" {
		listener, err := admin.ListenTCP(ctx, address, l.tokens != nil, in.take("admin "+address, "tcp", address))
		if err := open(l.conf.Admin.HTTP.Pos, listener, err); err != nil {
			return nil, err
		}
	}
	return s, nil
}

// close closes listeners that are not served.
func (s *adminServer) close() {
	for _, l := range s.listeners {
		_ = l.Close()
	}
}

// serve serves until stop. Without listeners, deadlines of drains are all there is
// to do.
func (s *adminServer) serve(ctx context.Context) {
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
	return admin.InForce{
		Table: l.routing.Table, Names: l.routing.Names,
		CloseSpread: l.conf.CloseSpread.V, Certificates: l.conf.Certificates,
	}
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

// Compare loads a table beside the one in force, and compares the two.
func (s adminSite) Compare(ctx context.Context, c admin.Candidate) (route.Diff, error) {
	l := s.a.current.Load()
	table, err := l.conf.LoadCandidate(ctx, c.Name, c.Rows, c.Replaces)
	if err != nil {
		return route.Diff{}, err
	}
	return l.routing.Table.Diff(table, c.Limit)
}

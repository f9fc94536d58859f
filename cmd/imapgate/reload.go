package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"syscall"
	"time"

	"go.uber.org/zap"

	"imapgate/cmd/imapgate/internal/config"
)

// prepared is the slow part of a reload, done beside what runs.
type prepared struct {
	began time.Time
	next  *loaded
	err   error
}

// prepare reads the configuration and everything it names.
func (a *app) prepare(ctx context.Context, inForce *config.Routing) prepared {
	p := prepared{began: time.Now()}
	p.next, p.err = load(ctx, a.path, a.certificate, inForce)
	return p
}

// apply puts a configuration in force, or logs why not. Until the first change
// nothing can fail any more, so that there is never half a reload.
func (a *app) apply(ctx context.Context, p prepared) {
	if p.err != nil {
		a.rejected(p.err)
		return
	}
	next := p.next
	opened, err := a.open(ctx, next.conf.Listeners)
	if err != nil {
		a.rejected(a.explain(err, next.conf.Listeners))
		return
	}
	if err := a.server.SetConfig(&next.conf.Proxy); err != nil {
		closeAll(opened)
		a.rejected(err)
		return
	}
	a.certificates.Store(next.conf.Certificates)
	a.replaceListeners(ctx, next.conf.Listeners, opened)
	a.level.SetLevel(logLevel(&next.conf.Log))
	if next.conf.Log.Format.V != a.inForce.conf.Log.Format.V {
		a.log.Warn("log.format changes with a restart only", zap.String("in_force", a.inForce.conf.Log.Format.V))
		next.conf.Log.Format = a.inForce.conf.Log.Format
	}
	a.unwatch()
	a.watching.Wait()
	a.inForce = next
	a.warn(next.conf.Warnings)
	a.watch(ctx)
	a.log.Info("configuration reloaded", zap.Int("listeners", len(a.sockets)),
		zap.Int("backends", len(next.conf.Proxy.Backends)), zap.Int("rows", next.routing.Table.Stats().Rows),
		zap.Duration("took", time.Since(p.began)))
}

// rejected logs everything that is wrong with a configuration.
func (a *app) rejected(err error) {
	var mistakes config.Errors
	if !errors.As(err, &mistakes) {
		a.log.Error("configuration rejected, the old one stays in force", zap.Error(err))
		return
	}
	for _, m := range mistakes {
		a.log.Error("configuration error", zap.Error(m))
	}
	a.log.Error("configuration rejected, the old one stays in force", zap.Int("errors", len(mistakes)))
}

// explain adds to "address in use" that it may be a listener of ours, which the
// same reload would close.
func (a *app) explain(err error, wanted []config.Listener) error {
	var mistakes config.Errors
	if !errors.As(err, &mistakes) {
		return err
	}
	for _, m := range mistakes {
		for _, conf := range wanted {
			if conf.Pos != m.Pos || !errors.Is(m.Err, syscall.EADDRINUSE) {
				continue
			}
			for name := range a.sockets {
				if port(name) == port(conf.Serve.Name) {
					m.Hint = "listener " + name + " has the port until it is gone: change it in two reloads, or restart"
				}
			}
		}
	}
	return mistakes
}

func port(address string) string {
	_, p, _ := net.SplitHostPort(address)
	return p
}

// replaceListeners closes what is not wanted any more, serves anew what has
// changed, and begins to serve what was opened.
func (a *app) replaceListeners(ctx context.Context, wanted []config.Listener, opened []*socket) {
	gone := maps.Clone(a.sockets)
	for _, conf := range wanted {
		s := a.sockets[conf.ID]
		delete(gone, conf.ID)
		if s == nil || s.conf.Fingerprint == conf.Fingerprint {
			continue
		}
		if err := s.release(); err != nil {
			a.log.Error("listener is lost", zap.String("listener", conf.Serve.Name), zap.Error(err))
			continue
		}
		s.conf = conf
		a.serve(ctx, s)
	}
	for _, name := range slices.SortedFunc(maps.Keys(gone), cmp.Compare[string]) {
		gone[name].stop()
		delete(a.sockets, name)
		a.log.Info("listener closed, its connections live on", zap.String("listener", name))
	}
	for _, s := range opened {
		a.sockets[s.conf.ID] = s
		a.serve(ctx, s)
	}
}

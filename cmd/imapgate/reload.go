package main

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"imapgate/cmd/imapgate/internal/admin"
	"imapgate/cmd/imapgate/internal/config"
)

// reloadRequest is somebody's wish to reload.
type reloadRequest struct {
	force bool
	by    string
	done  chan<- reloadResult // nil: nobody waits; else there is room for one
}

// reloadResult is what came of it.
type reloadResult struct {
	reload admin.Reload
	err    error
}

// sigHUP is who asks for a reload when it is a signal.
const sigHUP = "SIGHUP"

// prepared is the slow part of a reload, done beside what runs.
type prepared struct {
	began time.Time
	next  *loaded
	err   error
}

// prepare reads the configuration and everything it names.
func (a *app) prepare(ctx context.Context, inForce *config.Routing, force bool) prepared {
	p := prepared{began: time.Now()}
	p.next, p.err = load(ctx, a.path, a.certificate, inForce, force)
	return p
}

// finish notes what came of a reload, and tells those who wait for it.
func (a *app) finish(requests []reloadRequest, began time.Time, err error) {
	var by []string
	for _, r := range requests {
		if !slices.Contains(by, r.by) {
			by = append(by, r.by)
		}
	}
	result := reloadResult{err: err, reload: admin.NewReload(
		admin.ReloadedConfiguration, strings.Join(by, ", "), began, a.inForce.routing.Table.Stats().Rows, err)}
	a.history.Add(result.reload)
	for _, r := range requests {
		if r.done != nil {
			r.done <- result
		}
	}
}

// apply puts a configuration in force, or logs why not. Until the first change
// nothing can fail any more, so that there is never half a reload.
func (a *app) apply(ctx context.Context, p prepared) error {
	if p.err != nil {
		return a.rejected(p.err)
	}
	next := p.next
	opened, err := a.open(ctx, next.conf.Listeners, nil)
	if err != nil {
		return a.rejected(a.explain(err, next.conf.Listeners))
	}
	a.inheritTLS(next)
	if err := a.server.SetConfig(&next.conf.Proxy); err != nil {
		closeAll(opened)
		return a.rejected(err)
	}
	a.certificates.Store(next.conf.Certificates)
	a.tickets.Set(next.conf.TicketKeys)
	a.attachTickets(next)
	a.startACME(ctx, next.conf.ACME)
	a.replaceListeners(ctx, next.conf.Listeners, opened)
	a.level.SetLevel(logLevel(&next.conf.Log))
	a.keep(next)
	a.unwatch()
	a.watching.Wait()
	a.putInForce(next)
	a.warn(next.conf.Warnings)
	a.watch(ctx)
	a.log.Info("configuration reloaded", zap.Int("listeners", len(a.sockets)),
		zap.Int("backends", len(next.conf.Proxy.Backends)), zap.Int("rows", next.routing.Table.Stats().Rows),
		zap.Duration("took", time.Since(p.began)))
	return nil
}

// keep leaves what cannot be changed by a reload as it is, and says so.
func (a *app) keep(next *loaded) {
	old := a.inForce
	restart := func(changed bool, setting, inForce string) {
		if changed {
			a.log.Warn(setting+" changes with a restart only", zap.String("in_force", inForce))
		}
	}
	format := old.conf.Log.Format
	restart(next.conf.Log.Format.V != format.V, "log.format", format.V)
	next.conf.Log.Format = format
	restart(next.conf.OverridesPath() != old.conf.OverridesPath(), "state_dir", old.conf.StateDir.V)
	next.conf.StateDir = old.conf.StateDir
	socket, address := old.conf.SocketPath(), old.conf.AdminAddress()
	restart(next.conf.SocketPath() != socket, "admin.socket", socket)
	restart(next.conf.AdminAddress() != address, "admin.http", address)
	if next.conf.AdminAddress() != address {
		next.tokens = old.tokens // the new ones are for the new address
	}
	next.conf.Admin = old.conf.Admin
	a.admin.setTokens(next.tokens)
}

// rejected logs everything that is wrong with a configuration, and returns it.
func (a *app) rejected(err error) error {
	var mistakes config.Errors
	if !errors.As(err, &mistakes) {
		a.log.Error("configuration rejected, the old one stays in force", zap.Error(err))
		return err
	}
	for _, m := range mistakes {
		a.log.Error("configuration error", zap.Error(m))
	}
	a.log.Error("configuration rejected, the old one stays in force", zap.Int("errors", len(mistakes)))
	return mistakes
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

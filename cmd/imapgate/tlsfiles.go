package main

import (
	"context"
	"time"

	"go.uber.org/zap"

	"imapgate/cmd/imapgate/internal/admin"
	"imapgate/tlsconf"
)

// attachTickets gives the listeners of a configuration the tickets that outlive it.
func (a *app) attachTickets(l *loaded) {
	for i := range l.conf.Listeners {
		if conf := l.conf.Listeners[i].Serve.TLSConfig; conf != nil {
			a.tickets.Attach(conf)
		}
	}
}

// inheritTLS lets a reload of the configuration keep what a change of the files
// alone would keep: certificates that are valid where the new ones are not, and
// sessions with backends.
func (a *app) inheritTLS(next *loaded) {
	if before := a.certificates.Load(); before != nil && next.conf.Certificates != nil {
		next.conf.Certificates.Inherit(before)
	}
	for name, files := range next.conf.BackendTLS {
		if before := a.inForce.conf.BackendTLS[name]; before != nil {
			files.Inherit(before)
		}
	}
}

// watchTLS follows certificates, keys and authorities: those that clients see,
// those of backends, and the keys of session tickets.
func (a *app) watchTLS(ctx context.Context) {
	var things []tlsconf.Watched
	if files := a.certificates.Load(); files != nil {
		things = append(things, files)
	}
	if keys := a.inForce.conf.TicketKeys; keys != nil {
		things = append(things, keys)
	}
	backends := make(map[tlsconf.Watched]string)
	for name, files := range a.inForce.conf.BackendTLS {
		backends[files] = name
		things = append(things, files)
	}
	log := a.log.Named("tls")
	a.watching.Go(func() {
		tlsconf.Watch(ctx, things, func(thing tlsconf.Watched, err error) {
			a.tlsReloaded(log, thing, backends[thing], err)
		})
	})
}

// tlsReloaded tells what came of a change of files; backend is whose they are, ""
// for those that clients have to do with.
func (a *app) tlsReloaded(log *zap.Logger, thing tlsconf.Watched, backend string, err error) {
	note := func(what string) {
		a.history.Add(admin.NewReload(what, filesChanged, time.Now(), 0, err))
	}
	switch thing := thing.(type) {
	case *tlsconf.Files:
		note(admin.ReloadedCertificates)
		if err != nil {
			log.Error("certificates not reloaded, the old ones stay", zap.Error(err))
			return
		}
		log.Info("certificates reloaded", zap.Int("certificates", len(thing.Info())))
	case *tlsconf.TicketKeys:
		note(admin.ReloadedTicketKeys)
		if err != nil {
			log.Error("session ticket keys not reloaded, the old ones stay", zap.Error(err))
			return
		}
		log.Info("session ticket keys reloaded")
	case *tlsconf.ClientFiles:
		note(admin.ReloadedBackendTLS + " " + backend)
		if err != nil {
			log.Error("TLS files of a backend not reloaded, the old ones stay", zap.String("backend", backend), zap.Error(err))
			return
		}
		log.Info("TLS files of a backend reloaded", zap.String("backend", backend))
	default:
		log.Warn("TLS files are not watched, only looked at", zap.Error(err))
	}
}

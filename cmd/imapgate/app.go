package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"imapgate/cmd/imapgate/internal/admin"
	"imapgate/cmd/imapgate/internal/config"
	"imapgate/proxy"
	"imapgate/route/source"
	"imapgate/tlsconf"
)

// app is one running proxy: the parts that a configuration file speaks of, put
// together. serve runs one, and so does demo, with a file of its own making.
type app struct {
	// Static after start.
	path     string // of the configuration
	log      *zap.Logger
	level    zap.AtomicLevel
	server   *proxy.Server
	metrics  *admin.Metrics
	history  *admin.History
	admin    *adminServer
	older    *predecessor        // the process that this one took over from; nil: there was none
	failed   chan error          // a listener that ended by itself
	requests chan reloadRequest  // reloads that people ask for
	upgrades chan upgradeRequest // upgrades likewise
	stopping chan struct{}       // closed when neither will happen any more

	certificates atomic.Pointer[tlsconf.Files] // those in force
	acme         atomic.Pointer[runningACME]   // nil: none
	tickets      tlsconf.Tickets
	current      atomic.Pointer[loaded] // inForce, for all other goroutines

	// Owned by the goroutine of run.
	inForce  *loaded
	sockets  map[string]*socket // by config.Listener.ID
	unwatch  context.CancelFunc
	watching *sync.WaitGroup

	serving sync.WaitGroup // one for each socket
}

// startApp loads the configuration at path, opens those of its listeners that
// are not among the sockets in, takes over from an older process, if there is one,
// and serves.
func startApp(ctx context.Context, path string, older *predecessor, in *inherited, logs *logWriter) (*app, error) {
	a := &app{
		path: path, metrics: admin.NewMetrics(), history: new(admin.History), older: older,
		failed: make(chan error, 1), requests: make(chan reloadRequest), upgrades: make(chan upgradeRequest), stopping: make(chan struct{}),
		sockets: make(map[string]*socket),
	}
	began := time.Now()
	l, err := load(ctx, path, a.certificate, nil, false)
	tableErr := err
	if err != nil {
		if older == nil { // else that one has a good table, and serves on
			l = loadLastGood(ctx, path, a.certificate)
		}
		if l == nil {
			return nil, err
		}
	}
	if err := older.takeStderr(); err != nil { // before it is asked whether it is a terminal
		_, _ = fmt.Fprintf(logs, "imapgate: %v\n", err)
	}
	logs.dropped = a.metrics.LogLineDropped
	a.log, a.level = newLogger(&l.conf.Log, logs)
	opened, err := a.open(ctx, l.conf.Listeners, in)
	if err != nil {
		return nil, &exitError{exitFailed, err}
	}
	a.server, err = proxy.NewServer(&l.conf.Proxy, proxy.Options{
		Logger: a.log.Named("proxy"), Metrics: a.metrics, KickElsewhere: older.kick,
		Descriptors: descriptors(), Strain: new(strain).look,
	})
	if err == nil {
		a.admin, err = a.openAdmin(ctx, l, in)
	}
	if err == nil {
		err = older.takeOver(ctx, a, l)
	}
	if err == nil {
		err = a.restore(l)
	}
	if err != nil {
		closeAll(opened)
		if a.admin != nil {
			a.admin.close()
		}
		_ = a.server.Close()
		return nil, err
	}
	a.log.Info("starting", zap.String("version", build().Version), zap.String("config", path))
	in.dropRest(a.log)
	a.startACME(ctx, l.conf.ACME)
	a.certificates.Store(l.conf.Certificates)
	a.tickets.Set(l.conf.TicketKeys)
	a.attachTickets(l)
	for _, s := range opened {
		a.sockets[s.conf.ID] = s
		a.serve(ctx, s)
	}
	a.putInForce(l)
	a.warn(l.conf.Warnings)
	a.watch(ctx)
	a.history.Add(admin.NewReload(admin.ReloadedConfiguration, "start", began, l.routing.Table.Stats().Rows, tableErr))
	if tableErr != nil {
		a.log.Error("the table is bad: serving with the last good one, that state_dir keeps", zap.Int("rows", l.routing.Table.Stats().Rows), zap.Error(tableErr))
	}
	a.admin.serve(ctx)
	older.serving()
	return a, nil
}

// putInForce notes what is in force.
func (a *app) putInForce(l *loaded) {
	a.inForce = l
	a.current.Store(l)
	a.allowCoreDumps(l.conf.Debug.CoreDumps.V)
}

// restore takes up what people changed before the last stop, and keeps what they
// change from now on.
func (a *app) restore(l *loaded) error {
	path := l.conf.OverridesPath()
	if path == "" {
		return nil
	}
	state := l.routing.Table.State()
	if err := state.Persist(path); err != nil {
		return l.conf.Fail(l.conf.StateDir.Pos, err, "state_dir cannot be used")
	}
	stale := admin.Staleness(l.routing.Table)
	for _, o := range state.Overrides() {
		level, msg := zap.InfoLevel, "in force since before the start"
		if stale(o) {
			level, msg = zap.WarnLevel, "change of a backend that is not configured"
		}
		a.log.Log(level, msg, zap.String("kind", string(o.Kind)), zap.String("name", o.Name),
			zap.String("value", o.Value), zap.String("by", o.By), zap.String("why", o.Why), zap.Time("since", o.Since))
	}
	return nil
}

// certificate chooses the certificate of a handshake among those in force.
func (a *app) certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	choice := tlsconf.Choice{Files: a.certificates.Load()}
	if running := a.acme.Load(); running != nil {
		choice.ACME = running.ACME
	}
	return choice.GetCertificate(hello)
}

// open opens the listeners that are not open yet: all, or none.
func (a *app) open(ctx context.Context, wanted []config.Listener, in *inherited) ([]*socket, error) {
	var opened []*socket
	var errs config.Errors
	for _, conf := range wanted {
		if a.sockets[conf.ID] != nil {
			continue
		}
		s, err := openSocket(ctx, a.path, conf, in)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		opened = append(opened, s)
	}
	if len(errs) > 0 {
		closeAll(opened)
		return nil, errs
	}
	return opened, nil
}

func closeAll(sockets []*socket) {
	for _, s := range sockets {
		_ = s.tcp.Close()
	}
}

// warn logs the settings that give up protection.
func (a *app) warn(warnings config.Errors) {
	for _, w := range warnings {
		a.log.Warn("insecure setting", zap.String("at", w.Where()), zap.String("problem", w.Msg))
	}
}

// filesChanged is who asks for a reload when it is nobody.
const filesChanged = "change of files"

// watch follows the files of the configuration in force.
func (a *app) watch(ctx context.Context) {
	ctx, a.unwatch = context.WithCancel(ctx)
	a.watching = new(sync.WaitGroup)
	a.watchTLS(ctx)
	a.watching.Go(func() { tidyMemory(ctx) })
	set, log := a.inForce.routing.Set, a.log.Named("table")
	keep := func() {
		if err := set.Keep(ctx); err != nil && ctx.Err() == nil {
			log.Warn("a start would not find the table that is in force", zap.Error(err))
		}
	}
	a.watching.Go(keep)
	a.watching.Go(func() {
		err := set.Watch(ctx, func(r source.Result) {
			a.history.Add(admin.NewReload(admin.ReloadedTable, filesChanged, r.At.Add(-r.Took), r.Stats.Rows, r.Err))
			if r.Err != nil {
				log.Error("table not reloaded, the old one stays", zap.Error(r.Err))
				return
			}
			log.Info("table reloaded", zap.Int("rows", r.Stats.Rows), zap.Duration("took", r.Took))
			keep()
		})
		if err != nil {
			log.Error("table files are not watched, send SIGHUP after changes", zap.Error(err))
		}
	})
}

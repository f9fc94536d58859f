package main

import (
	"context"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"imapgate/cmd/imapgate/internal/admin"
)

// run serves until a signal comes that stops it, or ctx ends, or a new process has
// taken over and the last session here has ended. SIGHUP reloads, SIGUSR2 upgrades.
func (a *app) run(ctx context.Context, signals <-chan os.Signal) error {
	var background sync.WaitGroup
	defer background.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	prepared := make(chan prepared, 1)
	var waiting, underway []reloadRequest // those that a reload answers, all at once
	launches := make(chan launched, 1)
	var upgrade *upgradeRequest // the one that is under way, or that waits for reloads to end
	launching := false

	// next begins what waits. One thing at a time changes what this process serves.
	next := func() {
		switch {
		case underway != nil || launching:
		case len(waiting) > 0:
			a.notifyReloading()
			underway, waiting = waiting, nil
			inForce, force := a.inForce.routing, slices.ContainsFunc(underway, func(r reloadRequest) bool { return r.force })
			background.Go(func() { prepared <- a.prepare(ctx, inForce, force) })
		case upgrade != nil:
			launching = true
			names, files, err := a.descriptors()
			if err != nil {
				launches <- launched{err: err}
				return
			}
			background.Go(func() {
				s, err := a.launch(ctx, names, files)
				launches <- launched{s, err}
			})
		}
	}
	// What changed since a reload began counts too: a request that comes meanwhile
	// is one more reload. A new process may have read what was there before, and may
	// take as long as it likes: who asks then has to ask again.
	reload := func(r reloadRequest) {
		if upgrade != nil {
			a.log.Warn("not reloaded", zap.String("by", r.by), zap.Error(admin.ErrUpgrading))
			a.finish([]reloadRequest{r}, time.Now(), admin.ErrUpgrading)
			return
		}
		waiting = append(waiting, r)
		next()
	}
	begin := func(r upgradeRequest) {
		if upgrade != nil {
			r.answer(upgradeResult{err: admin.ErrUpgrading})
			return
		}
		upgrade = &r
		next()
	}
	// succeeded says whether a process that was launched serves in this one's place now.
	succeeded := func(l launched) bool {
		if l.err == nil {
			l.err = a.handOver(ctx, l.successor)
		}
		if l.err != nil {
			a.log.Error("not upgraded, this process serves on", zap.String("by", upgrade.by), zap.Error(l.err))
			upgrade.answer(upgradeResult{err: l.err})
			upgrade, launching = nil, false
			return false
		}
		a.admin.leave() // who hears of the new process, and then asks, is to reach it
		upgrade.answer(upgradeResult{upgrade: a.upgraded(l.successor)})
		return true
	}
	// stop ends serving here. A new process that is ready serves on: it has the sockets,
	// and whoever connects would wait for it. One that is not ready goes first.
	stop := func() error {
		cancel()
		if launching {
			if l := <-launches; succeeded(l) {
				return a.retire(ctx, signals, l.successor)
			}
		}
		return a.shutdown(ctx, signals)
	}
	watchdog := a.watchdog()
	defer watchdog.Stop()
	if a.older == nil { // else the old process says so: the service manager knows that one
		a.notify(daemon.SdNotifyReady)
	}
	for {
		select {
		case <-ctx.Done():
			return stop()
		case sig := <-signals:
			switch sig {
			case syscall.SIGHUP:
				reload(reloadRequest{by: sigHUP})
			case syscall.SIGUSR2:
				begin(upgradeRequest{by: "SIGUSR2"})
			default:
				a.log.Info("shutting down", zap.Stringer("signal", sig))
				return stop()
			}
		case r := <-a.requests:
			reload(r)
		case r := <-a.upgrades:
			begin(r)
		case p := <-prepared:
			a.finish(underway, p.began, a.apply(ctx, p))
			a.notify(daemon.SdNotifyReady)
			underway = nil
			next()
		case l := <-launches:
			if succeeded(l) {
				return a.retire(ctx, signals, l.successor)
			}
			next()
		case <-watchdog.C:
			a.keepAlive()
		case err := <-a.failed:
			a.close()
			return err
		}
	}
}

// answer tells who waits what came of an upgrade.
func (r *upgradeRequest) answer(result upgradeResult) {
	if r.done != nil {
		r.done <- result
	}
}

// upgraded says what came of an upgrade that took place.
func (a *app) upgraded(s *successor) admin.Upgraded {
	return admin.Upgraded{
		PID: s.cmd.Process.Pid, Version: s.version, OldPID: os.Getpid(), OldVersion: build().Version,
		Sessions: len(a.server.Sessions()), KeepSeconds: a.inForce.conf.Shutdown.DrainTimeout.V.Seconds(), TookSeconds: time.Since(s.began).Seconds(),
	}
}

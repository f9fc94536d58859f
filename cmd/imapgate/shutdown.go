package main

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// sameSignal is how soon after the first signal another one is taken for the
// same: timeout(1) and some supervisors signal a process and then its group.
const sameSignal = 100 * time.Millisecond

// shutdown ends serving: for shutdown.drain_delay the proxy only says that it is
// not ready, then clients that have not logged in are told BYE, and sessions too,
// spread over close_spread; all of that ends with shutdown.timeout. A signal
// meanwhile ends it at once.
func (a *app) shutdown(ctx context.Context, signals <-chan os.Signal) error {
	a.notify(daemon.SdNotifyStopping)
	close(a.stopping)
	a.unwatch()
	watchdog := a.watchdog()
	defer watchdog.Stop()
	conf := &a.inForce.conf.Shutdown
	return a.end(ctx, ending{signals: signals, timeout: conf.Timeout.V, delay: conf.DrainDelay.V, keepAlive: watchdog.C})
}

// ending is how all that is left ends.
type ending struct {
	signals   <-chan os.Signal
	timeout   time.Duration    // in all
	delay     time.Duration    // in which clients are still accepted
	keepAlive <-chan time.Time // nil: nobody wants to know
}

// end ends all that is left.
func (a *app) end(ctx context.Context, e ending) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.timeout)
	defer cancel()
	a.server.Drain()
	done := make(chan error, 1)
	a.serving.Go(func() {
		a.awaitDrainDelay(ctx, e.delay)
		done <- a.server.Shutdown(ctx)
	})
	for {
		select {
		case err := <-done:
			a.close()
			if err != nil {
				a.log.Warn("sessions were closed at the end of the timeout", zap.Duration("timeout", e.timeout))
			}
			a.log.Info("shut down")
			return nil
		case sig := <-e.signals:
			if sig == syscall.SIGHUP || sig == syscall.SIGUSR2 || time.Since(began) < sameSignal {
				continue
			}
			cancel()
			a.close()
			return &exitError{exitFailed, fmt.Errorf("ended at once by a second signal (%s)", sig)}
		case <-e.keepAlive:
			a.keepAlive()
		}
	}
}

// awaitDrainDelay gives load balancers time to see that no more clients should
// be sent here. Those that come are served.
func (a *app) awaitDrainDelay(ctx context.Context, delay time.Duration) {
	if delay <= 0 {
		return
	}
	a.log.Info("not ready any more, still accepting", zap.Duration("drain_delay", delay))
	t := time.NewTimer(delay)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// close ends everything without a word and waits for all that runs.
func (a *app) close() {
	a.unwatch()
	_ = a.server.Close()
	a.serving.Wait()
	a.watching.Wait()
	a.stopACME()
	a.admin.stop()
	a.older.close()
}

package main

import (
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"
)

// notify tells the service manager how the service is. Where there is none, it
// does nothing. See sd_notify(3).
func (a *app) notify(state ...string) {
	if _, err := daemon.SdNotify(false, strings.Join(state, "\n")); err != nil {
		a.log.Warn("the service manager cannot be told", zap.Strings("state", state), zap.Error(err))
	}
}

// notifyReloading says that a reload has begun. The next READY=1 says that it is
// over, whatever came of it.
func (a *app) notifyReloading() {
	a.notify(daemon.SdNotifyReloading, strings.TrimSpace(daemon.SdNotifyMonotonicUsec()))
}

// watchdog returns a ticker for the keep-alives that the service manager wants,
// one that never ticks when it wants none.
func (a *app) watchdog() *time.Ticker {
	t := time.NewTicker(time.Hour)
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		a.log.Warn("the service manager's watchdog is not served", zap.Error(err))
	}
	if interval <= 0 || err != nil {
		t.Stop()
		return t
	}
	t.Reset(max(interval/2, time.Millisecond)) // half, as sd_watchdog_enabled(3) recommends
	return t
}

// keepAlive says that this process works: the goroutine that reloads and shuts
// down runs, and the proxy's lock can be had.
func (a *app) keepAlive() {
	a.server.Connections()
	a.notify(daemon.SdNotifyWatchdog)
}

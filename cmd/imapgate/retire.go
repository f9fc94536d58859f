package main

import (
	"context"
	"os"
	"runtime/debug"
	"strconv"
	"syscall"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"imapgate/route"
)

// forgetInterval is how often an old process looks whether it still needs its table.
const forgetInterval = time.Second

// retire keeps the sessions of this process, in whose place a new one serves, until
// they end, and no longer than shutdown.drain_timeout. Then, or when the new
// process is gone, which alone knows where users are, they are told BYE.
func (a *app) retire(ctx context.Context, signals <-chan os.Signal, s *successor) error {
	a.stopServing(s.cmd.Process.Pid)
	defer s.running.Wait()
	defer s.link.close()
	conf := a.inForce.conf
	keep := conf.Shutdown.DrainTimeout.V
	a.log.Info("a new process serves, the sessions here live on", zap.Int("pid", s.cmd.Process.Pid), zap.String("version", s.version),
		zap.Int("sessions", len(a.server.Sessions())), zap.Duration("drain_timeout", keep))
	late := time.NewTimer(keep)
	defer late.Stop()
	forget := time.NewTicker(forgetInterval)
	defer forget.Stop()
	idle, older := a.server.Idle(), a.older.gone()
	// Sessions that nobody waits for are spread as wide as they may be.
	end := func(why string, limit time.Duration) error {
		a.log.Info("shutting down", zap.String("reason", why))
		return a.end(ctx, ending{signals: signals, timeout: limit})
	}
	for idle != nil || older != nil {
		select {
		case <-idle:
			idle = nil
		case <-older:
			older = nil
		case <-late.C:
			return end("drain_timeout is over", conf.CloseSpread.V+conf.Shutdown.Timeout.V)
		case <-s.link.done:
			return end("the new process is gone", conf.CloseSpread.V+conf.Shutdown.Timeout.V)
		case <-ctx.Done():
			return end("stopped", conf.Shutdown.Timeout.V)
		case sig := <-signals:
			if sig != syscall.SIGHUP && sig != syscall.SIGUSR2 {
				return end(sig.String(), conf.Shutdown.Timeout.V)
			}
			a.log.Warn("a new process serves: this signal is for that one", zap.Stringer("signal", sig), zap.Int("pid", s.cmd.Process.Pid))
		case <-forget.C:
			// An older process asks here before it lets somebody in.
			if a.inForce.routing != nil && older == nil && a.server.Connections() == 0 {
				a.forget()
			}
		}
	}
	a.log.Info("all sessions have ended")
	a.close()
	return nil
}

// stopServing stops all that the new process does now. Its sockets are the same
// ones: nobody who connects meanwhile is refused.
func (a *app) stopServing(pid int) {
	a.notify(daemon.SdNotifyReady, "MAINPID="+strconv.Itoa(pid))
	close(a.stopping)
	a.unwatch()
	for _, s := range a.sockets {
		s.stop()
	}
	a.watching.Wait()
	a.stopACME()
	a.admin.stop()
}

// forget lets go of the table, which may be large, once there is nobody left who
// could still log in here.
func (a *app) forget() {
	conf := a.inForce.conf.Proxy
	conf.Router = nobody{}
	if err := a.server.SetConfig(&conf); err != nil {
		return // it was good before
	}
	a.putInForce(&loaded{conf: a.inForce.conf})
	a.inForce.conf.Proxy.Router = conf.Router
	debug.FreeOSMemory()
}

// nobody knows of no user.
type nobody struct{}

// Begin implements [proxy.Router].
func (nobody) Begin(string) (*route.Lease, error) { return nil, route.ErrNotLoaded }

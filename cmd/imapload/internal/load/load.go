//go:build linux

package load

import (
	"context"
	"crypto/tls"
	"net/netip"
	"sync/atomic"
	"time"
)

// Load is where load goes. Its fields are not changed once a method was called; a
// Load is used for one measurement.
type Load struct {
	Address     string       // of the proxy, with TLS
	Sources     []netip.Addr // addresses to connect from, in turn; empty: the system's choice
	User        string       // %d stands for a counter
	Users       int64        // where the counter begins anew; 0: 100,000
	Password    string
	Timeout     time.Duration // of a connection and login, and of a command; 0: 20 s
	TargetPIDs  []int         // the proxy's processes, whose children count too
	BackendPIDs []int         // the backend's

	source atomic.Uint64
	user   atomic.Int64
}

func (l *Load) timeout() time.Duration {
	if l.Timeout > 0 {
		return l.Timeout
	}
	return 20 * time.Second
}

// tlsConfig is what clients offer. The certificate does not matter here, only the
// work that it makes.
func (l *Load) tlsConfig() *tls.Config {
	return &tls.Config{
		InsecureSkipVerify: true, //nolint:gosec // a generator of load has nothing to protect
		ServerName:         "imap.test",
		MinVersion:         tls.VersionTLS13,
		CurvePreferences:   []tls.CurveID{tls.X25519},
	}
}

// measure waits for as long as it is measured, and then, on a machine that is busy
// with something else, until something has happened.
func (l *Load) measure(ctx context.Context, d time.Duration, happened *atomic.Int64) error {
	err := pause(ctx, d)
	for end := time.Now().Add(l.timeout()); err == nil && happened.Load() == 0 && time.Now().Before(end); {
		err = pause(ctx, 10*time.Millisecond)
	}
	return err
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

package admin

import (
	"context"
	"io"
	"time"

	"imapgate/proxy"
	"imapgate/route"
	"imapgate/tlsconf"
)

// Proxy is what the API needs of a [proxy.Server].
type Proxy interface {
	Sessions() []proxy.SessionInfo
	Kick(ctx context.Context, match func(proxy.SessionInfo) bool, o proxy.KickOptions) (int, error)
	Listening() []string
	Connections() int
	Logins() map[string]proxy.LoginLoad
	WarmConnections() map[string]int
	HandshakesWaiting() int
	Draining() bool
	Trace(ctx context.Context, o proxy.TraceOptions, show func(proxy.TraceLine) error) error
	Overload() []string
}

// Site is the rest of a running imapgate: its configuration, which reloads
// replace. Its methods are safe for concurrent use.
type Site interface {
	// InForce returns what the last successful reload put in force.
	InForce() InForce

	// Reload reads the configuration and all that it names again. The error holds
	// every mistake, or is ErrUpgrading; then everything is as it was.
	Reload(ctx context.Context, o ReloadOptions) (Reload, error)

	// Upgrade goes on as a new process, started from the same program as this one,
	// which may be a newer one. After an error this process serves on.
	Upgrade(ctx context.Context, o UpgradeOptions) (Upgraded, error)

	// NewProgram says whether an upgrade would start another program than the one
	// that runs.
	NewProgram() bool

	// Older returns the old process that still has sessions after an upgrade, nil
	// when there is none.
	Older() *OlderProcess

	// Compare reads rows and says what they would change.
	Compare(ctx context.Context, c Candidate) (route.Diff, error)
}

// InForce is what is in force of the configuration. Immutable.
type InForce struct {
	Table        *route.Table
	Names        route.Names
	CloseSpread  time.Duration  // over which many sessions are ended
	Certificates *tlsconf.Files // nil: none
	ACME         ACME           // nil: none
}

// ACME is what obtains certificates from a CA: a [tlsconf.ACME].
type ACME interface {
	Info() []tlsconf.ACMEInfo
	Serving() bool
	Renew(ctx context.Context, name string) error
}

var _ ACME = (*tlsconf.ACME)(nil)

// ReloadOptions say how to reload.
type ReloadOptions struct {
	Force bool   // a table may lose more rows than it should
	By    string // who asks
}

// UpgradeOptions say how to upgrade.
type UpgradeOptions struct {
	By string // who asks
}

// Candidate is the text of a table that is not in force.
type Candidate struct {
	Name string // of the file, for messages
	Rows io.Reader

	// Replaces names the table file of the configuration that the candidate would
	// replace; "" is the one with the same name, or the only one.
	Replaces string

	Limit int // of rows that are listed
}

// Mistakes is an error that is several.
type Mistakes interface {
	error
	Unwrap() []error
}

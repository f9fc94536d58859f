package proxy

import "time"

// Metrics is told what happens, as it happens. Its methods are called on the
// path of connections: they must be quick and safe for concurrent use. Names of
// users and addresses of clients are never handed to it, so that none can
// become a label.
type Metrics interface {
	// Accepted counts a connection of a listener.
	Accepted(listener string)
	// Handshake counts a TLS handshake with a client: its version ("TLS 1.3",
	// "" when it failed), "ok", "resumed" (ok, with the keys of an earlier session)
	// or "failed", and how long it waited for others.
	Handshake(listener, version, result string, waited time.Duration)
	// Authenticated counts a login: mechanism, result ("ok", "rejected",
	// "unknown_user", "unavailable", "misconfigured", …) and how long it took.
	Authenticated(mechanism, result string, took time.Duration)
	// Routed counts a decision by its reason ("user", "domain", "default", …).
	Routed(reason string)
	// BackendConnected tells how long a backend took from connecting to greeting.
	BackendConnected(backend string, took time.Duration)
	// WarmLogin counts an attempt at a backend that keeps warm connections:
	// "hit", "miss", or "stale" when it turned out to be closed.
	WarmLogin(backend, result string)
	// BackendFailed counts an error of a backend by its reason.
	BackendFailed(backend, reason string)
	// SessionStarted and SessionEnded bracket a spliced session. The byte
	// counts are those of the session after its login.
	SessionStarted(backend string)
	SessionEnded(backend string, fromClient, fromBackend int64)
	// Limited counts what a limit kept out, turned away or slowed down.
	Limited(limit string)
}

// noMetrics is what a server without Metrics tells them to.
type noMetrics struct{}

// Accepted implements [Metrics], like all the methods below.
func (noMetrics) Accepted(string) {}

// Handshake counts nothing.
func (noMetrics) Handshake(string, string, string, time.Duration) {}

// Authenticated counts nothing.
func (noMetrics) Authenticated(string, string, time.Duration) {}

// Routed counts nothing.
func (noMetrics) Routed(string) {}

// BackendConnected counts nothing.
func (noMetrics) BackendConnected(string, time.Duration) {}

// WarmLogin counts nothing.
func (noMetrics) WarmLogin(string, string) {}

// BackendFailed counts nothing.
func (noMetrics) BackendFailed(string, string) {}

// SessionStarted counts nothing.
func (noMetrics) SessionStarted(string) {}

// SessionEnded counts nothing.
func (noMetrics) SessionEnded(string, int64, int64) {}

// Limited counts nothing.
func (noMetrics) Limited(string) {}

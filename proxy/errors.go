package proxy

import (
	"errors"
	"fmt"

	"go.uber.org/zap/zapcore"
)

// ErrServerClosed is returned by [Server.Serve] after [Server.Shutdown] or
// [Server.Close].
var ErrServerClosed = errors.New("proxy: server closed")

// Reasons why a connection ends before its login. They are matched, not shown.
var (
	errLogout      = errors.New("client logged out")
	errTooManyBad  = errors.New("too many bad commands")
	errTooManyFail = errors.New("too many failed logins")
	errNotIMAP     = errors.New("client does not speak IMAP")
	errACME        = errors.New("challenge of a certificate authority")
	errShutdown    = errors.New("server is shutting down")
	errEvicted     = errors.New("had to make room for others")
)

// replyError is a reply to a client that is not OK: the one form in which a
// failure leaves the proxy. Text never holds an address, a backend's name or an
// error's text, but for what a backend says to the client itself.
type replyError struct {
	Status string // NO or BAD
	Code   string // response code without brackets, "" for none. See RFC 5530.
	Text   string
}

func (e *replyError) Error() string {
	if e.Code == "" {
		return e.Status + " " + e.Text
	}
	return e.Status + " [" + e.Code + "] " + e.Text
}

// The replies to a login that did not succeed. See RFC 5530, Section 3: on
// UNAVAILABLE a client waits, on AUTHENTICATIONFAILED it asks its user for a new
// password, so an outage must never look like a wrong password.
var (
	errRejected    = &replyError{"NO", "AUTHENTICATIONFAILED", "Authentication failed."}
	errForbidden   = &replyError{"NO", "AUTHORIZATIONFAILED", "Not authorized to act as this user."}
	errUnavailable = &replyError{"NO", "UNAVAILABLE", "Account is temporarily unavailable."}
	errServerBug   = &replyError{"NO", "SERVERBUG", "Internal error, reported to the operator."}
	errTooMany     = &replyError{"NO", "LIMIT", "Too many sessions."}
	errCannot      = &replyError{"NO", "CANNOT", "Authentication mechanism not available."}
	errPrivacy     = &replyError{"NO", "PRIVACYREQUIRED", "Use STARTTLS first."}
	errNoTLS       = &replyError{"NO", "PRIVACYREQUIRED", "Login needs TLS."}
	errCancelled   = &replyError{"BAD", "", "Authentication cancelled."}
	errBase64      = &replyError{"BAD", "", "Invalid base64."}
)

// result names how a login ended, in logs and metrics.
type result string

const (
	resultOK            result = "ok"
	resultRejected      result = "rejected"      // by the backend: wrong password
	resultInvalid       result = "invalid"       // names or secrets that no backend is shown
	resultUnknownUser   result = "unknown_user"  // no row and no default
	resultForbidden     result = "forbidden"     // authzid without being a master user
	resultRefused       result = "refused"       // by the backend, with a code of its own
	resultLimited       result = "limited"       // the user has too many sessions already, or the connection had to make room
	resultUnavailable   result = "unavailable"   // a dependency failed
	resultMisconfigured result = "misconfigured" // certificates, STARTTLS, loops, routes
	resultCannot        result = "no_mechanism"  // the backend lacks the mechanism
	resultCancelled     result = "cancelled"     // by the client, or bad base64
)

// failure is a login that did not succeed: what the client is told, and what
// the log is.
type failure struct {
	reply  *replyError
	result result
	state  string // how far it came, "login/greeting"
	reason string // for metrics, one word
	err    error  // for the log

	backend  string   // its name, "" before there was one
	untagged []string // status responses that go before the reply

	moved     bool  // the user is on another backend now: begin anew
	retry     bool  // the same or another backend may be tried
	client    error // ends the client's connection too
	stale     bool  // the connection had been kept, and turned out to be closed
	ours      bool  // the time was up, or there was no descriptor or no name server: says nothing about the backend
	unreached bool  // the backend was not reached: no credentials were sent
}

func (f *failure) Error() string { return fmt.Sprintf("%s: %v", f.state, f.err) }

// level is how loudly the failure of a backend is logged.
func (f *failure) level() zapcore.Level {
	if f.result == resultMisconfigured {
		return zapcore.ErrorLevel
	}
	return zapcore.WarnLevel
}

func (f *failure) Unwrap() error { return f.err }

// unavailable is the failure of something that may work again in a moment.
func unavailable(state, reason string, err error) *failure {
	return &failure{
		reply: errUnavailable, result: resultUnavailable, state: state, reason: reason, err: err,
		retry: true,
	}
}

// misconfigured is the failure of something that only the operator can mend.
// It is never retried.
func misconfigured(state, reason string, err error) *failure {
	return &failure{reply: errServerBug, result: resultMisconfigured, state: state, reason: reason, err: err}
}

// rejected is a login that was judged, and not let in.
func rejected(r result, err error) *failure {
	return &failure{reply: errRejected, result: r, state: "login/authenticate", reason: string(r), err: err}
}

package route

import "errors"

// ErrUnknownUser says that no row, no domain and no default covers the user.
// Every other error of [Table.Lookup] means that the question cannot be
// answered now, which is never the same as "there is no such user".
var ErrUnknownUser = errors.New("unknown user")

// ErrNotLoaded says that a table was asked before its first successful load.
var ErrNotLoaded = errors.New("no routing table is loaded")

// Reason says which step of the lookup decided.
type Reason string

// The reasons, in the order in which a lookup takes its steps.
const (
	ReasonPin        Reason = "pin"        // an operator pinned the user to a backend
	ReasonAssignment Reason = "assignment" // the user has sessions there, or had a moment ago
	ReasonUser       Reason = "user"       // a row of the user's own
	ReasonDomain     Reason = "domain"     // the row of the user's domain or of a parent domain
	ReasonDefault    Reason = "default"    // the default target
)

// String returns the reason as logs and commands print it.
func (r Reason) String() string { return string(r) }

// Placement is the answer to a lookup: where a user's mail is and why.
type Placement struct {
	// Key is the normalised name that was looked up.
	Key string

	// Backends are backend names in rank order and never empty in a placement
	// that was returned without an error. The first is the user's; the others
	// are failover candidates, and there are any in shared pools only. The slice
	// is shared between placements: it must not be modified.
	Backends []string

	// Pool is the pool that placed the user, "" when the target is a backend.
	Pool string

	// Login is the name to log in with at the backend, "" for the name as typed.
	Login string

	// Reason is the step of the lookup that decided.
	Reason Reason

	// Source is where the deciding row was read, "users.map:12", or "" when it
	// has no such place (a default from the configuration).
	Source string
}

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
	// are failover candidates, and there are any in shared pools only, for users
	// without sessions. The slice is shared between placements: it must not be
	// modified.
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

	// Slot is the user's hash slot, by which pools place users.
	Slot int

	// Held says that logins of the user wait.
	Held bool

	// Candidates are the backends that the user's target has, in rank order.
	// Only Explain fills them in.
	Candidates []Candidate
}

// Candidate is a backend as it was considered for a user.
type Candidate struct {
	Name    string `json:"name"`
	Rank    int    `json:"rank"`   // from 1
	Weight  int    `json:"weight"` // in effect
	Admin   Admin  `json:"admin"`
	Up      bool   `json:"up"`
	Skipped string `json:"skipped,omitempty"` // why it does not serve the user; "": it would
}

// UnavailableError says that the user is known, and that no backend may serve
// them now. That is known beforehand: nothing needs to be tried.
type UnavailableError struct {
	Backend string // "" when no member of the pool is left
	Pool    string // "" when the target is a backend
	Reason  string // one of the Unavailable constants
}

// The reasons of an UnavailableError.
const (
	UnavailableDown    = "down"                 // checks found that the backend does not work
	UnavailableMaint   = "maint"                // the backend is in maintenance
	UnavailableDrain   = "drain"                // the backend takes no new users
	UnavailableMembers = "no usable member"     // no member of the pool is ready and up
	UnavailableUnknown = "not in configuration" // pinned to a backend that is not there any more
)

// Error names the backend or the pool, and the reason.
func (e *UnavailableError) Error() string {
	if e.Backend == "" {
		return "pool " + e.Pool + ": " + e.Reason
	}
	return "backend " + e.Backend + ": " + e.Reason
}

package route

import "time"

// DefaultWeight is the weight of a backend whose Weight is zero.
const DefaultWeight = 100

// MaxWeight is the greatest weight of a backend.
const MaxWeight = 1_000_000

// DefaultAffinity is the affinity of a Definition that has none.
const DefaultAffinity = 15 * time.Minute

// Backend is what placement knows of one IMAP server.
type Backend struct {
	Name    string
	Address string // host:port, for display; the table does not use it

	// Weight is the backend's share of a pool's users, relative to the weights
	// of the other members. Zero means DefaultWeight.
	Weight int
}

// Pool is a set of backends that users are spread over.
type Pool struct {
	Name     string
	Backends []string // names of the members

	// Shared says that any member serves any user (NFS, object storage).
	// Without it a user's mail is on one member alone, and there is no failover.
	Shared bool
}

// Definition is the part of a table that comes from the configuration.
type Definition struct {
	Backends []Backend
	Pools    []Pool

	// Default is the target of users whom no row covers; "" refuses them. A "*"
	// row says the same from inside a table; when both are there they must agree.
	Default string

	// Affinity is how long a user of a shared pool stays with a backend after the
	// last session ended. Zero means DefaultAffinity, less than zero none.
	Affinity time.Duration

	// Names normalises the keys of all rows.
	Names Names

	// MaxShrink is the percentage of rows that a load may drop from the table in
	// force. Zero means 50, 100 allows everything.
	MaxShrink int

	// Gently, unless nil, makes a load rest most of the time until it is closed, so
	// that logins do not wait for the load: it takes eight times as long, or more.
	Gently <-chan struct{}
}

// Row is one line of a table: who, where, and where that was written.
type Row struct {
	// Key is a user ("alice@example.org", "alice"), a domain ("@example.org") or
	// the default ("*"), as it was written.
	Key string

	Target string // a backend or a pool
	Login  string // name to log in with at the backend, "" for the name as typed

	// Source is the place of the key; TargetColumn is that of the target, on the
	// same line, 0 when unknown.
	Source       Position
	TargetColumn int
}

// Position is a place in a source of rows. Line and Column count from 1, the
// column in characters; 0 leaves them out.
type Position struct {
	File         string
	Line, Column int
}

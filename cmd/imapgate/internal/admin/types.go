package admin

import (
	"time"

	"imapgate/route"
)

// Build says what program answers.
type Build struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// Status is the answer to GET /v1/status.
type Status struct {
	Now             time.Time      `json:"now"` // by the server's clock: ages are relative to it
	Build           Build          `json:"build"`
	PID             int            `json:"pid"`
	Started         time.Time      `json:"started"`
	Config          string         `json:"config"` // file
	Ready           bool           `json:"ready"`
	Missing         []string       `json:"missing"` // what keeps it from being ready
	Draining        bool           `json:"draining"`
	Overload        []string       `json:"overload"` // what it lacks, see proxy.Server.Overload
	Listeners       []string       `json:"listeners"`
	Connections     int            `json:"connections"` // clients that have not logged in
	Sessions        int            `json:"sessions"`
	Users           int            `json:"users"` // with sessions
	LoginsPerSecond float64        `json:"logins_per_second"`
	Backends        BackendCounts  `json:"backends"`
	Table           TableStatus    `json:"table"`
	Overrides       OverrideCounts `json:"overrides"`
	Reload          *Reload        `json:"reload,omitempty"` // the last one
	Older           *OlderProcess  `json:"older,omitempty"`  // its sessions are among those above
}

// BackendCounts counts backends. One that is in maintenance may be up.
type BackendCounts struct {
	Up    int `json:"up"`
	Down  int `json:"down"`
	Drain int `json:"drain"`
	Maint int `json:"maint"`
}

// TableStatus is about the routing table in force.
type TableStatus struct {
	Users      int       `json:"users"`
	Domains    int       `json:"domains"`
	Generation uint64    `json:"generation"` // counts loads
	LoadedAt   time.Time `json:"loaded_at"`
}

// OverrideCounts counts what people changed and is in force.
type OverrideCounts struct {
	Admin  int    `json:"admin"`
	Weight int    `json:"weight"`
	Pin    int    `json:"pin"`
	Hold   int    `json:"hold"`
	Made   uint64 `json:"made"`            // since the start: another number, another list
	File   string `json:"file,omitempty"`  // where they are kept; "": nowhere, a restart forgets them
	Error  string `json:"error,omitempty"` // why the file lacks the last of them
}

// Backend is a backend as it is now.
type Backend struct {
	route.BackendStatus
	LoginsPerSecond float64 `json:"logins_per_second"`
	LoginsInFlight  int     `json:"logins_in_flight"`       // from the dial to the answer
	LoginsWaiting   int     `json:"logins_waiting"`         // for those to make room
	LoginsAtOnce    int     `json:"logins_at_once"`         // how many may be in flight now
	Unconfigured    bool    `json:"unconfigured,omitempty"` // no table in force has it; the rest is empty
}

// Backends is the answer to GET /v1/backends.
type Backends struct {
	Now      time.Time          `json:"now"`
	Backends []Backend          `json:"backends"`
	Pools    []route.PoolStatus `json:"pools"`
}

// Event is what GET /v1/events sends, under the name "status".
type Event struct {
	Status   Status             `json:"status"`
	Backends []Backend          `json:"backends"`
	Pools    []route.PoolStatus `json:"pools"`
}

// Session is one session.
type Session struct {
	ID               string    `json:"id"` // also in the logs, and in the backend's
	User             string    `json:"user"`
	Backend          string    `json:"backend"`
	Listener         string    `json:"listener"`
	Mechanism        string    `json:"mechanism"`
	TLS              string    `json:"tls,omitempty"` // version, "" without
	IP               string    `json:"ip"`
	Port             int       `json:"port"`
	Since            time.Time `json:"since"`
	BytesFromClient  int64     `json:"bytes_from_client"`
	BytesFromBackend int64     `json:"bytes_from_backend"`
	Ending           string    `json:"ending,omitempty"` // why it is being ended
	PID              int       `json:"pid,omitempty"`    // of the old process that has it; 0: this one
}

// Sessions is the answer to GET /v1/sessions.
type Sessions struct {
	Now      time.Time `json:"now"`
	Total    int       `json:"total"`    // of those that match
	Sessions []Session `json:"sessions"` // oldest first, if not asked otherwise; fewer than Total with a limit
}

// Route is the answer to GET /v1/route/{user}: where a user is sent, and why.
type Route struct {
	Now         time.Time         `json:"now"`
	User        string            `json:"user"`             // as asked
	Master      string            `json:"master,omitempty"` // who logs in as the user
	Key         string            `json:"key"`              // what the table is asked for
	Backend     string            `json:"backend,omitempty"`
	Address     string            `json:"address,omitempty"`
	Pool        string            `json:"pool,omitempty"`
	Reason      string            `json:"reason,omitempty"`
	Source      string            `json:"source,omitempty"` // file:line of the row
	Login       string            `json:"login"`            // the name that the backend gets
	Failover    []string          `json:"failover"`         // in this order
	Slot        int               `json:"slot"`
	Sessions    int               `json:"sessions"`              // of the user, now
	Unavailable string            `json:"unavailable,omitempty"` // why no backend serves the user now
	Pin         *Override         `json:"pin,omitempty"`
	Hold        *Override         `json:"hold,omitempty"` // logins wait
	Candidates  []route.Candidate `json:"candidates"`
}

// Override is what people changed and is in force.
type Override struct {
	route.Override
	Stale bool `json:"stale,omitempty"` // it is about a backend that is not configured
}

// Overrides is the answer to GET /v1/overrides.
type Overrides struct {
	Now       time.Time  `json:"now"`
	Total     int        `json:"total"`     // of those that were asked for
	Overrides []Override `json:"overrides"` // fewer than Total with a limit
}

// Certificate is one of those that clients see, or are to see.
type Certificate struct {
	Source    string    `json:"source"`         // one of the Source constants
	File      string    `json:"file,omitempty"` // for SourceFile
	Names     []string  `json:"names"`
	Serves    []string  `json:"serves"`             // what clients ask for who get it: its names, but for those that another one serves
	Default   bool      `json:"default"`            // clients get it who ask for no name, or for one that there is nothing for
	KeyType   string    `json:"key_type,omitempty"` // "", like the times, when it is yet to be obtained
	NotBefore time.Time `json:"not_before,omitzero"`
	NotAfter  time.Time `json:"not_after,omitzero"`
	Problem   string    `json:"problem,omitempty"`     // expired, newer files that cannot be used, an order that failed
	Next      time.Time `json:"next_attempt,omitzero"` // of an order that failed
}

// Where certificates come from.
const (
	SourceFile       = "file"
	SourceACME       = "acme"
	SourceOnDemand   = "on-demand"   // from the same CA, since a client asked for it
	SourceSelfSigned = "self-signed" // until there is another one
)

// RenewRequest is the body of POST /v1/certificates/{name}/renew.
type RenewRequest struct {
	Why string `json:"why,omitempty"` // for the log
}

// Certificates is the answer to GET /v1/certificates.
type Certificates struct {
	Now          time.Time     `json:"now"`
	Certificates []Certificate `json:"certificates"`
}

// Reload is one attempt to read files again.
type Reload struct {
	At          time.Time `json:"at"`   // when it was over
	What        string    `json:"what"` // one of the Reloaded constants
	By          string    `json:"by"`   // who asked: a signal, a change of the file, a person
	OK          bool      `json:"ok"`   // the new state is in force; else the old one stays
	Errors      []string  `json:"errors,omitempty"`
	TookSeconds float64   `json:"took_seconds"`
	Rows        int       `json:"rows"` // of the table in force since
}

// What a Reload reads again.
const (
	ReloadedConfiguration = "configuration" // and all that it names
	ReloadedTable         = "table"
	ReloadedCertificates  = "certificates"
	ReloadedTicketKeys    = "session ticket keys"
	ReloadedBackendTLS    = "TLS of backend" // and its name
)

// Reloads is the answer to GET /v1/reloads.
type Reloads struct {
	Now     time.Time `json:"now"`
	Reloads []Reload  `json:"reloads"` // the last ones, newest first
}

// ChangeRequest is the body of POST /v1/backends/{name}/maint and
// /v1/users/{user}/hold. Until ends the change by itself; zero: it stays.
type ChangeRequest struct {
	Why   string    `json:"why,omitempty"`
	Until time.Time `json:"until,omitzero"`
}

// ReasonRequest is the body of what takes a change back: POST
// /v1/backends/{name}/ready, /v1/users/{user}/unpin and /v1/users/{user}/release.
type ReasonRequest struct {
	Why string `json:"why,omitempty"` // for the log
}

// DrainRequest is the body of POST /v1/backends/{name}/drain.
type DrainRequest struct {
	Why      string    `json:"why,omitempty"`
	Until    time.Time `json:"until,omitzero"`
	Deadline time.Time `json:"deadline,omitzero"` // when who is left is moved off
}

// WeightRequest is the body of POST /v1/backends/{name}/weight.
type WeightRequest struct {
	Weight int       `json:"weight"` // 0: the configured one
	Why    string    `json:"why,omitempty"`
	Until  time.Time `json:"until,omitzero"`
}

// Changed is the answer to changes of a backend.
type Changed struct {
	Backend Backend `json:"backend"`
	Ending  int     `json:"ending"` // sessions that are being ended
}

// PinRequest is the body of POST /v1/users/{user}/pin.
type PinRequest struct {
	Backend string    `json:"backend"`
	Why     string    `json:"why,omitempty"`
	Until   time.Time `json:"until,omitzero"`
}

// MoveRequest is the body of POST /v1/users/{user}/move.
type MoveRequest struct {
	Backend string    `json:"backend"`
	Why     string    `json:"why,omitempty"`
	Until   time.Time `json:"until,omitzero"` // of the pin
	DryRun  bool      `json:"dry_run,omitempty"`

	// TimeoutSeconds bounds the wait for the user's sessions to end: 30.
	TimeoutSeconds float64 `json:"timeout_seconds,omitempty"`
}

// Moved is the answer to POST /v1/users/{user}/move.
type Moved struct {
	User     string `json:"user"`           // the key
	From     string `json:"from,omitempty"` // "" when no backend served the user
	To       string `json:"to"`
	Sessions int    `json:"sessions"` // that were ended, or would be
	Held     bool   `json:"held"`     // held before, and left so
	DryRun   bool   `json:"dry_run"`
}

// UserChanged is the answer to other changes of a user.
type UserChanged struct {
	User     string `json:"user"` // the key
	Backend  string `json:"backend,omitempty"`
	Sessions int    `json:"sessions"` // of the user, which stay
}

// KickRequest is the body of POST /v1/kick. Sessions must match all that is
// given, and something must be.
type KickRequest struct {
	User    string  `json:"user,omitempty"` // a name, or a mask with * and ?
	IP      string  `json:"ip,omitempty"`   // an address or a network
	Backend string  `json:"backend,omitempty"`
	ID      string  `json:"id,omitempty"`
	Rate    float64 `json:"rate,omitempty"` // sessions a second; 0: all at once
	Why     string  `json:"why,omitempty"`  // for the log
}

// Kicked is the answer to POST /v1/kick.
type Kicked struct {
	Sessions int `json:"sessions"` // that were told to end
}

// ReloadRequest is the body of POST /v1/reload.
type ReloadRequest struct {
	Force bool `json:"force,omitempty"` // a table may lose more rows than max_shrink
}

// UpgradeRequest is the body of POST /v1/upgrade.
type UpgradeRequest struct {
	IfChanged bool `json:"if_changed,omitempty"` // reload instead if the program is the one that runs
}

// Upgraded is the answer to POST /v1/upgrade.
type Upgraded struct {
	PID         int     `json:"pid"` // of the new process
	Version     string  `json:"version"`
	OldPID      int     `json:"old_pid"`
	OldVersion  string  `json:"old_version"`
	Sessions    int     `json:"sessions"`     // that live on in the old process
	KeepSeconds float64 `json:"keep_seconds"` // no longer than this
	TookSeconds float64 `json:"took_seconds"`
	Reload      *Reload `json:"reload,omitempty"` // what was done instead, if the program has not changed
}

// OlderProcess is an old process whose sessions live on after an upgrade.
type OlderProcess struct {
	PID      int    `json:"pid"`
	Version  string `json:"version"`
	Sessions int    `json:"sessions"`
}

// TraceLine is a line of a dialogue before login, one of those that GET /v1/trace
// sends. Secrets, and whatever is not understood, are told by their length.
type TraceLine struct {
	At      time.Time `json:"at"`
	Session string    `json:"session"`
	IP      string    `json:"ip"`
	Port    int       `json:"port"`
	User    string    `json:"user,omitempty"` // once it is known
	Who     string    `json:"who"`            // C: client, S: proxy to client, P: proxy to backend, B: backend, -: a remark
	Text    string    `json:"text"`
}

// Failure is the answer to whatever did not succeed.
type Failure struct {
	Error   string   `json:"error"`
	Details []string `json:"details,omitempty"` // each mistake, where there are several
}

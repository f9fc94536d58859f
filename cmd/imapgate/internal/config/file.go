package config

import (
	"net/netip"
	"time"
)

// Value is one scalar of the file, and where it stands. A value that the file
// does not give holds its default and has no position.
type Value[T any] struct {
	V   T
	Pos Pos
}

// Given says whether the file gives the value.
func (v Value[T]) Given() bool { return v.Pos.Line != 0 }

// Entry is one key of a mapping whose keys are the operator's own.
type Entry[T any] struct {
	Name Value[string]
	V    T
}

// File is a configuration file as it was written, defaults filled in. Its field
// tags describe the format:
//
//	key      the key in the file
//	as       the scalar type, where the Go type does not tell it
//	enum     the words that are allowed
//	names    the scalar type of a mapping's own keys
//	default  the value of an absent key, words of a list separated by spaces
//	need     "true": the key must be there
//	min, max bounds of a number
//	help     one sentence for the reference
//
// Pos fields are the place of the mapping itself.
type File struct {
	Listen   []Listen         `key:"listen" need:"true" help:"The addresses where clients connect."`
	TLS      TLS              `key:"tls" help:"The certificates that clients see."`
	Backends []Entry[Backend] `key:"backends" names:"name" need:"true" help:"The IMAP servers, by name."`
	Pools    []Entry[Pool]    `key:"pools" names:"name" help:"Sets of backends, by name."`
	Route    Route            `key:"route" need:"true" help:"Who lives where."`
	Login    Login            `key:"login" help:"What happens before a login has succeeded."`
	Limits   Limits           `key:"limits" help:"What clients may take up."`
	Health   Health           `key:"health" help:"How backends are watched."`

	CloseSpread Value[time.Duration] `key:"close_spread" default:"30s" help:"Over how long many sessions are ended (of a dead backend, at the deadline of a drain, when imapgate stops), so that their clients do not come back all at once."`

	Admin    *Admin        `key:"admin" help:"The API for operators and monitoring, with metrics and a web page; absent: there is none, and most commands have nobody to talk to."`
	StateDir Value[string] `key:"state_dir" as:"file" help:"The directory where changes of operators are kept, in overrides.json, and copies of the last good tables; absent: a restart forgets them."`
	Shutdown Shutdown      `key:"shutdown" help:"How serving ends."`
	Log      Log           `key:"log" help:"What is written to standard error."`
	Debug    Debug         `key:"debug" help:"For who looks for a mistake in imapgate itself."`
}

// Listen is one listening address.
type Listen struct {
	Pos           Pos
	Address       Value[string]  `key:"address" as:"listen" need:"true" help:"Where to listen; port 0 lets the system choose."`
	TLS           Value[string]  `key:"tls" enum:"implicit starttls none" need:"true" help:"When TLS begins: at once (port 993), with STARTTLS (port 143; no login before it), or never (warned about at every start)."`
	ProxyProtocol *ProxyProtocol `key:"proxy_protocol" help:"Connections begin with a PROXY protocol header, version 1 or 2."`
	ClientAuth    Value[string]  `key:"client_auth" enum:"none request require" default:"none" help:"Whether clients are asked for a certificate."`
	ClientCA      Value[string]  `key:"client_ca" as:"file" help:"The CAs, in PEM, that client certificates are verified against."`
	ClientUser    Value[string]  `key:"client_user" enum:"email upn cn" help:"Which field of a client certificate names the user of AUTHENTICATE EXTERNAL; needs master at every backend."`
}

// ProxyProtocol is what a listener believes of proxies in front of it.
type ProxyProtocol struct {
	Pos  Pos
	From []Value[netip.Prefix] `key:"from" need:"true" help:"The networks of those proxies. Connections from elsewhere are dropped."`
	TLS  Value[bool]           `key:"tls" default:"false" help:"TLS ends in front of this listener: the header says whether the client's connection is encrypted. Only with tls: none."`
}

// TLS is about the certificates that clients see.
type TLS struct {
	Pos          Pos
	Certificates []Certificate `key:"certificates" help:"Chosen by the name that the client asks for (SNI); the first is the default."`
	MinVersion   Value[string] `key:"min_version" enum:"1.2 1.3" default:"1.2" help:"The oldest TLS version that clients may use."`
	Profile      Value[string] `key:"profile" enum:"rfc9325 compatible" default:"rfc9325" help:"rfc9325: TLS 1.2 and 1.3, forward secrecy and authenticated encryption only. compatible: TLS 1.0 and 1.1 as well, on listeners without client certificates; warned about at every start."`
	TicketKeys   Value[string] `key:"ticket_keys" as:"file" help:"Keys of session tickets (see imapgate ticket-key rotate), for clients that resume a session after a restart or at another proxy; absent: each listener makes up its own."`
	ACME         *ACME         `key:"acme" help:"Certificates that are obtained from a CA, and renewed, with the ACME protocol; behind those from files."`
}

// Certificate is a chain and its key.
type Certificate struct {
	Pos  Pos
	Cert Value[string] `key:"cert" as:"file" need:"true" help:"The certificate and its chain, in PEM."`
	Key  Value[string] `key:"key" as:"file" need:"true" help:"The private key, in PEM."`
}

// Backend is one IMAP server.
type Backend struct {
	Pos           Pos
	Address       Value[string]     `key:"address" as:"hostport" need:"true" help:"Host and port of the server."`
	TLS           Value[string]     `key:"tls" enum:"implicit starttls none" need:"true" help:"When TLS begins; none is for trusted networks, and warned about at every start."`
	TLSName       Value[string]     `key:"tls_name" as:"text" help:"The name that the server's certificate must hold; absent: the host of address."`
	CA            Value[string]     `key:"ca" as:"file" help:"The CAs, in PEM, that vouch for the server; absent: those of the system."`
	Pins          []Value[string]   `key:"pins" as:"pin" help:"The server's public key must be one of these (SHA-256, \"sha256/\" and base64, or hex); without ca, nothing else is asked of its certificate."`
	Verify        Value[string]     `key:"verify" enum:"full none" default:"full" help:"none accepts any certificate, and is warned about at every start."`
	Weight        Value[int]        `key:"weight" min:"1" max:"1000000" default:"100" help:"The share of a pool's users, relative to the other members."`
	ProxyProtocol Value[string]     `key:"proxy_protocol" enum:"v1 v2" help:"The server gets a PROXY header of this version first; absent: none."`
	Pipelining    Value[bool]       `key:"pipelining" default:"true" help:"false waits for the reply to ID before the login is sent."`
	MaxLogins     Value[int]        `key:"max_logins" min:"1" max:"1000000" default:"256" help:"Logins under way at the same time, from connecting to the answer; others wait their turn."`
	Warm          Value[int]        `key:"warm" min:"0" max:"1000" default:"8" help:"How many connections at the most are kept ready for the next logins, as many as come; 0: none. None beside proxy_protocol."`
	Source        Value[netip.Addr] `key:"source" help:"The local address to connect from."`
	Master        *Master           `key:"master" help:"Logs in users whom the proxy has authenticated itself, by their certificate."`
	Cert          Value[string]     `key:"cert" as:"file" help:"The certificate that the proxy shows to the server."`
	Key           Value[string]     `key:"key" as:"file" help:"Its private key."`
}

// Master is a backend's master user.
type Master struct {
	Pos          Pos
	User         Value[string] `key:"user" as:"text" need:"true" help:"The master user's name (SASL authcid)."`
	PasswordFile Value[string] `key:"password_file" as:"file" need:"true" help:"The file that holds the password, and nothing else."`
}

// Pool is a set of backends.
type Pool struct {
	Pos      Pos
	Backends []Value[string] `key:"backends" as:"name" need:"true" help:"The members."`
	Shared   Value[bool]     `key:"shared" default:"false" help:"Any member serves any user (shared storage), so that the next one takes over when one cannot be reached."`
	Health   *PoolHealth     `key:"health" help:"How its members are watched, where that differs from the other backends."`
}

// Health is how backends are watched.
type Health struct {
	Pos          Pos
	Interval     Value[time.Duration] `key:"interval" as:"interval" default:"10s" help:"Between looks at each backend; 0s: only failed logins show that one is down."`
	Timeout      Value[time.Duration] `key:"timeout" help:"How long one look may take; absent: login.connect_timeout."`
	Rise         Value[int]           `key:"rise" min:"1" max:"100" default:"2" help:"Good looks in a row after which a backend is up again."`
	Fall         Value[int]           `key:"fall" min:"1" max:"100" default:"3" help:"Bad looks in a row after which it is down."`
	User         Value[string]        `key:"user" as:"text" help:"Each look logs this user in; absent: it ends at the greeting and the capabilities."`
	PasswordFile Value[string]        `key:"password_file" as:"file" help:"The file that holds the user's password, and nothing else."`
}

// PoolHealth is how the members of a pool are watched. What is not given is as for
// all backends.
type PoolHealth struct {
	Pos          Pos
	Interval     Value[time.Duration] `key:"interval" as:"interval" help:"As in health."`
	Timeout      Value[time.Duration] `key:"timeout" help:"As in health."`
	Rise         Value[int]           `key:"rise" min:"1" max:"100" help:"As in health."`
	Fall         Value[int]           `key:"fall" min:"1" max:"100" help:"As in health."`
	User         Value[string]        `key:"user" as:"text" help:"As in health."`
	PasswordFile Value[string]        `key:"password_file" as:"file" help:"As in health."`
}

// Route says who lives where.
type Route struct {
	Pos       Pos
	Tables    []Value[string] `key:"tables" as:"file" help:"Files that say where users and domains live."`
	Default   Value[string]   `key:"default" as:"name" help:"The backend or pool of everybody else; absent: unknown users are refused."`
	MaxShrink Value[int]      `key:"max_shrink" min:"1" max:"100" default:"50" help:"A reload that would drop more than this percentage of the rows is refused."`

	Affinity Value[time.Duration] `key:"affinity" as:"interval" default:"15m" help:"How long a user of a shared pool stays with a backend after the last session ended; 0s: not at all."`
}

// Login is about connections before their login has succeeded.
type Login struct {
	Pos             Pos
	Timeout         Value[time.Duration]   `key:"timeout" default:"60s" help:"From the connection to the login, in all."`
	TLSTimeout      Value[time.Duration]   `key:"tls_timeout" default:"10s" help:"One TLS handshake with a client."`
	BackendTimeout  Value[time.Duration]   `key:"backend_timeout" default:"30s" help:"A login at a backend, retries included."`
	ConnectTimeout  Value[time.Duration]   `key:"connect_timeout" default:"5s" help:"From connecting to a backend to its greeting."`
	MaxFailures     Value[int]             `key:"max_failures" min:"1" max:"1000" default:"10" help:"Failed logins after which a client is disconnected."`
	FailureDelay    Value[time.Duration]   `key:"failure_delay" default:"1s" help:"What the first failed login of a client address waits, or of a user from an address where that user has not logged in before; it doubles with every further one."`
	FailureDelayMax Value[time.Duration]   `key:"failure_delay_max" default:"15s" help:"The longest such delay."`
	ExemptNetworks  []Value[netip.Prefix]  `key:"exempt_networks" help:"Networks with many users behind few addresses (webmail, NAT): clients from there never wait after a failed login, and no limit that counts by address is for them."`
	TrustedNetworks []Value[netip.Prefix]  `key:"trusted_networks" help:"Other proxies, whose ID command may tell the client's address."`
	MasterUsers     []Value[string]        `key:"master_users" as:"text" help:"Who may log in as somebody else with a SASL authzid and their own password; the backend has to agree."`
	MasterSeparator Value[string]          `key:"master_separator" as:"text" help:"The * of user*master: what is before it is looked up, the backend gets both; absent: names are taken as they are."`
	DefaultDomain   Value[string]          `key:"default_domain" as:"domain" help:"Added to names without a domain before the user is looked up."`
	CaseSensitive   Value[bool]            `key:"case_sensitive" default:"false" help:"Names are not lower-cased before the user is looked up."`
	Mechanisms      []Value[string]        `key:"mechanisms" enum:"PLAIN LOGIN XOAUTH2 OAUTHBEARER EXTERNAL SCRAM-SHA-1 SCRAM-SHA-256" default:"PLAIN LOGIN XOAUTH2 OAUTHBEARER EXTERNAL" help:"SASL mechanisms; of these, clients are offered what the backends have."`
	Greeting        Value[string]          `key:"greeting" as:"text" default:"IMAP server ready." help:"The text of the greeting."`
	ID              []Entry[Value[string]] `key:"id" names:"text" as:"text" help:"The answer to the ID command; absent: NIL."`
	Capabilities    []Value[string]        `key:"capabilities" as:"atom" help:"Pins the capabilities before login; absent: they follow the backends."`
}

// Limits are what clients may take up; 0 is no limit.
type Limits struct {
	Pos                       Pos
	Connections               Value[int] `key:"connections" min:"0" max:"10000000" default:"0" help:"Connections and sessions in all; who has waited longest for a login makes room. 0: as many as file descriptors allow, two each."`
	ConnectionsPerAddress     Value[int] `key:"connections_per_address" min:"0" max:"10000000" default:"10000" help:"Connections and sessions of one client address, IPv6 by its /64; who of it has waited longest for a login makes room. 0: no limit."`
	UnauthenticatedPerAddress Value[int] `key:"unauthenticated_per_address" min:"0" max:"10000000" default:"100" help:"Those of them that have not logged in; the oldest makes room. 0: no limit."`
	SessionsPerUser           Value[int] `key:"sessions_per_user" min:"0" max:"10000000" default:"500" help:"Sessions of one user; 0: no limit."`
	SessionsPerUserAndAddress Value[int] `key:"sessions_per_user_and_address" min:"0" max:"10000000" default:"100" help:"Those of them from one client address, as Dovecot's mail_max_userip_connections; 0: no limit."`
	AcceptRate                Value[int] `key:"accept_rate" min:"0" max:"1000000" default:"0" help:"Connections accepted in a second; others wait. 0: as fast as they come, more slowly under load."`
	Handshakes                Value[int] `key:"handshakes" min:"0" max:"1000" default:"0" help:"TLS handshakes with clients that are computed at the same time; 0: as many as there are processors."`
}

// Debug is for who looks for a mistake in imapgate itself.
type Debug struct {
	Pos       Pos
	CoreDumps Value[bool] `key:"core_dumps" default:"false" help:"A crash may write the process's memory to a core file, and debuggers may attach. There can be passwords in it, and the keys of certificates are."`
}

// Admin is the API for operators and monitoring.
type Admin struct {
	Pos       Pos
	Socket    Value[string] `key:"socket" as:"file" help:"A unix socket for its owner and group: what commands talk to."`
	HTTP      Value[string] `key:"http" as:"listen" help:"An address for browsers and Prometheus; without token_file a loopback one."`
	TokenFile Value[string] `key:"token_file" as:"file" help:"Holds the bearer tokens that are accepted on http, one on each line, behind a name for the log."`
}

// Shutdown is how serving ends.
type Shutdown struct {
	Pos     Pos
	Timeout Value[time.Duration] `key:"timeout" default:"30s" help:"From the signal to the exit, in all. Sessions are told BYE at the end of a response, spread over close_spread or what is left of this time."`

	DrainDelay Value[time.Duration] `key:"drain_delay" as:"interval" default:"0s" help:"How long clients are still accepted while /readyz already says no, for load balancers to notice; 0s: not at all."`

	DrainTimeout Value[time.Duration] `key:"drain_timeout" default:"24h" help:"How long the old process keeps its sessions after an upgrade. Then they are told BYE, spread over close_spread."`
}

// Log is what is written to standard error.
type Log struct {
	Pos    Pos
	Format Value[string] `key:"format" enum:"auto json console" default:"auto" help:"auto: for people on a terminal, else JSON."`
	Level  Value[string] `key:"level" enum:"debug info warn error" default:"info" help:"The least important lines that are written."`
}

// Where returns where a value of that file stands, "" when it is a default.
func (v Value[T]) Where(file string) string {
	if !v.Given() {
		return ""
	}
	return (&Error{File: file, Pos: v.Pos}).Where()
}

// Package tlsconf makes the TLS configurations that the proxy runs on: for
// listeners from certificate files that may be replaced at any time and from
// certificate authorities, for backends from a CA, a name and key pins.
//
//	Files        certificate and key files: chosen by SNI, watched, reloaded pair by pair
//	ACME         certificates from a CA: obtained, renewed, stored, also on demand
//	Choice       which of them a handshake gets
//	Server       a listener's *tls.Config: TLS 1.2 or newer, ALPN imap, client certificates
//	Tickets      session tickets of listeners
//	TicketKeys   their keys, from a file that several proxies may share
//	Client       a backend's *tls.Config: verification, resumption, a client certificate
//	ClientFiles  the same, made again when its files change
//	Watch        follows the files of all of them
//
// A *tls.Config is made once and shared by all connections of its listener or
// backend. A clone for each connection would lose session resumption, and
// cloning one that asks for client certificates is how CVE-2025-68121 came
// about.
//
// # ACME
//
// The work is certmagic's: accounts, orders, storage, locks between proxies, ARI and
// renewals. What is ours is when it works and what is said about it:
//
//	acme.go          options, start and end
//	acme_names.go    the state of each name; first orders, retries, forced renewals
//	acme_demand.go   names that clients ask for, and the bounds on them
//	acme_listen.go   the addresses where a CA asks, open as long as it runs
//	acme_dns.go      what makes DNS records, one line for each provider
//	acme_explain.go  errors, as one line that says what to do
//	acme_info.go     how each name is
//	acme_log.go      certmagic's log, at debug level
//
// One goroutine (ACME.run) owns the others, and Close waits for all of them. Renewals
// run in goroutines of certmagic, which end with the cache.
//
// Errors say which file is meant and what is wrong with it, in words for the
// person who has to mend it. Nothing here logs.
package tlsconf

// Package tlsconf makes the TLS configurations that the proxy runs on: for
// listeners from certificate files that may be replaced at any time, for
// backends from a CA, a name and key pins.
//
//	Files        certificate and key files: chosen by SNI, watched, reloaded pair by pair
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
// Errors say which file is meant and what is wrong with it, in words for the
// person who has to mend it. Nothing here logs.
package tlsconf

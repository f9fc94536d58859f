//go:build linux

/*
Package fake is what stands behind a proxy under load: an IMAP backend that costs
next to nothing, so that it is never what is measured, a slow line in front of it,
and the HTTP service that nginx asks about each login.

	session.go  the protocol of one connection: bytes in, replies out, no I/O
	loop.go     the backend in clear text: one goroutine, one epoll set
	conn.go     its connections
	tls.go      the backend with TLS: a goroutine a connection
	link.go     the slow line
	control.go  the port where a load generator asks for new mail to arrive
	authhttp.go nginx's auth_http
*/
package fake

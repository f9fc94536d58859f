//go:build linux

/*
Package load puts load on an IMAP proxy and measures what becomes of it. Each kind
of load is a method of [Load] and returns a [Result]: figures by name, and who used
the CPUs meanwhile.

	load.go    Load: where to connect, and as whom
	client.go  one connection; dial.go: how it is opened
	logins.go  logins, as many as can be or at a rate, full or resumed
	idle.go    memory per idle session, and after each has sent a large mail
	bulk.go    download and upload
	ping.go    NOOP round trips
	wake.go    mail that arrives for idle sessions
	meter.go   CPU time during a measurement
	result.go  what is returned

Only TLS 1.3 with X25519 is spoken, so that every proxy does the same work.
*/
package load

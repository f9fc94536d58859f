// Command imapgate is an IMAP proxy: it ends TLS, finds the backend of the user
// who logs in, logs in there and splices the two connections.
//
// There is one file for each command. The parts that serving is made of are put
// together in app.go; reload.go replaces them while they run, and listeners.go
// opens, hands over and closes the sockets.
package main

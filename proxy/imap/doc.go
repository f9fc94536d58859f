// Package imap knows the IMAP wire grammar that a proxy needs before it becomes a pipe: commands with
// their literals, astrings and ID lists from a client, responses with their codes from a backend, and the
// places in a running stream where one response ends and the next may begin.
//
// It turns bytes into values and starts nothing: no goroutine, no socket, no logging. Everything that a
// stranger can make it hold is bounded by the constants of this package, and bytes that may be a password
// are kept in memory that can be zeroed ([Command.Wipe], [Reader.Wipe]).
//
// The parts, in the order a connection meets them:
//
//   - [Reader] buffers a connection and gives back what it read ahead.
//   - [CommandReader] reads one [Command] after the other, answering synchronizing literals through a
//     callback; [Command.Login], [Command.Authenticate] and [Command.ID] decode the arguments.
//   - [ResponseReader] reads the responses of a backend that may be hostile, within a budget of bytes.
//   - [AppendQuoted] and [AppendID] write what a backend is sent.
//   - [Follower] watches a spliced stream for the ends of responses.
//
// Grammar: RFC 9051, Section 9, with RFC 7888 (non-synchronizing literals), RFC 4959 (initial responses) and
// RFC 2971 (ID). Departures are marked "Deviation:" where they are made.
package imap

// Package config turns imapgate's configuration file into values.
//
// It works in three steps, so that a reload can stop after each of them and
// keep what is in force:
//
//	Parse    bytes → File: syntax, keys, types, references; opens nothing
//	Compile  File → what proxy, route and tlsconf need; reads the files that
//	         the configuration names (certificates, passwords, tables)
//	use      the caller's: listeners, proxy.Server.SetConfig
//
// The struct File is the description of the format: its field tags say which
// keys there are, of which type, with which default, and what they mean. The
// walker in walk.go knows nothing of IMAP. It reports every mistake of a file
// at once, each with file, line, column and a hint.
package config

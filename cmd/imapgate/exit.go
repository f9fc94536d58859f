package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"imapgate/cmd/imapgate/internal/config"
)

// Exit codes. They are documented in the help of the root command and in the
// README.
const (
	exitOK          = 0
	exitFailed      = 1
	exitUsage       = 2 // usage, or a bad configuration
	exitUnreachable = 3 // no server to talk to
	exitNotFound    = 4
)

// exitError is an error that asks for an exit code of its own.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }

func (e *exitError) Unwrap() error { return e.err }

// usageError is a mistake on the command line.
func usageError(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// run runs one command line and returns its exit code. It is all of main but
// the exit.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRoot()
	root.SetArgs(append([]string{}, args...)) // for nil, cobra would take os.Args
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return exitOK
	}
	return report(stderr, err)
}

// report writes an error for people and returns its exit code.
func report(stderr io.Writer, err error) int {
	code := exitFailed
	if mistakes, ok := errors.AsType[config.Errors](err); ok {
		code = exitUsage
		mistakes.Print(stderr, "imapgate: ")
		if len(mistakes) > 1 {
			_, _ = fmt.Fprintf(stderr, "imapgate: %d errors\n", len(mistakes))
		}
	} else {
		_, _ = fmt.Fprintf(stderr, "imapgate: %v\n", err)
	}
	if exit, ok := errors.AsType[*exitError](err); ok {
		code = exit.code
	}
	return code
}

package main

import (
	"context"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

func newServe() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve IMAP clients",
		Long: `Read the configuration, open the listeners and serve until a signal comes.

Routing tables, certificates, the CAs of backends and session ticket keys are read
again by themselves when their files change. Signals do the rest:

  SIGHUP           read everything again: the configuration, tables, certificates;
                   sessions stay, listeners are opened and closed as needed, and
                   a mistake anywhere leaves all as it was and is logged; refused
                   during an upgrade
  SIGUSR2          go on as a new process, as "imapgate upgrade" does
  SIGTERM, SIGINT  stop: /readyz says no at once, after shutdown.drain_delay no
                   client is accepted any more, and clients are told BYE, sessions
                   between two responses and spread over close_spread, all within
                   shutdown.timeout; a second one ends at once; during an upgrade
                   a new process that is ready serves on

A service manager that speaks like systemd is told when imapgate serves, reloads
and stops, and that it is alive; listeners that it has opened are used.

Logs go to standard error, for people on a terminal and else as JSON.`,
		Example: `  imapgate serve
  imapgate serve -c imapgate.yaml
  kill -HUP $(pidof imapgate)`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serveFile(cmd.Context(), path, cmd.ErrOrStderr(), nil)
		},
	}
	configFlag(cmd, &path)
	return cmd
}

// serveFile serves a configuration until a signal comes or ctx ends. ready, if
// any, is called once the listeners are open.
func serveFile(ctx context.Context, path string, stderr io.Writer, ready func(*app)) error {
	// Before anything is opened, so that no signal is lost on the way.
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGHUP, syscall.SIGUSR2, syscall.SIGTERM, syscall.SIGINT)
	defer signal.Stop(signals)

	if err := setCoreDumps(false); err != nil { // before any secret is read
		return &exitError{exitFailed, err}
	}
	memory := limitMemory(os.DirFS("/"), os.Getenv)
	older, in, err := inherit()
	if err != nil {
		return err
	}
	logs := newLogWriter(stderr)
	defer logs.end()
	a, err := startApp(ctx, path, older, in, logs)
	if err != nil {
		in.close()
		older.failed(err)
		return err
	}
	a.log.Info("memory", zap.Int64("limit", memory.bytes), zap.String("from", memory.from))
	if ready != nil {
		ready(a)
	}
	return a.run(ctx, signals)
}

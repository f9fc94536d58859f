//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// run runs one command line and returns its exit code. It is all of main but the
// exit.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := newRoot()
	root.SetArgs(append([]string{}, args...)) // for nil, cobra would take os.Args
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		_, _ = fmt.Fprintf(stderr, "imapload: %v\n", err)
		return 1
	}
	return 0
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "imapload",
		Short: "Measure IMAP proxies side by side",
		Long: `imapload measures IMAP proxies. "imapload bench" does it all: it starts each proxy
on a CPU of its own, with the same backend and the same load on the others, and
prints a table. The other commands are its parts, for measurements of your own.

The load commands print one JSON object, with figures, errors, and what share of a
CPU the proxy, the backend, this program and others have used. They are meant for a
proxy of yours in front of "imapload backend": they do not verify certificates, and
fill mailboxes with rubbish.`,
		Example: `  imapload bench --imapgate ./imapgate
  imapload backend --listen 127.0.0.1:10143 &
  imapload logins --address 127.0.0.1:993 --target-pid $(pidof imapgate)`,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage:  true,
		SilenceErrors: true, // run reports errors, in one form
	}
	for _, group := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"bench", "Side by side:", []*cobra.Command{newBench(), newReport()}},
		{"load", "Load:", []*cobra.Command{newLogins(), newIdle(), newDownload(), newUpload(), newPing(), newWake()}},
		{"behind", "Behind the proxy:", []*cobra.Command{newBackend(), newAuthHTTP()}},
	} {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, cmd := range group.commands {
			cmd.GroupID = group.id
			root.AddCommand(cmd)
		}
	}
	return root
}

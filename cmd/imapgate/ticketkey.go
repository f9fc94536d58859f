package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/config"
	"imapgate/tlsconf"
)

func newTicketKey() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ticket-key",
		Short: "Change the keys of session tickets",
		Long: `Change the keys of session tickets, with which clients resume a TLS session
without a full handshake. A file of keys, tls.ticket_keys in the configuration, lets
them do so after a restart and at another proxy that has the same file.`,
		Example: `  imapgate ticket-key rotate`,
		Args:    unknownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newTicketKeyRotate())
	return cmd
}

func newTicketKeyRotate() *cobra.Command {
	var path string
	var keep int
	cmd := &cobra.Command{
		Use:   "rotate [FILE]",
		Short: "Put the next key in use, and make a new next one",
		Long: `Put the next key of FILE in use, keep the keys that were in use before, --keep of
them, and add a new next key. Without FILE it is tls.ticket_keys of the
configuration. A FILE that does not exist is made, for its owner alone; one that
does keeps its owner. A running imapgate notices.

A key is next for one rotation before tickets are made with it, and all who have the
file accept it from the start. So copy the file to the other proxies whenever it has
changed, at leisure: no ticket comes from a key that they do not know, unless they
are one rotation behind.

Rotate every day (at least every week, see RFC 9325, Section 3.4): who steals the
file can read sessions of TLS 1.2 that were resumed with its keys. With --keep 2 and
a rotation each day a client resumes for two to three days.`,
		Example: `  imapgate ticket-key rotate
  imapgate ticket-key rotate --keep 6 /etc/imapgate/tickets.keys`,
		Args: atMost("FILE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if keep < 0 || keep > maxPreviousKeys {
				return usageError("--keep %d is not a number from 0 to %d", keep, maxPreviousKeys)
			}
			file, err := ticketKeyFile(path, args)
			if err != nil {
				return err
			}
			done, err := tlsconf.RotateTicketKeys(file, keep, time.Now())
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", file, rotated(done))
			return err
		},
	}
	configFlag(cmd, &path)
	cmd.Flags().IntVar(&keep, "keep", 2, "how many keys that were in use still open tickets")
	return cmd
}

// maxPreviousKeys bounds what an unknown ticket is tried with.
const maxPreviousKeys = 30

// ticketKeyFile returns the file that is meant.
func ticketKeyFile(path string, args []string) (string, error) {
	if len(args) == 1 {
		return args[0], nil
	}
	file, err := config.FindTicketKeys(path, config.System())
	if err != nil {
		return "", usageError("which file? %s: %w", path, err)
	}
	return file, nil
}

// rotated says what a rotation did.
func rotated(r tlsconf.Rotation) string {
	switch {
	case r.Created:
		return "created, with a key in use and the next one"
	case r.InUse:
		return fmt.Sprintf("a new key is in use, there is a new next one, and %s may still be resumed with", plural(r.Previous, "previous key"))
	}
	return "there is a next key now, which the next rotation puts in use"
}

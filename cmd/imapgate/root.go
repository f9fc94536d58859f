package main

import (
	"strings"

	"github.com/spf13/cobra"
)

// defaultConfig is where serve, check and lookup find the configuration.
const defaultConfig = "/etc/imapgate/imapgate.yaml"

// newRoot returns the command with all its subcommands.
func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "imapgate",
		Short: "An IMAP proxy that finds the right backend for every user",
		Long: `imapgate stands between mail clients and IMAP servers. It ends TLS, waits for
the login, finds the backend that the user lives on, logs in there with the same
credentials, and then passes every byte on, unchanged, in both directions.

New here? "imapgate demo" runs a proxy with two servers and some mail, in memory,
and prints what to type to read it. Then write a configuration, try it with
"imapgate check", ask it who lives where with "imapgate lookup", and serve.

The commands that ask and change a running imapgate talk to it through its unix
socket, admin.socket in the configuration: give them the same -c as serve, or
--socket. With -o json they print what the API answered.

Exit codes:
  0  ok
  1  failed
  2  wrong usage, or a bad configuration
  3  no running imapgate to talk to
  4  not found`,
		Example: `  imapgate demo
  imapgate check -c imapgate.yaml
  imapgate serve -c imapgate.yaml
  imapgate status
  imapgate drain mail2 --why "kernel update" --deadline 30m`,
		Args:          unknownCommand,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage:  true, // after a run-time error the usage only hides it
		SilenceErrors: true, // run reports errors, in one form

		SuggestionsMinimumDistance: 2,
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError("%w; see %q", err, cmd.CommandPath()+" -h")
	})
	for _, group := range []struct {
		id, title string
		commands  []*cobra.Command
	}{
		{"serve", "Serving:", []*cobra.Command{newServe(), newCheck(), newDemo(), newTicketKey()}},
		{"ask", "Asking a running imapgate:", []*cobra.Command{newStatus(), newBackends(), newWho(), newTrace(), newLookup(), newDiff(), newCert()}},
		{"change", "Changing it:", []*cobra.Command{
			newDrain(), newMaint(), newReady(), newWeight(), newMove(), newPin(), newUnpin(), newHold(), newRelease(), newKick(), newReload(), newUpgrade(),
		}},
	} {
		root.AddGroup(&cobra.Group{ID: group.id, Title: group.title})
		for _, cmd := range group.commands {
			cmd.GroupID = group.id
			root.AddCommand(cmd)
		}
	}
	root.AddCommand(newVersion())
	return root
}

// unknownCommand is what the root command makes of arguments.
func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	hint := `see "imapgate -h"`
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "?"
	}
	return usageError("unknown command %q; %s", args[0], hint)
}

// arguments checks the number of a command's arguments, and calls them by their
// names when it is wrong.
func arguments(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usageError("%s is missing; see %q", names[len(args)], cmd.CommandPath()+" -h")
		case len(args) > len(names):
			return usageError("unexpected argument %q; see %q", args[len(names)], cmd.CommandPath()+" -h")
		}
		return nil
	}
}

// configFlag adds -c to a command.
func configFlag(cmd *cobra.Command, path *string) {
	cmd.Flags().StringVarP(path, "config", "c", defaultConfig, "the configuration `file`")
	_ = cmd.MarkFlagFilename("config", "yaml", "yml")
}

// outputFlag adds -o to a command.
func outputFlag(cmd *cobra.Command, format *string) {
	cmd.Flags().StringVarP(format, "output", "o", "table", "output `format`: table or json")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp))
}

// checkOutput refuses unknown output formats.
func checkOutput(format string) error {
	if format != "table" && format != "json" {
		return usageError("unknown output format %q; it is table or json", format)
	}
	return nil
}

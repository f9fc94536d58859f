package main

import (
	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
)

func newHold() *cobra.Command {
	var ask asking
	var in admin.ChangeRequest
	var until when
	cmd := ask.command(&cobra.Command{
		Use:   "hold USER",
		Short: "Make logins of a user wait",
		Long: `Make logins of a user wait, while their mail is being restored, say. Sessions go on:
"imapgate kick" ends them. A login that waits longer than login.backend_timeout is
told UNAVAILABLE, and the mail program tries again later without asking for a new
password.

"imapgate release" ends it. --until makes sure that it is not forgotten.`,
		Example: `  imapgate hold alice@example.org --until 30m --why restore
  imapgate hold alice@example.org && imapgate kick alice@example.org`,
		Args:              arguments("USER"),
		ValidArgsFunction: ask.complete(userNames),
	}, func(cmd *cobra.Command, c *admin.Client, args []string) error {
		in.Until = until.Time
		return ask.changeUser(cmd, c, args[0], "hold", in, func(out *admin.UserChanged) string {
			s := "logins of " + out.User + " wait"
			if out.Sessions > 0 {
				s += "; still there: " + count(out.Sessions, "session")
			}
			return s
		})
	})
	whyFlag(cmd, &in.Why)
	untilFlag(cmd, &until)
	return cmd
}

func newRelease() *cobra.Command {
	var ask asking
	var in admin.ReasonRequest
	cmd := ask.command(&cobra.Command{
		Use:   "release USER",
		Short: "End a hold",
		Long: `End a hold: logins of the user that wait go on at once, to where the user belongs
now. The exit code is 4 when the user is not held.`,
		Example: `  imapgate release alice@example.org
  imapgate release alice@example.org --why "mail is back"`,
		Args:              arguments("USER"),
		ValidArgsFunction: ask.complete(changed("hold")),
	}, func(cmd *cobra.Command, c *admin.Client, args []string) error {
		return ask.changeUser(cmd, c, args[0], "release", in, func(out *admin.UserChanged) string {
			return out.User + " is not held any more"
		})
	})
	whyFlag(cmd, &in.Why)
	return cmd
}

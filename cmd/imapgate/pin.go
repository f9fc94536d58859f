package main

import (
	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
)

func newPin() *cobra.Command {
	var ask asking
	var in admin.PinRequest
	var until when
	cmd := ask.command(&cobra.Command{
		Use:   "pin USER BACKEND",
		Short: "Send a user to a backend, whatever the table says",
		Long: `Send a user to a backend, whatever the table, pools and weights say. It ends no
session: somebody who has sessions elsewhere cannot log in again before those have
ended. "imapgate move" ends them too, and so is what you want most of the time.

"imapgate unpin" takes it back.`,
		Example: `  imapgate pin alice@example.org mail3 --why "ticket 4711"
  imapgate pin alice@example.org mail3 --until 24h`,
		Args:              arguments("USER", "BACKEND"),
		ValidArgsFunction: ask.complete(userNames, backendNames),
	}, func(cmd *cobra.Command, c *admin.Client, args []string) error {
		in.Backend, in.Until = args[1], until.Time
		return ask.changeUser(cmd, c, args[0], "pin", in, func(out *admin.UserChanged) string {
			s := out.User + " is pinned to " + out.Backend
			if out.Sessions > 0 {
				s += "; where it was before: " + count(out.Sessions, "session")
			}
			return s
		})
	})
	whyFlag(cmd, &in.Why)
	untilFlag(cmd, &until)
	return cmd
}

func newUnpin() *cobra.Command {
	var ask asking
	var in admin.ReasonRequest
	cmd := ask.command(&cobra.Command{
		Use:   "unpin USER",
		Short: "Take a pin back",
		Long: `Take a pin back: the user belongs again to where the table says, from the next
login on that finds no sessions of theirs elsewhere. The exit code is 4 when the user
is not pinned.`,
		Example: `  imapgate unpin alice@example.org
  imapgate status -o json | jq -r '.overrides[] | select(.kind == "pin") | .name' | xargs -n1 imapgate unpin`,
		Args:              arguments("USER"),
		ValidArgsFunction: ask.complete(changed("pin")),
	}, func(cmd *cobra.Command, c *admin.Client, args []string) error {
		return ask.changeUser(cmd, c, args[0], "unpin", in, func(out *admin.UserChanged) string {
			return out.User + " is not pinned any more"
		})
	})
	whyFlag(cmd, &in.Why)
	return cmd
}

// changeUser asks for a change of a user, and prints what came of it.
func (a *asking) changeUser(cmd *cobra.Command, c *admin.Client, user, operation string, in any, say func(*admin.UserChanged) string) error {
	var out admin.UserChanged
	if err := c.Post(cmd.Context(), admin.UserPath(user, operation), in, &out); err != nil {
		return err
	}
	return a.print(cmd, out, func(p *printer) { p.printf("%s\n", visible(say(&out))) })
}

package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
)

func newDrain() *cobra.Command {
	var ask asking
	var in admin.DrainRequest
	var until, deadline when
	cmd := ask.command(&cobra.Command{
		Use:   "drain BACKEND",
		Short: "Let nobody new come to a backend",
		Long: `Let nobody new come to a backend. Sessions there go on, and their users may open
more. In a shared pool the others take the new users; where users' mail is on this
backend alone, those without sessions are told that it is unavailable.

With --deadline, the backend goes into maintenance at that time: whoever is left is
told BYE between two responses, spread over close_spread, and comes to another
member of a shared pool. A deadline survives restarts as the drain itself does.

"imapgate ready" takes it back.`,
		Example: `  imapgate drain mail2 --why "kernel update"
  imapgate drain mail2 --deadline 30m --until 6h
  imapgate drain mail2 --deadline 22:00`,
		Args:              arguments("BACKEND"),
		ValidArgsFunction: ask.complete(backendNames),
	}, func(cmd *cobra.Command, c *admin.Client, args []string) error {
		in.Until, in.Deadline = until.Time, deadline.Time
		return ask.changeBackend(cmd, c, args[0], "drain", in, func(out *admin.Changed) string {
			s := fmt.Sprintf("%s is drained; still there: %s", out.Backend.Name, sessionsOfUsers(&out.Backend))
			if !deadline.IsZero() {
				s += "\nwhoever is left is moved off from " + deadline.Format("2006-01-02 15:04 MST") + " on"
			}
			return s
		})
	})
	whyFlag(cmd, &in.Why)
	untilFlag(cmd, &until)
	cmd.Flags().Var(&deadline, "deadline", "when whoever is left is moved off: 30m, 22:00, or \"2006-01-02 22:00\"")
	return cmd
}

func newMaint() *cobra.Command {
	var ask asking
	var in admin.ChangeRequest
	var until when
	cmd := ask.command(&cobra.Command{
		Use:   "maint BACKEND",
		Short: "Take a backend out of service now",
		Long: `Let nobody come to a backend, and end the sessions that are there: each is told BYE
between two responses, spread over close_spread, those of one user together. Their
mail programs connect again, and come to another member of a shared pool; users
whose mail is on this backend alone are told that it is unavailable.

"imapgate drain" is the gentle way. "imapgate ready" takes it back, and stops ending
sessions if that is not over yet.`,
		Example: `  imapgate maint mail2 --why "disk is dying"
  imapgate maint mail2 --until 1h`,
		Args:              arguments("BACKEND"),
		ValidArgsFunction: ask.complete(backendNames),
	}, func(cmd *cobra.Command, c *admin.Client, args []string) error {
		in.Until = until.Time
		return ask.changeBackend(cmd, c, args[0], "maint", in, func(out *admin.Changed) string {
			return fmt.Sprintf("%s is in maintenance; being ended: %s", out.Backend.Name, sessionsOfUsers(&out.Backend))
		})
	})
	whyFlag(cmd, &in.Why)
	untilFlag(cmd, &until)
	return cmd
}

func newReady() *cobra.Command {
	var ask asking
	var in admin.ReasonRequest
	cmd := ask.command(&cobra.Command{
		Use:   "ready BACKEND",
		Short: "Take drain or maint back",
		Long: `Let users come to a backend again. In a shared pool it gets back those whom its
weight gives it, one by one: users with sessions elsewhere stay there, and those who
had some a moment ago (route.affinity) come later.

A backend that checks found to be down stays down until they find otherwise. One
that is not configured any more can be named too, to be rid of its drain.`,
		Example: `  imapgate ready mail2
  imapgate ready mail2 --why "kernel is new"`,
		Args:              arguments("BACKEND"),
		ValidArgsFunction: ask.complete(changed("admin")),
	}, func(cmd *cobra.Command, c *admin.Client, args []string) error {
		return ask.changeBackend(cmd, c, args[0], "ready", in, func(out *admin.Changed) string {
			switch {
			case out.Backend.Unconfigured:
				return out.Backend.Name + " is not configured, and nothing is left of its drain"
			case !out.Backend.Up:
				return out.Backend.Name + " is ready, but down: " + out.Backend.HealthWhy
			}
			return out.Backend.Name + " is ready"
		})
	})
	whyFlag(cmd, &in.Why)
	return cmd
}

// changeBackend asks for a change of a backend, and prints what came of it.
func (a *asking) changeBackend(cmd *cobra.Command, c *admin.Client, name, operation string, in any, say func(*admin.Changed) string) error {
	var out admin.Changed
	if err := c.Post(cmd.Context(), admin.BackendPath(name, operation), in, &out); err != nil {
		return err
	}
	return a.print(cmd, out, func(p *printer) {
		for line := range strings.SplitSeq(say(&out), "\n") {
			p.printf("%s\n", visible(line))
		}
	})
}

func sessionsOfUsers(b *admin.Backend) string {
	return fmt.Sprintf("%s of %s", count(b.Sessions, "session"), count(b.Users, "user"))
}

package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
)

func newKick() *cobra.Command {
	var ask asking
	var in admin.KickRequest
	var rate string
	cmd := ask.command(&cobra.Command{
		Use:   "kick [USER|MASK|IP|CIDR]",
		Short: "End sessions",
		Long: `End the sessions of a user, of all users that a mask covers, from an address or a
network, or at a backend. Each is told BYE between two responses, and so loses
nothing; one that does not come to the end of a response within five seconds is
closed without it. Mail programs connect again: to keep a user out, hold first.

--rate bounds how many are told each second. The command then runs until the last
has been told, and leaves the others alone when it is interrupted. The exit code is
4 when there are no such sessions.`,
		Example: `  imapgate kick alice@example.org
  imapgate kick '*@example.com' --rate 10/s
  imapgate kick 198.51.100.0/24
  imapgate kick --backend mail2 --rate 50/s`,
		Args:              atMost("USER"),
		ValidArgsFunction: ask.complete(userNames),
	}, func(cmd *cobra.Command, c *admin.Client, args []string) error {
		var err error
		if in.Rate, err = parseRate(rate); err != nil {
			return err
		}
		switch {
		case len(args) == 0 && in.Backend == "":
			return usageError("USER, an address or --backend is missing; see %q", cmd.CommandPath()+" -h")
		case len(args) == 0:
		case kindOfTarget(args[0]) == "ip":
			in.IP = args[0]
		default:
			in.User = args[0]
		}
		var out admin.Kicked
		if err := c.Post(cmd.Context(), "/v1/kick", in, &out); err != nil {
			return err
		}
		if err := ask.print(cmd, out, func(p *printer) {
			if out.Sessions > 0 {
				p.printf("%s told to end\n", count(out.Sessions, "session"))
			}
		}); err != nil {
			return err
		}
		if out.Sessions == 0 {
			return &exitError{exitNotFound, nobodyThere(args, in.Backend)}
		}
		return nil
	})
	cmd.Flags().StringVar(&in.Backend, "backend", "", "only sessions at this `backend`")
	cmd.Flags().StringVar(&rate, "rate", "", "at most so many each second (`N/s`) or minute (N/m)")
	cmd.Flags().StringVar(&in.Why, "why", "", "the `reason`, for imapgate's log")
	_ = cmd.RegisterFlagCompletionFunc("backend", ask.complete(backendNames))
	return cmd
}

// parseRate reads "10", "10/s" or "30/m" as a number a second.
func parseRate(s string) (float64, error) {
	if s == "" {
		return 0, nil
	}
	digits, unit, _ := strings.Cut(s, "/")
	n, err := strconv.ParseFloat(digits, 64)
	if unit == "m" {
		n /= 60
	}
	if err != nil || !(n > 0 && n <= 1e6) || unit != "" && unit != "s" && unit != "m" {
		return 0, usageError("rate %q is not like 10/s or 30/m", s)
	}
	return n, nil
}

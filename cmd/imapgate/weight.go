package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
)

func newWeight() *cobra.Command {
	var ask asking
	var in admin.WeightRequest
	var until when
	cmd := ask.command(&cobra.Command{
		Use:   "weight BACKEND N|default",
		Short: "Change how many users a backend gets",
		Long: `Change the weight of a backend: its share of the users of shared pools, relative to
the weights of the other members. "default" is the configured weight.

Users with sessions, or with some a moment ago, stay where they are; whoever has to
move does so with the next login. A pool that is not shared keeps its configured
weights: which member has a user's mail does not change with a number.`,
		Example: `  imapgate weight mail2 50 --why "slow disk"
  imapgate weight mail2 10 --until 2h
  imapgate weight mail2 default`,
		Args:              arguments("BACKEND", "N"),
		ValidArgsFunction: ask.complete(backendNames),
	}, func(cmd *cobra.Command, c *admin.Client, args []string) error {
		in.Until = until.Time
		if args[1] != "default" {
			n, err := strconv.Atoi(args[1])
			if err != nil || n < 1 {
				return usageError("weight %q is neither a number from 1 on nor default", args[1])
			}
			in.Weight = n
		}
		return ask.changeBackend(cmd, c, args[0], "weight", in, func(out *admin.Changed) string {
			if out.Backend.Unconfigured {
				return out.Backend.Name + " is not configured, and nothing is left of its weight"
			}
			if out.Backend.WeightChange == nil {
				return fmt.Sprintf("%s has its configured weight of %d", out.Backend.Name, out.Backend.Weight)
			}
			return fmt.Sprintf("%s has a weight of %d (configured: %d)", out.Backend.Name, out.Backend.Weight, out.Backend.ConfiguredWeight)
		})
	})
	whyFlag(cmd, &in.Why)
	untilFlag(cmd, &until)
	return cmd
}

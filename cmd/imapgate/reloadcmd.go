package main

import (
	"time"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
)

func newReload() *cobra.Command {
	var ask asking
	var in admin.ReloadRequest
	cmd := ask.command(&cobra.Command{
		Use:   "reload",
		Short: "Read the configuration and all that it names again",
		Long: `Make the running imapgate read its configuration again, and the tables, certificates
and keys that it names, as SIGHUP does, and say what came of it. No session is lost.

A mistake anywhere leaves everything as it was. All mistakes are printed, and the
exit code is 2. A table that has lost more than route.max_shrink percent of its rows
is a mistake too, unless --force says that it is meant.`,
		Example: `  imapgate check && imapgate reload
  imapgate reload --force`,
		Args: arguments(),
	}, func(cmd *cobra.Command, c *admin.Client, _ []string) error {
		var out admin.Reload
		if err := c.Post(cmd.Context(), "/v1/reload", in, &out); err != nil {
			return err
		}
		return ask.print(cmd, out, func(p *printer) {
			took := seconds(out.TookSeconds).Round(time.Millisecond)
			p.printf("reloaded in %s; the table has %s\n", took, count(out.Rows, "row"))
		})
	})
	cmd.Flags().BoolVar(&in.Force, "force", false, "accept tables that have lost most of their rows")
	return cmd
}

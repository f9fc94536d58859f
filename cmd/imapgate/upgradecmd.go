package main

import (
	"time"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
)

func newUpgrade() *cobra.Command {
	var ask asking
	var in admin.UpgradeRequest
	cmd := ask.command(&cobra.Command{
		Use:   "upgrade",
		Short: "Go on as a new process, with the program that is installed now",
		Long: `Make the running imapgate start the program again that it was started from, with
the same arguments, and let that process serve in its place. Nobody is refused, no
login fails and no session ends: the new process gets the open sockets, knows which
user is on which backend, what people have changed and whose logins have failed,
and the old one keeps its sessions until they end, or shutdown.drain_timeout is
over. Until then status, who and kick see them too.

A new process that cannot serve (a broken program, a bad configuration) changes
nothing: the old one serves on, and the reason is printed and logged. The same
happens on SIGUSR2, where the log alone tells. One that is not ready after two
minutes is ended. Meanwhile reloads are refused: ask again when the upgrade is over.

With --if-changed, the configuration is only read again, as reload does, if the
program is still the one that runs.`,
		Example: `  install imapgate /usr/local/bin/ && imapgate upgrade
  imapgate upgrade --if-changed
  kill -USR2 $(pidof imapgate)`,
		Args: arguments(),
	}, func(cmd *cobra.Command, c *admin.Client, _ []string) error {
		var out admin.Upgraded
		if err := c.Post(cmd.Context(), "/v1/upgrade", in, &out); err != nil {
			return err
		}
		return ask.print(cmd, out, func(p *printer) {
			if out.Reload != nil {
				p.printf("the program has not changed; reloaded, the table has %s\n", count(out.Reload.Rows, "row"))
				return
			}
			took := seconds(out.TookSeconds).Round(time.Millisecond)
			p.printf("upgraded from %s to %s in %s: process %d serves\n", visible(out.OldVersion), visible(out.Version), took, out.PID)
			if out.Sessions > 0 {
				p.printf("process %d keeps %s until the last one ends, %s at the most\n", out.OldPID, count(out.Sessions, "session"), age(seconds(out.KeepSeconds)))
			}
		})
	})
	cmd.Flags().BoolVar(&in.IfChanged, "if-changed", false, "only reload if the program is the one that runs")
	return cmd
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

package main

import (
	"encoding/json"
	"net/url"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
)

func newTrace() *cobra.Command {
	var ask asking
	limit := 5 * time.Minute
	cmd := ask.command(&cobra.Command{
		Use:   "trace USER|IP|CIDR",
		Short: "Watch the dialogue before logins, secrets masked",
		Long: `Show what is said before the logins of a user, or from an address or a network,
while it is said:

  C  the client     S  the proxy to the client
  P  the proxy to   B  the backend
     the backend    -  a remark

Passwords, tokens and whatever is not understood are told by their length alone.
Of a user's connection, what was said before the name was known comes as soon as it
is. After the login only the names of commands and responses are shown, and their
sizes; of sessions that began before the trace, and of the old process of an upgrade,
nothing. Who traces whom is logged.

Only who may use the unix socket may trace.`,
		Example: `  imapgate trace alice@example.org
  imapgate trace 192.0.2.7 --for 1h`,
		Args:              arguments("USER"),
		ValidArgsFunction: ask.complete(userNames),
	}, func(cmd *cobra.Command, c *admin.Client, args []string) error {
		query := url.Values{kindOfTarget(args[0]): {args[0]}, "seconds": {strconv.FormatFloat(limit.Seconds(), 'f', -1, 64)}}
		return c.Stream(cmd.Context(), "/v1/trace", query, func(line []byte) error {
			var l admin.TraceLine
			if err := json.Unmarshal(line, &l); err != nil {
				return err
			}
			return ask.print(cmd, l, func(p *printer) {
				p.printf("%s %s %s: %s\n", l.At.UTC().Format("15:04:05.000"), visible(l.Session), visible(l.Who), visible(l.Text))
			})
		})
	})
	cmd.Flags().DurationVar(&limit, "for", limit, "how long to watch")
	return cmd
}

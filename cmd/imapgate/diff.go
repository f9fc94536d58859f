package main

import (
	"net/url"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
	"imapgate/route"
)

func newDiff() *cobra.Command {
	var ask asking
	var replaces string
	var limit int
	cmd := ask.command(&cobra.Command{
		Use:   "diff TABLE",
		Short: "Say what a table would change before it is in force",
		Long: `Compare a table file with the table in force: how many rows would be added, removed
and changed, which, how many users would belong to another backend, and how many
sessions they have now. Nothing is changed.

Users with sessions stay where they are until the last one ends, whatever the table
says. TABLE takes the place of the configured file of the same name, or of the only
one; --replaces names another. - is the standard input. A table with mistakes is
refused with all of them, and the exit code is 2.`,
		Example: `  imapgate diff users.map.new
  imapgate diff --replaces users.map /tmp/export
  imapgate diff new.map -o json | jq .live_sessions`,
		Args: arguments("TABLE"),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return nil, cobra.ShellCompDirectiveDefault
		},
	}, func(cmd *cobra.Command, c *admin.Client, args []string) error {
		f, err := readArgument(cmd, args[0])
		if err != nil {
			return err
		}
		defer f.Close()
		name := filepath.Base(args[0])
		if args[0] == "-" {
			name = "standard input"
		}
		query := url.Values{"name": {name}, "limit": {strconv.Itoa(limit)}}
		if replaces != "" {
			query.Set("replaces", replaces)
		}
		var out route.Diff
		if err := c.Upload(cmd.Context(), "/v1/diff", query, f, &out); err != nil {
			return err
		}
		return ask.print(cmd, out, func(p *printer) { printDiff(p, &out) })
	})
	cmd.Flags().StringVar(&replaces, "replaces", "", "the table `file` of the configuration that it would replace")
	cmd.Flags().IntVar(&limit, "limit", 20, "how many rows to list")
	return cmd
}

func printDiff(p *printer, d *route.Diff) {
	total := d.Added + d.Removed + d.Moved + d.Changed
	if total == 0 && d.Users == 0 {
		p.printf("nothing would change\n")
		return
	}
	p.table(
		[]cell{text("rows added"), number(d.Added)},
		[]cell{text("rows removed"), number(d.Removed)},
		[]cell{text("rows with another target"), number(d.Moved)},
		[]cell{text("rows with another login"), number(d.Changed)},
		[]cell{text("users with another backend"), number(d.Users)},
		[]cell{text("their sessions now"), number(d.LiveSessions)},
	)
	if len(d.Rows) == 0 {
		return
	}
	p.printf("\n")
	rows := [][]cell{header("", "USER OR DOMAIN", "FROM", "TO", "AT")}
	for i := range d.Rows {
		r := &d.Rows[i]
		sign, c := "~", yellow
		switch {
		case r.From == "":
			sign, c = "+", green
		case r.To == "":
			sign, c = "-", red
		}
		rows = append(rows, []cell{{text: sign, colour: c}, text(r.Key), text(targetAndLogin(r.From, r.FromLogin)), text(targetAndLogin(r.To, r.ToLogin)), text(r.Source)})
	}
	p.table(rows...)
	if more := total - len(d.Rows); more > 0 {
		p.printf("and %s more: see --limit\n", thousands(more))
	}
}

func targetAndLogin(target, login string) string {
	if login != "" {
		target += " login=" + login
	}
	return or(target, "-")
}

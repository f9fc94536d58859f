package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/config"
	"imapgate/route"
)

func newLookup() *cobra.Command {
	var ask asking
	var explain bool
	cmd := &cobra.Command{
		Use:   "lookup USER",
		Short: "Say where a user lives",
		Long: `Say which backend a user is sent to, and why. The answer comes from the
configuration and the table files, so that a change can be tried before it is put
in force.

With --explain it comes from the running imapgate, which also knows about sessions,
pins, holds, and backends that are down or drained: each backend that was considered
is listed, with why it does not serve the user. --socket asks it too.

USER is a name as a client would type it: it is lower-cased, gets the default
domain and loses a master user's suffix just as in a login. The exit code is 4
when there is no such user.`,
		Example: `  imapgate lookup alice@example.org
  imapgate lookup --explain alice@example.org
  imapgate lookup -c new.yaml -o json bob | jq -r .backend`,
		Args:              arguments("USER"),
		ValidArgsFunction: ask.complete(userNames),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(ask.output); err != nil {
				return err
			}
			if explain || cmd.Flags().Changed("socket") {
				return ask.explain(cmd, args[0])
			}
			a, err := lookup(cmd.Context(), ask.config, args[0])
			switch {
			case err != nil:
				return err
			case ask.output == "json":
				return writeJSON(cmd.OutOrStdout(), a)
			}
			return a.print(cmd.OutOrStdout())
		},
	}
	ask.flags(cmd)
	cmd.Flags().BoolVar(&explain, "explain", false, "ask the running imapgate, and say what was considered")
	return cmd
}

// answer is what lookup has to say.
type answer struct {
	User     string   `json:"user"`             // as typed
	Master   string   `json:"master,omitempty"` // who logs in as the user
	Key      string   `json:"key"`              // what the tables are asked for
	Backend  string   `json:"backend"`
	Address  string   `json:"address"`
	Pool     string   `json:"pool,omitempty"`
	Reason   string   `json:"reason"`
	Source   string   `json:"source,omitempty"` // file:line of the row
	Login    string   `json:"login"`            // the name that the backend gets
	Failover []string `json:"failover"`         // in this order
}

// lookup answers from the files that the configuration at path names.
func lookup(ctx context.Context, path, typed string) (*answer, error) {
	parsed, err := config.Load(path, config.System())
	if err != nil {
		return nil, err
	}
	routing, err := parsed.LoadTable(ctx, nil, false)
	if err != nil {
		return nil, err
	}
	user, master := routing.Names.Split(typed)
	key := routing.Names.Key(user)
	place, err := routing.Table.Lookup(key)
	switch {
	case errors.Is(err, route.ErrUnknownUser):
		return nil, &exitError{exitNotFound, fmt.Errorf("%s: unknown user: there is no row for %s, none for its domain, and no default", typed, key)}
	case err != nil:
		return nil, fmt.Errorf("look up %s: %w", typed, err)
	}
	a := &answer{
		User: user, Master: master, Key: place.Key, Backend: place.Backends[0], Pool: place.Pool,
		Reason: place.Reason.String(), Source: place.Source, Login: place.Login,
		Failover: append([]string{}, place.Backends[1:]...),
	}
	if a.Login == "" {
		a.Login = user
	}
	if master != "" {
		a.Login += routing.Names.MasterSeparator + master
	}
	if a.Source == "" {
		a.Source = parsed.Route.Default.Where(path)
	}
	for i := range parsed.Backends {
		if parsed.Backends[i].Name.V == a.Backend {
			a.Address = parsed.Backends[i].V.Address.V
		}
	}
	return a, nil
}

// print writes the answer for people.
func (a *answer) print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name, value string) {
		if value != "" {
			_, _ = fmt.Fprintf(tw, "%s\t%s\n", name, value)
		}
	}
	row("user", a.User)
	row("master", a.Master)
	row("key", a.Key)
	row("backend", a.Backend)
	row("address", a.Address)
	row("pool", a.Pool)
	row("reason", a.Reason)
	row("source", a.Source)
	row("login", a.Login)
	row("failover", strings.Join(a.Failover, ", "))
	return tw.Flush()
}

// everybodyElse names the target of users without a row.
func everybodyElse(r *config.Routing) string {
	place, err := r.Table.Lookup("\x00") // no row can be called that
	switch {
	case err != nil:
		return "refused"
	case place.Pool != "":
		return place.Pool
	}
	return place.Backends[0]
}

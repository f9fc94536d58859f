package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
	"imapgate/cmd/imapgate/internal/config"
)

// asking is what commands have in common that ask a running imapgate.
type asking struct {
	config string
	socket string // "": the one that the configuration names
	output string
}

// flags adds the flags that say whom to ask, and how to print.
func (a *asking) flags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&a.socket, "socket", "", "the unix socket of the running imapgate, instead of the `path` in the configuration")
	_ = cmd.MarkFlagFilename("socket", "sock")
	configFlag(cmd, &a.config)
	outputFlag(cmd, &a.output)
}

// command makes a command that asks a running imapgate. f prints its answer.
func (a *asking) command(cmd *cobra.Command, f func(cmd *cobra.Command, c *admin.Client, args []string) error) *cobra.Command {
	a.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkOutput(a.output); err != nil {
			return err
		}
		c, err := a.client()
		if err != nil {
			return err
		}
		defer c.Close()
		return answered(f(cmd, c, args))
	}
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
	return cmd
}

// client returns a client of the running imapgate.
func (a *asking) client() (*admin.Client, error) {
	socket := a.socket
	if socket == "" {
		var err error
		if socket, err = config.FindSocket(a.config, config.System()); err != nil {
			return nil, usageError("cannot tell the socket from %s: %w; see --socket", a.config, err)
		}
	}
	return admin.NewClient(socket, os.Getenv("SUDO_USER")), nil
}

// answered gives an error of the API its exit code, and shows all of it.
func answered(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*admin.UnreachableError](err); ok {
		return &exitError{exitUnreachable, err}
	}
	refused, ok := errors.AsType[*admin.ResponseError](err)
	if !ok {
		return err
	}
	if len(refused.Details) > 0 {
		err = fmt.Errorf("%w\n  %s", err, strings.Join(refused.Details, "\n  "))
	}
	switch refused.Code {
	case http.StatusNotFound:
		return &exitError{exitNotFound, err}
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return &exitError{exitUsage, err}
	}
	return err
}

// print writes an answer as JSON, or for people.
func (a *asking) print(cmd *cobra.Command, answer any, people func(p *printer)) error {
	if a.output == "json" {
		return writeJSON(cmd.OutOrStdout(), answer)
	}
	p := newPrinter(cmd.OutOrStdout())
	people(p)
	return p.flush()
}

// completion is what cobra calls to complete arguments.
type completion = func(cmd *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective)

// completionTimeout is how long somebody waits who pressed the tab key.
const completionTimeout = time.Second

// complete completes the arguments of a command, one by one, with what the
// running imapgate knows. There is nothing to say when it cannot be asked.
func (a *asking) complete(args ...func(context.Context, *admin.Client, string) []string) completion {
	return func(cmd *cobra.Command, before []string, typed string) ([]string, cobra.ShellCompDirective) {
		if len(before) >= len(args) {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		c, err := a.client()
		if err != nil {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		defer c.Close()
		ctx, cancel := context.WithTimeout(cmd.Context(), completionTimeout)
		defer cancel()
		return args[len(before)](ctx, c, typed), cobra.ShellCompDirectiveNoFileComp
	}
}

// backendNames completes a backend.
func backendNames(ctx context.Context, c *admin.Client, typed string) []string {
	var answer admin.Backends
	if c.Get(ctx, "/v1/backends", nil, &answer) != nil {
		return nil
	}
	var names []string
	for _, b := range answer.Backends {
		if strings.HasPrefix(b.Name, typed) {
			names = append(names, b.Name+"\t"+b.Address)
		}
	}
	return names
}

// maxCompletions is how many users are worth a look.
const maxCompletions = 50

// userNames completes a user who has sessions.
func userNames(ctx context.Context, c *admin.Client, typed string) []string {
	var answer admin.Sessions
	query := map[string][]string{"user": {typed + "*"}, "limit": {fmt.Sprint(10 * maxCompletions)}}
	if c.Get(ctx, "/v1/sessions", query, &answer) != nil {
		return nil
	}
	return distinct(answer.Sessions, func(s admin.Session) string { return s.User })
}

// changed returns what completes a user who is pinned or held, or a backend that is
// drained or in maintenance.
func changed(kind string) func(context.Context, *admin.Client, string) []string {
	return func(ctx context.Context, c *admin.Client, typed string) []string {
		var answer admin.Overrides
		if c.Get(ctx, "/v1/overrides", map[string][]string{"kind": {kind}}, &answer) != nil {
			return nil
		}
		var names []string
		for _, o := range answer.Overrides {
			if strings.HasPrefix(o.Name, typed) && len(names) < maxCompletions {
				names = append(names, o.Name)
			}
		}
		return names
	}
}

func distinct[T any](list []T, name func(T) string) []string {
	var names []string
	seen := make(map[string]bool)
	for _, v := range list {
		if n := name(v); !seen[n] && len(names) < maxCompletions {
			seen[n] = true
			names = append(names, n)
		}
	}
	return names
}

// when is a flag that is a moment: a duration from now, a time of the day, or a
// date and a time.
type when struct{ time.Time }

// String implements [pflag.Value], like Set and Type.
func (w *when) String() string {
	if w.IsZero() {
		return ""
	}
	return w.Format(time.RFC3339)
}

// Set reads a moment.
func (w *when) Set(text string) error {
	t, err := parseWhen(text, time.Now())
	w.Time = t
	return err
}

// Type returns what the help calls the value.
func (w *when) Type() string { return "time" }

func parseWhen(text string, now time.Time) (time.Time, error) {
	if d, err := time.ParseDuration(text); err == nil && d > 0 {
		return now.Add(d).Truncate(time.Second), nil
	}
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation("2006-01-02 15:04", text, now.Location()); err == nil {
		return t, nil
	}
	if t, err := time.ParseInLocation("15:04", text, now.Location()); err == nil {
		y, m, d := now.Date()
		at := time.Date(y, m, d, t.Hour(), t.Minute(), 0, 0, now.Location())
		if !at.After(now) {
			at = time.Date(y, m, d+1, t.Hour(), t.Minute(), 0, 0, now.Location())
		}
		return at, nil
	}
	return time.Time{}, errors.New(`expected a duration like 2h, a time like 18:30, or "2006-01-02 18:30"`)
}

// whyFlag adds --why.
func whyFlag(cmd *cobra.Command, why *string) {
	cmd.Flags().StringVar(why, "why", "", "the `reason`, kept and shown with the change")
}

// untilFlag adds --until.
func untilFlag(cmd *cobra.Command, until *when) {
	cmd.Flags().Var(until, "until", "when the change ends by itself: 2h, 18:30, or \"2006-01-02 18:30\"")
}

// readArgument opens a file that an argument names; - is the standard input.
func readArgument(cmd *cobra.Command, name string) (io.ReadCloser, error) {
	if name == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	f, err := os.Open(name) //nolint:gosec // the caller names it
	if err != nil {
		return nil, &exitError{exitUsage, err}
	}
	return f, nil
}

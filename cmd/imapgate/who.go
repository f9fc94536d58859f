package main

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
)

func newWho() *cobra.Command {
	var ask asking
	var backend string
	cmd := ask.command(&cobra.Command{
		Use:   "who [USER|MASK|IP|CIDR]",
		Short: "List who is logged in",
		Long: `List sessions, oldest first: all, those of a user, or those from an address or a
network.

A user is named as a client types the name. In a mask, as in doveadm's, * stands for
anything and ? for one character: quote it, or the shell looks for files. IN and OUT
are bytes from and to the client since its login. The exit code is 4 when somebody
was asked for and is not there.`,
		Example: `  imapgate who
  imapgate who alice@example.org
  imapgate who '*@example.com'
  imapgate who 2001:db8::/32
  imapgate who --backend mail2 -o json | jq -r '.sessions[].user' | sort -u`,
		Args:              atMost("USER"),
		ValidArgsFunction: ask.complete(userNames),
	}, func(cmd *cobra.Command, c *admin.Client, args []string) error {
		query := url.Values{}
		if len(args) > 0 {
			query.Set(kindOfTarget(args[0]), args[0])
		}
		if backend != "" {
			query.Set("backend", backend)
		}
		var answer admin.Sessions
		if err := c.Get(cmd.Context(), "/v1/sessions", query, &answer); err != nil {
			return err
		}
		none := len(query) > 0 && answer.Total == 0
		if err := ask.print(cmd, answer, func(p *printer) {
			if !none {
				printSessions(p, &answer)
			}
		}); err != nil {
			return err
		}
		if none {
			return &exitError{exitNotFound, nobodyThere(args, backend)}
		}
		return nil
	})
	cmd.Flags().StringVar(&backend, "backend", "", "only sessions at this `backend`")
	_ = cmd.RegisterFlagCompletionFunc("backend", ask.complete(backendNames))
	return cmd
}

// nobodyThere is the error of a search that finds no session.
func nobodyThere(args []string, backend string) error {
	s := "no session"
	if len(args) > 0 {
		s += " matches " + args[0]
	}
	if backend != "" {
		s += " at backend " + backend
	}
	return errors.New(s)
}

// kindOfTarget says what an argument is that chooses sessions: "ip" or "user".
func kindOfTarget(s string) string {
	if _, err := netip.ParseAddr(s); err == nil {
		return "ip"
	}
	if _, err := netip.ParsePrefix(s); err == nil {
		return "ip"
	}
	return "user"
}

func printSessions(p *printer, answer *admin.Sessions) {
	if answer.Total == 0 {
		p.printf("nobody\n")
		return
	}
	rows := [][]cell{header("USER", "BACKEND", "FROM", "TLS", ">SINCE", ">IN", ">OUT", "")}
	for _, s := range answer.Sessions {
		var notes []string
		if s.Ending != "" {
			notes = append(notes, "ending")
		}
		if s.PID != 0 {
			notes = append(notes, fmt.Sprintf("pid %d", s.PID))
		}
		rows = append(rows, []cell{
			text(s.User), text(s.Backend), text(s.IP), text(or(strings.TrimPrefix(s.TLS, "TLS "), "-")),
			{text: age(answer.Now.Sub(s.Since)), right: true},
			{text: size(s.BytesFromClient), right: true},
			{text: size(s.BytesFromBackend), right: true},
			{text: strings.Join(notes, ", "), colour: yellow},
		})
	}
	p.table(rows...)
}

// atMost checks that a command has no more arguments than these, and may have
// fewer.
func atMost(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > len(names) {
			return usageError("unexpected argument %q; see %q", args[len(names)], cmd.CommandPath()+" -h")
		}
		return nil
	}
}

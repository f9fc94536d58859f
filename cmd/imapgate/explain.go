package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
	"imapgate/route"
)

// explain asks the running imapgate where a user is sent, and why.
func (a *asking) explain(cmd *cobra.Command, user string) error {
	c, err := a.client()
	if err != nil {
		return err
	}
	defer c.Close()
	var answer admin.Route
	if err := answered(c.Get(cmd.Context(), admin.RoutePath(user), nil, &answer)); err != nil {
		if exit, ok := errors.AsType[*exitError](err); ok && exit.code == exitNotFound {
			return &exitError{exit.code, fmt.Errorf("%s: %w", user, exit.err)}
		}
		return err
	}
	return a.print(cmd, answer, func(p *printer) { printRoute(p, &answer) })
}

// reasons says in words what decided.
var reasons = map[string]string{
	string(route.ReasonPin):        "pin: somebody sends the user there",
	string(route.ReasonAssignment): "assignment: the user has sessions there, or had some a moment ago",
	string(route.ReasonUser):       "user: a row of the user's own",
	string(route.ReasonDomain):     "domain: the row of the user's domain, or of one above it",
	string(route.ReasonDefault):    "default: no row covers the user",
}

func printRoute(p *printer, r *admin.Route) {
	var rows [][]cell
	add := func(name, value string, c colour) {
		if value != "" {
			row := field(name, value)
			row[1].colour = c
			rows = append(rows, row)
		}
	}
	add("user", r.User, plainText)
	add("master", r.Master, plainText)
	add("key", r.Key, plainText)
	add("backend", r.Backend, bold)
	add("address", r.Address, plainText)
	add("unavailable", r.Unavailable, red)
	add("pool", r.Pool, plainText)
	add("reason", or(reasons[r.Reason], r.Reason), plainText)
	add("source", r.Source, plainText)
	add("login", r.Login, plainText)
	add("failover", strings.Join(r.Failover, ", "), plainText)
	add("sessions", thousands(r.Sessions), plainText)
	add("pinned", overrideText(r.Now, r.Pin), yellow)
	add("held", overrideText(r.Now, r.Hold), yellow)
	p.table(rows...)
	if len(r.Candidates) == 0 {
		return
	}
	p.printf("\n")
	rows = [][]cell{header(">RANK", "BACKEND", "STATE", "HEALTH", ">WEIGHT", "")}
	for i := range r.Candidates {
		rows = append(rows, candidateRow(r, &r.Candidates[i]))
	}
	p.table(rows...)
}

// overrideText says what a change is, "" for none.
func overrideText(now time.Time, o *admin.Override) string {
	if o == nil {
		return ""
	}
	text := strings.TrimSpace(changedBy(now, &o.Change))
	if o.Value != "" {
		text = "to " + o.Value + " " + text
	}
	return text
}

func candidateRow(r *admin.Route, c *route.Candidate) []cell {
	rank := "-"
	if c.Rank > 0 {
		rank = fmt.Sprint(c.Rank)
	}
	verdict := cell{text: "would be next"}
	switch {
	case c.Skipped != "":
		verdict = cell{text: "no: " + visible(c.Skipped), colour: faint}
	case c.Name == r.Backend:
		verdict = cell{text: "serves the user", colour: green}
	}
	return []cell{{text: rank, right: true}, text(c.Name), stateCell(c.Admin), healthCell(c.Up), {text: fmt.Sprint(c.Weight), right: true}, verdict}
}

package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
	"imapgate/route"
)

func newBackends() *cobra.Command {
	var ask asking
	return ask.command(&cobra.Command{
		Use:   "backends",
		Short: "List the backends, and how they are",
		Long: `List the backends with their state, health, weight, sessions and users.

STATE is what people decided: ready takes users; drain takes no new ones, but those
with sessions may open more; maint takes nobody. HEALTH is what checks found. The
two do not touch each other: a backend that comes up again stays drained.

SHARE is the part of a pool's new users that come to the backend, by its weight
among those that take any, and WEIGHT has the configured one in brackets when people changed it. Below the table
stands why a backend is not as it should be, since when, and who says so.`,
		Example: `  imapgate backends
  imapgate backends -o json | jq -r '.backends[] | select(.up | not) | .name'`,
		Args: arguments(),
	}, func(cmd *cobra.Command, c *admin.Client, _ []string) error {
		var answer admin.Backends
		if err := c.Get(cmd.Context(), "/v1/backends", nil, &answer); err != nil {
			return err
		}
		return ask.print(cmd, answer, func(p *printer) { printBackends(p, &answer) })
	})
}

func printBackends(p *printer, answer *admin.Backends) {
	rows := [][]cell{header("BACKEND", "STATE", "HEALTH", ">WEIGHT", ">SESSIONS", ">USERS", ">LOGINS", "SHARE OF POOLS")}
	for i := range answer.Backends {
		b := &answer.Backends[i]
		weight := fmt.Sprint(b.Weight)
		if b.Weight != b.ConfiguredWeight {
			weight += fmt.Sprintf(" (%d)", b.ConfiguredWeight)
		}
		rows = append(rows, []cell{
			text(b.Name), stateCell(b.Admin), healthCell(b.Up),
			{text: weight, right: true},
			number(b.Sessions), number(b.Users),
			{text: rateOf(b.LoginsPerSecond), right: true},
			text(shares(b.Name, answer.Pools)),
		})
	}
	p.table(rows...)
	for i := range answer.Backends {
		for _, note := range backendNotes(answer.Now, &answer.Backends[i]) {
			p.printf("  %s\n", visible(note))
		}
	}
}

func stateCell(a route.Admin) cell {
	c := cell{text: string(a)}
	if a != route.AdminReady {
		c.colour = yellow
	}
	return c
}

func healthCell(up bool) cell {
	if up {
		return cell{text: "up", colour: green}
	}
	return cell{text: "down", colour: red}
}

// shares says what part of each pool's users a backend has.
func shares(backend string, pools []route.PoolStatus) string {
	var list []string
	for _, pool := range pools {
		if slices.Contains(pool.Members, backend) {
			list = append(list, fmt.Sprintf("%s %.0f%%", pool.Name, 100*pool.Shares[backend]))
		}
	}
	return or(strings.Join(list, ", "), "-")
}

// backendNotes says what is not as it should be, and why.
func backendNotes(now time.Time, b *admin.Backend) []string {
	var notes []string
	if !b.Up {
		notes = append(notes, fmt.Sprintf("%s: down for %s: %s", b.Name, age(now.Sub(b.HealthSince)), or(b.HealthWhy, "no reason given")))
	}
	if b.AdminChange != nil && b.Admin != route.AdminReady {
		note := b.Name + ": " + string(b.Admin) + changedBy(now, b.AdminChange)
		if at := b.AdminChange.Deadline; !at.IsZero() {
			note += "; maint " + in(now, at)
		}
		notes = append(notes, note)
	}
	if b.LoginsWaiting > 0 {
		notes = append(notes, fmt.Sprintf("%s: %s waiting; %d under way, of %d at a time", b.Name, count(b.LoginsWaiting, "login"), b.LoginsInFlight, b.LoginsAtOnce))
	}
	if b.WeightChange != nil {
		notes = append(notes, fmt.Sprintf("%s: weight %d%s", b.Name, b.Weight, changedBy(now, b.WeightChange)))
	}
	return notes
}

// changedBy says who changed something, when, until when, and why.
func changedBy(now time.Time, c *route.Change) string {
	s := " by " + or(c.By, "somebody") + " " + ago(now, c.Since)
	if !c.Until.IsZero() {
		s += ", ends " + in(now, c.Until)
	}
	if c.Why != "" {
		s += ": " + c.Why
	}
	return s
}

package main

import (
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
)

func newStatus() *cobra.Command {
	var ask asking
	return ask.command(&cobra.Command{
		Use:   "status",
		Short: "Say how it is, in a few lines",
		Long: `Say how the running imapgate is: since when it runs and with what, whether it is
ready and else why not, how many sessions, backends and users there are, what came
of the last reload, and what people changed that is in force.

Changes of people (drain, maint, weight, pin, hold) survive reloads, and restarts
too if state_dir is set. They are listed with who made them, when, why and until
when. One is stale when it is about a backend that is not configured any more:
"imapgate ready", "weight BACKEND default" or "unpin" takes it back all the same.`,
		Example: `  imapgate status
  imapgate status -o json | jq -e .status.ready`,
		Args: arguments(),
	}, func(cmd *cobra.Command, c *admin.Client, _ []string) error {
		var answer fullStatus
		if err := c.Get(cmd.Context(), "/v1/status", nil, &answer.Status); err != nil {
			return err
		}
		var changes admin.Overrides
		if err := c.Get(cmd.Context(), "/v1/overrides", url.Values{}, &changes); err != nil {
			return err
		}
		answer.Overrides = changes.Overrides
		return ask.print(cmd, answer, answer.print)
	})
}

// fullStatus is what status prints.
type fullStatus struct {
	Status    admin.Status     `json:"status"`
	Overrides []admin.Override `json:"overrides"`
}

// print writes the status for people.
func (f *fullStatus) print(p *printer) {
	s := &f.Status
	p.printf("imapgate %s, up %s, pid %d\n", visible(s.Build.Version), age(s.Now.Sub(s.Started)), s.PID)
	ready := cell{text: "yes", colour: green}
	if !s.Ready {
		ready = cell{text: "no: " + visible(strings.Join(s.Missing, ", ")), colour: red}
	}
	if s.Ready && len(s.Overload) > 0 {
		ready.text += ", but it lacks " + visible(strings.Join(s.Overload, ", "))
		ready.colour = red
	}
	table := fmt.Sprintf("%s, %s, loaded %s", count(s.Table.Users, "user"), count(s.Table.Domains, "domain"), ago(s.Now, s.Table.LoadedAt))
	rows := [][]cell{
		field("config", s.Config),
		{{text: "ready", colour: faint}, ready},
		field("listeners", strings.Join(s.Listeners, ", ")),
		field("sessions", fmt.Sprintf("%s of %s, %.1f logins/s", thousands(s.Sessions), count(s.Users, "user"), s.LoginsPerSecond)),
		field("connections", thousands(s.Connections)+" before login"),
		{{text: "backends", colour: faint}, backendCounts(s.Backends)},
		field("table", table),
		field("changes", changesKept(s.Overrides)),
		lastReload(s.Now, s.Reload),
	}
	if o := s.Older; o != nil {
		rows = append(rows, field("old process", fmt.Sprintf("%d (%s) keeps %s of these from before the upgrade", o.PID, visible(o.Version), count(o.Sessions, "session"))))
	}
	p.table(rows...)
	if s.Overrides.Error != "" {
		p.printf("%s\n", p.paint("not saved: "+visible(s.Overrides.Error), red))
	}
	if s.Reload != nil {
		for _, e := range s.Reload.Errors {
			p.printf("  %s\n", p.paint(visible(e), red))
		}
	}
	if len(f.Overrides) > 0 {
		p.printf("\n")
		printOverrides(p, s.Now, f.Overrides)
	}
}

func backendCounts(b admin.BackendCounts) cell {
	c := text(fmt.Sprintf("%d up", b.Up))
	for _, part := range []struct {
		n    int
		what string
	}{{b.Down, "down"}, {b.Drain, "draining"}, {b.Maint, "in maintenance"}} {
		if part.n > 0 {
			c.text += fmt.Sprintf(", %d %s", part.n, part.what)
		}
	}
	if b.Down > 0 {
		c.colour = red
	}
	return c
}

func changesKept(o admin.OverrideCounts) string {
	n := o.Admin + o.Weight + o.Pin + o.Hold
	switch {
	case o.File != "":
		return thousands(n) + ", kept in " + o.File
	case n == 0:
		return "0; a restart would forget them (no state_dir)"
	}
	return thousands(n) + ", which a restart will forget (no state_dir)"
}

func lastReload(now time.Time, r *admin.Reload) []cell {
	if r == nil {
		return field("reload", "")
	}
	what := fmt.Sprintf("%s %s, by %s", r.What, ago(now, r.At), r.By)
	if r.OK {
		return field("reload", what)
	}
	row := field("reload", what+": refused, what was stays in force")
	row[1].colour = red
	return row
}

// maxOverrides is how many changes are listed.
const maxOverrides = 30

func printOverrides(p *printer, now time.Time, list []admin.Override) {
	rows := [][]cell{header("CHANGE", "NAME", "TO", "BY", "AGE", "ENDS", "WHY")}
	var notes []string
	stale := 0
	for i, o := range list {
		if i == maxOverrides {
			break
		}
		ends := in(now, o.Until)
		if ends == "" {
			ends = "-"
		}
		kind := text(string(o.Kind))
		if o.Stale {
			kind.text, kind.colour = kind.text+" *", yellow
			stale++
		}
		if !o.Deadline.IsZero() {
			notes = append(notes, o.Name+": maint "+in(now, o.Deadline))
		}
		rows = append(rows, []cell{
			kind, text(o.Name), text(or(o.Value, "-")), text(o.By),
			{text: age(now.Sub(o.Since)), right: true},
			text(ends), text(o.Why),
		})
	}
	p.table(rows...)
	if stale > 0 {
		notes = append(notes, "* stale: no such backend is configured (any more)")
	}
	for _, note := range notes {
		p.printf("  %s\n", visible(note))
	}
	if more := len(list) - maxOverrides; more > 0 {
		p.printf("and %s more: see status -o json\n", thousands(more))
	}
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

package route_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"

	"imapgate/route"
)

// TestLive runs testdata/live/*.txtar: what happens to users while a table is in
// force, in virtual time. In each, `definition` is the configuration, users.map
// the rows, and `script` has one step to a line, answered behind an arrow; the
// steps are those of script.step. `definition.2` and users.map.2 are for the step
// "reload 2".
func TestLive(t *testing.T) {
	files, err := filepath.Glob("testdata/live/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) { runLive(t, archive) })
			if *update {
				if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func runLive(t *testing.T, archive *txtar.Archive) {
	t.Helper()
	s := &script{t: t, table: route.New(), files: make(map[string]string), leases: make(map[string]*route.Lease)}
	for _, f := range archive.Files {
		s.files[f.Name] = string(f.Data)
	}
	s.table = s.load("")
	var got strings.Builder
	for line := range strings.Lines(s.files["script"]) {
		step, _, _ := strings.Cut(strings.TrimSpace(line), " → ")
		got.WriteString(step)
		if words := strings.Fields(step); len(words) > 0 && words[0] != "#" {
			synctest.Wait()
			if answer := s.step(words); answer != "" {
				got.WriteString(" → " + answer)
			}
		}
		got.WriteString("\n")
	}
	for i := range archive.Files {
		if f := &archive.Files[i]; f.Name == "script" {
			if d := cmp.Diff(string(f.Data), got.String()); d != "" && !*update {
				t.Errorf("script (-want +got):\n%s", d)
			}
			f.Data = []byte(got.String())
		}
	}
}

type script struct {
	t      *testing.T
	table  *route.Table
	files  map[string]string
	leases map[string]*route.Lease
}

// load returns the table of the files with a suffix.
func (s *script) load(suffix string) *route.Table {
	s.t.Helper()
	def := parseDefinition(s.t, s.files["definition"+suffix])
	rows, err := route.Parse("users.map"+suffix, strings.NewReader(s.files["users.map"+suffix]))
	next := s.table.Successor()
	if err == nil {
		err = next.Load(def, rows, true)
	}
	if err != nil {
		s.t.Fatal(err)
	}
	return next
}

// step takes one step and says what came of it.
func (s *script) step(words []string) string {
	s.t.Helper()
	state := s.table.State()
	arg := func(i int) string {
		if i >= len(words) {
			s.t.Fatalf("%v: an argument is missing", words)
		}
		return words[i]
	}
	switch words[0] {
	case "reload": // reload N
		s.table = s.load("." + arg(1))
		return ""
	case "diff": // diff N
		return s.diff("." + arg(1))
	case "wait": // wait DURATION
		d, err := time.ParseDuration(arg(1))
		if err != nil {
			s.t.Fatal(err)
		}
		<-time.After(d)
		return ""
	case "up", "down": // down BACKEND WHY…
		return yes(state.SetHealth(arg(1), words[0] == "up", strings.Join(words[2:], " ")))
	case "drain", "maint", "ready": // drain BACKEND [for DURATION]
		return failure(state.SetAdmin(arg(1), route.Admin(words[0]), s.change(words[2:])))
	case "weight": // weight BACKEND N [for DURATION]
		n, err := strconv.Atoi(arg(2))
		if err != nil {
			s.t.Fatal(err)
		}
		return failure(state.SetWeight(arg(1), n, s.change(words[3:])))
	case "pin": // pin USER BACKEND [for DURATION]
		return failure(state.Pin(arg(1), arg(2), s.change(words[3:])))
	case "unpin":
		return yes(state.Unpin(arg(1)))
	case "hold": // hold USER [for DURATION]
		return failure(state.Hold(arg(1), s.change(words[2:])))
	case "release":
		return yes(state.Release(arg(1)))
	case "gone": // gone USER
		return yes(closed(state.Gone(arg(1))))
	case "lookup": // lookup USER
		p, err := s.table.Lookup(arg(1))
		return placed(p, err)
	case "explain": // explain USER
		p, err := s.table.Explain(arg(1))
		answer := placed(p, err)
		for _, c := range p.Candidates {
			answer += fmt.Sprintf("; %d. %s weight %d %s up=%t %s", c.Rank, c.Name, c.Weight, c.Admin, c.Up, c.Skipped)
		}
		return answer
	case "overrides", "backends", "pools", "assigned":
		return s.show(words)
	}
	return s.login(words)
}

// login takes the steps of a login, which is called after its number.
func (s *script) login(words []string) string {
	s.t.Helper()
	if len(words) < 2 {
		s.t.Fatalf("bad step: %v", words)
	}
	id := words[1]
	if words[0] == "begin" || words[0] == "login" { // begin ID USER; login ID USER
		l, err := s.table.Begin(words[2])
		if err != nil {
			return placed(route.Placement{}, err)
		}
		s.leases[id] = l
		p := l.Placement()
		if words[0] == "begin" || l.Held() != nil {
			return placed(p, nil)
		}
		for _, backend := range p.Backends {
			if !l.Claim(context.Background(), backend) {
				return "claim of " + backend + " refused"
			}
			if l.Commit(backend) {
				return backend + ", " + p.Reason.String()
			}
		}
		return "commit refused"
	}
	l := s.leases[id]
	if l == nil {
		s.t.Fatalf("bad step: %v", words)
	}
	switch words[0] {
	case "claim": // claim ID BACKEND
		return yes(l.Claim(context.Background(), words[2]))
	case "commit": // commit ID BACKEND
		return yes(l.Commit(words[2]))
	case "end": // end ID
		l.End()
		return ""
	case "held": // held ID
		return yes(l.Held() != nil && !closed(l.Held()))
	case "evicted": // evicted ID
		return yes(closed(l.Evict()))
	}
	s.t.Fatalf("bad step: %v", words)
	return ""
}

func (s *script) show(words []string) string {
	s.t.Helper()
	var parts []string
	switch words[0] {
	case "overrides":
		for _, o := range s.table.State().Overrides() {
			part := strings.TrimSpace(fmt.Sprintf("%s %s %s", o.Kind, o.Name, o.Value))
			part += fmt.Sprintf(" by %s: %s", o.By, o.Why)
			if !o.Until.IsZero() {
				part += fmt.Sprintf(", %s of %s left", time.Until(o.Until), o.Until.Sub(o.Since))
			}
			parts = append(parts, part)
		}
	case "backends":
		for _, b := range s.table.Backends() {
			part := fmt.Sprintf("%s %s up=%t weight %d/%d, %d sessions of %d users, in %v",
				b.Name, b.Admin, b.Up, b.Weight, b.ConfiguredWeight, b.Sessions, b.Users, b.Pools)
			if b.HealthWhy != "" {
				part += fmt.Sprintf(", %s %s ago", b.HealthWhy, time.Since(b.HealthSince))
			}
			if b.AdminChange != nil {
				part += ", " + b.AdminChange.Why
			}
			parts = append(parts, part)
		}
	case "pools":
		for _, p := range s.table.Pools() {
			part := fmt.Sprintf("%s shared=%t", p.Name, p.Shared)
			for _, name := range p.Members {
				part += fmt.Sprintf(" %s=%.1f%%", name, 100*p.Shares[name])
			}
			parts = append(parts, part)
		}
	case "assigned":
		parts = s.table.State().Assigned(words[1])
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, "; ")
}

func (s *script) diff(suffix string) string {
	s.t.Helper()
	d, err := s.table.Diff(s.load(suffix), 3)
	if err != nil {
		return err.Error()
	}
	answer := fmt.Sprintf("%d added, %d removed, %d moved, %d changed; %d users, %d sessions",
		d.Added, d.Removed, d.Moved, d.Changed, d.Users, d.LiveSessions)
	for _, r := range d.Rows {
		answer += fmt.Sprintf("; %s %s(%s) to %s(%s) at %s", r.Key, r.From, r.FromLogin, r.To, r.ToLogin, r.Source)
	}
	return answer
}

// change is that of a step that may end in "for DURATION".
func (s *script) change(words []string) route.Change {
	s.t.Helper()
	c := route.Change{By: "op", Why: "test"}
	if len(words) == 2 && words[0] == "for" {
		d, err := time.ParseDuration(words[1])
		if err != nil {
			s.t.Fatal(err)
		}
		c.Until = time.Now().Add(d)
	}
	return c
}

func placed(p route.Placement, err error) string {
	down, unavailable := errors.AsType[*route.UnavailableError](err)
	switch {
	case unavailable:
		return "unavailable: " + down.Error()
	case errors.Is(err, route.ErrUnknownUser):
		return "unknown"
	case err != nil:
		return "error: " + err.Error()
	}
	answer := strings.Join(p.Backends, " ") + ", " + p.Reason.String()
	if p.Held {
		answer += ", held"
	}
	return answer
}

func yes(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func failure(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

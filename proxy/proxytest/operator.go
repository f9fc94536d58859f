package proxytest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"
	"time"

	"imapgate/proxy"
	"imapgate/route"
)

// operate plays what an operator does, or a health check in the operator's place.
// known is false for events that are something else.
func (r *runner) operate(t *testing.T, e event) (known bool, err error) {
	t.Helper()
	state := r.setup.routing.table.State()
	name, by := e.arg(0), route.Change{By: "operator"}
	if limit := e.opts["for"]; limit != "" {
		d, err := time.ParseDuration(limit)
		if err != nil {
			return true, err
		}
		by.Until = time.Now().Add(d)
	}
	switch e.verb {
	case "hold":
		return true, state.Hold(name, by)
	case "release":
		return true, found(state.Release(name))
	case "pin":
		return true, state.Pin(name, e.arg(1), by)
	case "unpin":
		return true, found(state.Unpin(name))
	case "drain", "maint", "ready":
		return true, state.SetAdmin(name, route.Admin(e.verb), by)
	case "health":
		if e.arg(1) != "up" && e.arg(1) != "down" {
			return true, fmt.Errorf("health %s", e.arg(1))
		}
		return true, found(state.SetHealth(name, e.arg(1) == "up", "the transcript says so"))
	case "kick":
		return true, r.kick(t, e)
	case "sessions":
		return true, r.countSessions(e)
	}
	return false, nil
}

func found(ok bool) error {
	if !ok {
		return errors.New("that changes nothing")
	}
	return nil
}

// selects says which sessions an event is about: those of a user, of a backend, or
// all.
func selects(e event) func(proxy.SessionInfo) bool {
	user, backend := e.arg(0), e.opts["backend"]
	return func(i proxy.SessionInfo) bool {
		return i.User == cmp.Or(user, i.User) && i.Backend == cmp.Or(backend, i.Backend)
	}
}

func (r *runner) kick(t *testing.T, e event) error {
	t.Helper()
	o := proxy.KickOptions{Text: e.opts["text"], Reason: e.opts["reason"]}
	var err error
	if rate := e.opts["rate"]; rate != "" {
		if o.Rate, err = strconv.ParseFloat(rate, 64); err != nil {
			return err
		}
	}
	if spread := e.opts["spread"]; spread != "" {
		if o.Spread, err = time.ParseDuration(spread); err != nil {
			return err
		}
	}
	// It may take its time. The server's end is its end too.
	go func() { _, _ = r.server.Kick(context.WithoutCancel(t.Context()), selects(e), o) }()
	return nil
}

// countSessions expects a number of sessions in the server's list, and at the
// backend the same as the table knows there.
func (r *runner) countSessions(e event) error {
	want, err := strconv.Atoi(e.opts["count"])
	if err != nil {
		return err
	}
	got := 0
	listed := make(map[string]int)
	for _, i := range r.server.Sessions() {
		listed[i.Backend]++
		if selects(e)(i) {
			got++
		}
	}
	if got != want {
		return fmt.Errorf("there are %d", got)
	}
	for _, b := range r.setup.routing.table.Backends() {
		if b.Sessions != listed[b.Name] {
			return fmt.Errorf("%s has %d, and the table counts %d", b.Name, listed[b.Name], b.Sessions)
		}
	}
	return nil
}

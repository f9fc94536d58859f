package main_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"imapgate/cmd/imapgate/internal/admin"
)

// balanceRush is how often each user of a shard logs in at once when it is back.
const balanceRush = 6

// rush shows that a backend which is back is not overrun: everybody whose mail is
// there alone comes in the same moment, and all get in, but few at a time.
func (w *balance) rush(t *testing.T, o *outage) {
	t.Helper()
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	var watch, clients sync.WaitGroup
	var flight, waiting, room, looks int
	watch.Go(func() {
		c := admin.NewClient(w.socket, "")
		defer c.Close()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for watching.Err() == nil {
			var all admin.Backends
			if err := c.Get(context.WithoutCancel(watching), "/v1/backends", nil, &all); err != nil {
				t.Error(err)
				return
			}
			for _, b := range all.Backends {
				if b.Name == o.name {
					flight, waiting, room = max(flight, b.LoginsInFlight), max(waiting, b.LoginsWaiting), max(room, b.LoginsAtOnce)
				}
			}
			looks++
			<-tick.C
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), realPatience)
	defer cancel()
	began := time.Now()
	for _, u := range o.shards {
		for range balanceRush {
			clients.Go(func() {
				c, err := u.dial(ctx, w.realGate)
				if err != nil {
					t.Error(err)
					return
				}
				defer c.Close()
				if err := c.command("l", "LOGIN "+u.name+" "+crowdPassword); err != nil {
					t.Errorf("%s: %v", u.name, err)
				}
				if err := c.say("o LOGOUT"); err != nil {
					t.Errorf("%s: %v", u.name, err)
				}
			})
		}
		u.logins += balanceRush
	}
	clients.Wait()
	took := time.Since(began)
	stop()
	watch.Wait()
	t.Logf("%d logins at once took %v: %d at the most were under way, %d waited (seen in %d looks)",
		balanceRush*len(o.shards), took.Round(time.Millisecond), flight, waiting, looks)
	if flight > balanceLogins || room > balanceLogins || flight == 0 || waiting == 0 {
		t.Errorf("%d logins under way of %d at a time, %d waiting", flight, room, waiting)
	}
}

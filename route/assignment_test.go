package route_test

import (
	"runtime"
	"testing"

	"imapgate/route"
)

// TestWhoLeavesGivesMemoryBack has many users come and nearly all of them go: those who
// stay must be there still, and take what few take.
func TestWhoLeavesGivesMemoryBack(t *testing.T) {
	const many, stay = 100_000, 100
	table := route.New()
	if err := table.Load(route.Definition{Backends: []route.Backend{{Name: "mail"}}, Default: "mail"}, nil, false); err != nil {
		t.Fatal(err)
	}
	leases := make([]*route.Lease, many)
	before := liveBytes()
	for i := range leases {
		leases[i] = session(table, userName(i))
	}
	full := liveBytes() - before
	for _, l := range leases[stay:] {
		l.End()
	}
	clear(leases)
	left := liveBytes() - before
	if left > full/10 {
		t.Errorf("%d users took %.0f bytes, the last %d take %.0f", many, full, stay, left)
	}
	runtime.KeepAlive(leases)
	if there := len(table.State().Assigned("mail")); there != stay {
		t.Errorf("%d users are there, not %d", there, stay)
	}
}

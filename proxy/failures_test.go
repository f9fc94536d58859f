package proxy

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

var (
	homeAddress = netip.MustParseAddr("192.0.2.1")
	noon        = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
)

// bot returns the nth address of somebody who has many.
func bot(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)})
}

func TestGuessesDoNotSlowDownTheOwner(t *testing.T) {
	f := new(failureLog)
	f.clear(homeAddress, "alice", noon)
	for n := range 50 {
		if _, byUser := f.add(bot(n), "alice", noon); byUser != n+1 {
			t.Fatalf("guess %d counts as the %dth", n+1, byUser)
		}
	}
	if byAddress, byUser := f.add(homeAddress, "alice", noon); byAddress != 1 || byUser != 0 {
		t.Errorf("the owner's first mistake counts as the %dth of the address and the %dth of the user", byAddress, byUser)
	}
	if _, byUser := f.add(bot(50), "alice", noon); byUser != 51 {
		t.Errorf("the owner's mistake counts with the guesses: %d", byUser)
	}
	if _, byUser := f.add(homeAddress, "bob", noon); byUser != 1 {
		t.Errorf("a home of alice is one of bob's: %d", byUser)
	}
	f.clear(homeAddress, "alice", noon)
	if _, byUser := f.add(bot(51), "alice", noon); byUser != 52 {
		t.Errorf("the owner's login helps who guesses: %d", byUser)
	}
}

func TestFailuresAreForgotten(t *testing.T) {
	f := new(failureLog)
	f.clear(homeAddress, "alice", noon)
	for range 3 {
		f.add(bot(1), "alice", noon)
	}
	later := noon.Add(failureMemory + time.Second)
	if byAddress, byUser := f.add(bot(1), "alice", later); byAddress != 1 || byUser != 1 {
		t.Errorf("after ten minutes: %d, %d", byAddress, byUser)
	}
	if _, byUser := f.add(homeAddress, "alice", noon.Add(homeMemory+time.Hour)); byUser != 1 {
		t.Errorf("a home that was not used for a month counts: %d", byUser)
	}
}

func TestIPv6CountsByItsNetwork(t *testing.T) {
	f := new(failureLog)
	f.add(netip.MustParseAddr("2001:db8::1"), "", noon)
	if n, _ := f.add(netip.MustParseAddr("2001:db8::2"), "", noon); n != 2 {
		t.Errorf("an address beside it: %d", n)
	}
	if n, _ := f.add(netip.MustParseAddr("2001:db8:0:1::2"), "", noon); n != 1 {
		t.Errorf("another network: %d", n)
	}
	f.add(netip.MustParseAddr("::ffff:192.0.2.1"), "", noon)
	if n, _ := f.add(homeAddress, "", noon); n != 2 {
		t.Errorf("IPv4 in the clothes of IPv6: %d", n)
	}
	if network(netip.MustParseAddr("fe80::1%eth0")) != network(netip.MustParseAddr("fe80::2%eth1")) {
		t.Error("a zone makes another client")
	}
}

func TestFailureLogIsBounded(t *testing.T) {
	f := new(failureLog)
	most := 0
	for n := range 3 * maxHomes {
		f.add(bot(n), fmt.Sprint("user", n), noon)
		f.clear(bot(n), fmt.Sprint("user", n), noon)
		most = max(most, len(f.addresses), len(f.users), len(f.homes.last)/2)
	}
	if most > maxFailureEntries {
		t.Errorf("%d entries", most)
	}
	// What has expired goes first.
	f.addresses.shrink(noon.Add(failureMemory + time.Second))
	if len(f.addresses) != 0 {
		t.Errorf("%d entries have not expired", len(f.addresses))
	}
}

func TestFailedLoginsMoveToAnotherServer(t *testing.T) {
	var from, to Server
	for range 3 {
		from.failures.add(homeAddress, "alice", noon)
	}
	from.failures.add(bot(7), "bob", noon)
	list := from.FailedLogins()
	to.RestoreFailedLogins(list)
	byKey := cmpopts.SortSlices(func(a, b FailedLogins) bool { return a.Address.String()+a.User < b.Address.String()+b.User })
	if diff := cmp.Diff(list, to.FailedLogins(), byKey, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || len(list) != 4 {
		t.Errorf("(-from +to):\n%s", diff)
	}
	if byAddress, byUser := to.failures.add(homeAddress, "alice", noon); byAddress != 4 || byUser != 4 {
		t.Errorf("the next failure counts as the %dth of the address and the %dth of the user", byAddress, byUser)
	}
}

func TestDelaysDouble(t *testing.T) {
	var got []time.Duration
	for n := range 7 {
		got = append(got, failureDelay(time.Second, 15*time.Second, n))
	}
	want := []time.Duration{0, 1e9, 2e9, 4e9, 8e9, 15e9, 15e9}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if d := failureDelay(time.Second, 15*time.Second, 1<<40); d != 15*time.Second {
		t.Errorf("after many: %v", d)
	}
}

// TestRejectionsLookAlike compares how long rejections took with how long those are
// made to take that no backend has seen.
func TestRejectionsLookAlike(t *testing.T) {
	var r rejections
	var truly, made []time.Duration
	for n := range 2000 {
		d := time.Duration(1000+n*7919%1000) * time.Microsecond // 1 to 2 ms
		if n%10 == 0 {
			d = 100 * time.Millisecond // one of ten is slow: the mean would be 11 ms
		}
		r.add(d)
		truly = append(truly, d)
		like, known, _, _ := r.like()
		if !known {
			t.Fatal("nothing is known")
		}
		made = append(made, like)
	}
	slices.Sort(truly)
	slices.Sort(made)
	if a, b := truly[1000], made[1000]; max(a, b)-min(a, b) > a/20 {
		t.Errorf("medians: %v and %v", a, b)
	}
	if a, b := truly[1900], made[1900]; max(a, b)-min(a, b) > a/20 {
		t.Errorf("95th percentiles: %v and %v", a, b)
	}
}

package proxy

import (
	"net/netip"
	"testing"
)

// TestWhoIsSlowToGoKeepsItsPlace fills an address with connections none of which ever
// goes. It gets no more than what the bound and its slack allow, and each of its own is
// told once, oldest first.
func TestWhoIsSlowToGoKeepsItsPlace(t *testing.T) {
	t.Parallel()
	const bound = 3
	for name, limits := range map[string]Limits{
		limitUnauthenticated: {UnauthenticatedPerAddress: bound},
		limitAddress:         {ConnectionsPerAddress: bound},
	} {
		var a admission
		cfg := &Config{Limits: limits}
		from := network(netip.MustParseAddr("192.0.2.1"))
		var came []*conn
		for n := range bound + 2*slack(bound) + 5 {
			c := &conn{cfg: cfg, l: new(Listener)}
			j := a.arrive(c, from, true, 0)
			switch {
			case n < bound:
				if j != (judgement{}) {
					t.Errorf("%s: the %dth: %v", name, n, j)
				}
			case n < bound+2*slack(bound):
				if want := (judgement{name, came[n-bound], n >= bound+slack(bound)}); j != want {
					t.Errorf("%s: the %dth: %v, want %v", name, n, j, want)
				}
			default:
				if !j.refused() || j.limit != name {
					t.Errorf("%s: the %dth: %v", name, n, j)
				}
				continue
			}
			came = append(came, c)
		}
		for _, c := range came {
			c.place.leave()
		}
		if a.all != 0 || len(a.addresses) != 0 || a.waiting.Len() != 0 {
			t.Errorf("%s: something is left: %d, %v", name, a.all, a.addresses)
		}
	}
}

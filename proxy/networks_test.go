package proxy

import (
	"net/netip"
	"testing"
)

func TestContains(t *testing.T) {
	networks := []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("fe80::/10")}
	for text, want := range map[string]bool{
		"192.0.2.9": true, "::ffff:192.0.2.9": true, "198.51.100.9": false,
		"fe80::1": true, "fe80::1%eth0": true, "2001:db8::1": false, "2001:db8::1%eth0": false,
	} {
		if is := contains(networks, netip.MustParseAddr(text)); is != want {
			t.Errorf("%s: %t", text, is)
		}
	}
}

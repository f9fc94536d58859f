package route_test

import (
	"testing"

	"imapgate/route"
)

func TestKey(t *testing.T) {
	for _, tt := range []struct {
		names     route.Names
		user, key string
	}{
		{route.Names{}, "", ""},
		{route.Names{DefaultDomain: "example.org"}, "", ""},
		{route.Names{}, "Alice", "alice"},
		{route.Names{}, "ALICE@Example.ORG", "alice@example.org"},
		{route.Names{DefaultDomain: "Example.org"}, "Alice", "alice@example.org"},
		{route.Names{DefaultDomain: "example.org"}, "alice@example.net", "alice@example.net"},
		{route.Names{DefaultDomain: "example.org"}, "alice@", "alice@"},
		{route.Names{CaseSensitive: true}, "Alice@Example.ORG", "Alice@example.org"},
		{route.Names{CaseSensitive: true, DefaultDomain: "Example.org"}, "Alice", "Alice@example.org"},
		{route.Names{CaseSensitive: true}, "A@B@C", "A@B@c"},
		// Nothing but ASCII changes: not the Kelvin sign, which Unicode folds
		// into k, and not what is no UTF-8.
		{route.Names{}, "\u212aARL", "\u212aarl"},
		{route.Names{}, "J\xfcRGEN", "j\xfcrgen"},
		{route.Names{}, "ÄRZTE", "Ärzte"},
	} {
		if got := tt.names.Key(tt.user); got != tt.key {
			t.Errorf("%+v.Key(%q) = %q, want %q", tt.names, tt.user, got, tt.key)
		}
	}
}

func TestSplit(t *testing.T) {
	for _, tt := range []struct{ separator, typed, user, master string }{
		{"", "alice*admin", "alice*admin", ""},
		{"*", "alice", "alice", ""},
		{"*", "alice*admin", "alice", "admin"},
		{"*", "alice*admin*x", "alice", "admin*x"},
		{"*", "alice*", "alice*", ""},
		{"*", "*admin", "", "admin"},
		{"*", "", "", ""},
		{"%%", "alice%admin%%root", "alice%admin", "root"},
	} {
		user, master := route.Names{MasterSeparator: tt.separator}.Split(tt.typed)
		if user != tt.user || master != tt.master {
			t.Errorf("separator %q: Split(%q) = %q, %q; want %q, %q", tt.separator, tt.typed, user, master, tt.user, tt.master)
		}
	}
}

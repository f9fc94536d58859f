package imap

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParseCapabilities(t *testing.T) {
	tests := map[string][]string{
		"":                                  nil,
		"   ":                               nil,
		"IMAP4rev1":                         {"IMAP4REV1"},
		" IMAP4rev1  AUTH=plain sasl-ir ID": {"IMAP4REV1", "AUTH=PLAIN", "SASL-IR", "ID"},
		"ID id Id IDLE":                     {"ID", "IDLE"},
		"A \"B\" (C) D] E\tF \xff G\x00 H":  {"A", "H"},
		"RIGHTS=kxte LITERAL+ X{5}":         {"RIGHTS=KXTE", "LITERAL+"},
	}
	for s, want := range tests {
		if diff := cmp.Diff(want, ParseCapabilities(s)); diff != "" {
			t.Errorf("%q: %s", s, diff)
		}
	}
}

func TestParseCapabilitiesOfAHostileListIsLinear(t *testing.T) {
	var b strings.Builder
	for i := range 4000 {
		fmt.Fprintf(&b, "%x ", i)
	}
	if n := len(ParseCapabilities(b.String())); n != 4000 {
		t.Errorf("%d capabilities", n)
	}
}

func TestHasCapability(t *testing.T) {
	caps := []string{"IMAP4REV1", "AUTH=PLAIN"}
	for name, want := range map[string]bool{"IMAP4rev1": true, "AUTH=PLAIN": true, "auth=plain": true, "AUTH": false, "": false, "IMAP4rev2": false} {
		if got := HasCapability(caps, name); got != want {
			t.Errorf("HasCapability(%q) = %v", name, got)
		}
	}
}

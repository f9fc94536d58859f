package route_test

import (
	"strings"
	"testing"

	"imapgate/route"
)

func TestHasDomainKnowsRowsOfDomainsAlone(t *testing.T) {
	table := route.New()
	if table.HasDomain("example.org") {
		t.Error("a table without contents has a domain")
	}
	rows, err := route.Parse("users.map", strings.NewReader("alice@users.example mail1\n@example.org mail1\n* mail1\n"))
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Load(route.Definition{Backends: []route.Backend{{Name: "mail1"}}}, rows, false); err != nil {
		t.Fatal(err)
	}
	for domain, want := range map[string]bool{"example.org": true, "mail.example.org": false, "users.example": false, "org": false, "*": false, "": false} {
		if got := table.HasDomain(domain); got != want {
			t.Errorf("%q: %v", domain, got)
		}
	}
}

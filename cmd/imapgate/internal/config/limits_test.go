package config

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"imapgate/proxy"
)

func TestLimits(t *testing.T) {
	for name, tc := range map[string]struct {
		text string
		want proxy.Limits
	}{
		"defaults": {"", proxy.Limits{ConnectionsPerAddress: 10000, UnauthenticatedPerAddress: 100, SessionsPerUser: 500, SessionsPerUserAddress: 100}},
		"all": {
			"limits: {connections: 5000, connections_per_address: 50, unauthenticated_per_address: 5, sessions_per_user: 20, sessions_per_user_and_address: 10, accept_rate: 300}\n",
			proxy.Limits{Connections: 5000, ConnectionsPerAddress: 50, UnauthenticatedPerAddress: 5, SessionsPerUser: 20, SessionsPerUserAddress: 10, AcceptRate: 300},
		},
		"none": {
			"limits: {connections_per_address: 0, unauthenticated_per_address: 0, sessions_per_user: 0, sessions_per_user_and_address: 0}\n", proxy.Limits{},
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, err := parse(t, base+tc.text)
			if err != nil {
				t.Fatal(err)
			}
			c, err := p.Compile(nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, c.Proxy.Limits); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestMistakesInLimits(t *testing.T) {
	_, err := parse(t, base+`limits:
  connections: 10
  connections_per_address: 20
  unauthenticated_per_address: 30
  sessions_per_user: 5
  sessions_per_user_and_address: 6
  accept_rate: -1
debug: {core_dumps: yes}
`)
	want := []string{
		`x.yaml:6:28: connections_per_address 20 is more than connections 10 (it bounds a part of what connections bounds)`,
		`x.yaml:7:32: unauthenticated_per_address 30 is more than connections_per_address 20 (it bounds a part of what connections_per_address bounds)`,
		`x.yaml:9:34: sessions_per_user_and_address 6 is more than sessions_per_user 5 (it bounds a part of what sessions_per_user bounds)`,
		`x.yaml:10:16: limits.accept_rate: "-1" is not valid (expected a whole number from 0 to 1000000)`,
		`x.yaml:11:21: debug.core_dumps: "yes" is not valid (write true)`,
	}
	if diff := cmp.Diff(want, lines(t, err)); diff != "" {
		t.Errorf("errors (-want +got):\n%s", diff)
	}
	p, err := parse(t, base+"debug: {core_dumps: true}\n")
	if err != nil {
		t.Fatal(err)
	}
	var warned []string
	for _, w := range p.Warnings {
		warned = append(warned, w.Error())
	}
	const about = "x.yaml:4:21: a crash may write passwords and keys to a core file (core_dumps: true)"
	if len(warned) == 0 || warned[len(warned)-1] != about {
		t.Errorf("warnings: %q", warned)
	}
}

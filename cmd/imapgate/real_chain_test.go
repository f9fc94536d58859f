package main_test

import (
	"regexp"
	"strings"
	"testing"

	"imapgate/proxy/proxytest"
)

func TestRealTwoProxiesInARowKeepTheClientsAddressAndSession(t *testing.T) {
	t.Parallel()
	inner := startRealWorld(t, realDovecotConfig{}, realGateConfig{Login: realMap{"trusted_networks": []string{"127.0.0.2/32"}}})
	ca := inner.ca
	outer := startRealGate(t, realGateConfig{
		CA: ca,
		Backends: realMap{
			"tls":      realBackend(ca, realMap{"address": inner.TLS, "tls": "implicit"}),
			"starttls": realBackend(ca, realMap{"address": inner.STARTTLS, "tls": "starttls"}),
		},
		Table:   "alice@example.org tls\nbob@example.org starttls\n",
		Secrets: []string{realAlice.Password, realBob.Password},
	})
	for _, test := range []struct {
		account realAccount
		home    *realDovecot
	}{{realAlice, inner.Mail1}, {realBob, inner.Mail2}} {
		c := dialRealTLSFrom(t, outer.TLS, realClientAddress, outer.tlsConfig())
		c.Login(test.account)
		c.OK("SELECT INBOX")
		c.Logout()
		line := test.home.WaitLog(t, `^.*Login: user=<`+regexp.QuoteMeta(test.account.Name)+`>.*$`)[0]
		session := realSession.FindStringSubmatch(line)
		if session == nil || !strings.Contains(line, "rip="+realClientAddress+",") {
			t.Fatalf("Dovecot logged: %s", line)
		}
		for name, g := range map[string]*realGate{"inner": inner.realGate, "outer": outer} {
			if !g.logged(t, session[1], realClientAddress) {
				t.Errorf("the %s proxy did not log the session %s that Dovecot logged", name, session[1])
			}
		}
	}
}

func TestRealProxyLoopEndsAtOnce(t *testing.T) {
	t.Parallel()
	ca := newRealCA(t, "test")
	here, there := proxytest.FreeAddress(t), proxytest.FreeAddress(t)
	trusted := realMap{"trusted_networks": []string{"127.0.0.2/32"}}
	gate := func(own, other string) *realGate {
		return startRealGate(t, realGateConfig{
			CA: ca,
			Backends: realMap{
				"self":  realBackend(ca, realMap{"address": own, "tls": "implicit"}),
				"other": realBackend(ca, realMap{"address": other, "tls": "implicit"}),
			},
			Table:   "alice@example.org self\nbob@example.org other\n",
			Listen:  []realMap{{"address": own, "tls": "implicit"}},
			Login:   trusted,
			Secrets: []string{realAlice.Password, realBob.Password},
		})
	}
	g, second := gate(here, there), gate(there, here)
	for name, account := range map[string]realAccount{"of one": realAlice, "of two": realBob} {
		t.Run(name, func(t *testing.T) {
			c := g.Dial(t)
			_, tagged := c.Command("AUTHENTICATE PLAIN " + realPlain("", account.Name, account.Password))
			if !strings.HasPrefix(tagged, "NO [SERVERBUG] ") {
				t.Errorf("got %q", tagged)
			}
			c.Logout()
		})
	}
	if !g.logged(t, "error", "proxy loop") && !second.logged(t, "error", "proxy loop") {
		t.Error("no error in the log names the loop")
	}
}

package main_test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
)

// realClientAddress is where clients connect from in tests that look for their
// address; neither imapgate nor Dovecot uses it.
const realClientAddress = "127.0.0.3"

func TestRealDovecotLogsTheClientsAddressAndSession(t *testing.T) {
	t.Parallel()
	ca := newRealCA(t, "test")
	accounts := []realAccount{
		{Name: "id-tls@example.org", Password: "Xq7-one-Vw2"},
		{Name: "id-starttls@example.org", Password: "Xq7-two-Vw2"},
		{Name: "id-clear@example.org", Password: "Xq7-three-Vw2"},
		{Name: "id-waiting@example.org", Password: "Xq7-four-Vw2"},
		{Name: "v1-starttls@example.org", Password: "Xq7-five-Vw2"},
		{Name: "v2-starttls@example.org", Password: "Xq7-six-Vw2"},
		{Name: "v2-tls@example.org", Password: "Xq7-seven-Vw2"},
		{Name: "v2-clear@example.org", Password: "Xq7-eight-Vw2"},
	}
	d := startRealDovecot(t, realDovecotConfig{CA: ca, Accounts: accounts})
	backends := realMap{
		"id-tls":      realBackend(ca, realMap{"address": d.IMAPS, "tls": "implicit"}),
		"id-starttls": realBackend(ca, realMap{"address": d.IMAP, "tls": "starttls"}),
		"id-clear":    realBackend(ca, realMap{"address": d.IMAP, "tls": "none", "ca": nil, "tls_name": nil}),
		"id-waiting":  realBackend(ca, realMap{"address": d.IMAPS, "tls": "implicit", "pipelining": false}),
		"v1-starttls": realBackend(ca, realMap{"address": d.HAProxy, "tls": "starttls", "proxy_protocol": "v1"}),
		"v2-starttls": realBackend(ca, realMap{"address": d.HAProxy, "tls": "starttls", "proxy_protocol": "v2"}),
		"v2-tls":      realBackend(ca, realMap{"address": d.HAProxyS, "tls": "implicit", "proxy_protocol": "v2"}),
		"v2-clear":    realBackend(ca, realMap{"address": d.HAProxy, "tls": "none", "proxy_protocol": "v2", "ca": nil, "tls_name": nil}),
	}
	var table strings.Builder
	var secrets []string
	for _, a := range accounts {
		backend, _, _ := strings.Cut(a.Name, "@")
		table.WriteString(a.Name + " " + backend + "\n")
		secrets = append(secrets, a.Password)
	}
	g := startRealGate(t, realGateConfig{
		CA: ca, Backends: backends, Table: table.String(), Secrets: secrets,
		Listen: []realMap{{"tls": "none", "proxy_protocol": realMap{"from": []string{"127.0.0.0/8"}}}},
	})
	sessions := map[string]bool{}
	for _, a := range accounts {
		t.Run(a.Name, func(t *testing.T) {
			c := dialRealTLSFrom(t, g.TLS, realClientAddress, g.tlsConfig())
			// Whatever the client claims is not what Dovecot hears.
			c.OK(`ID ("name" "lyre bird" "x-originating-ip" "192.0.2.9" "x-originating-port" "9" "x-session-id" "forged" "x-proxy-ttl" "1")`)
			c.Login(a)
			c.Logout()
			line := d.WaitLog(t, `^.*Login: user=<`+regexp.QuoteMeta(a.Name)+`>.*$`)[0]
			if !strings.Contains(line, "rip="+realClientAddress+",") {
				t.Errorf("Dovecot logged another address: %s", line)
			}
			session := realSession.FindStringSubmatch(line)
			if session == nil || session[1] == "" || session[1] == "forged" || sessions[session[1]] {
				t.Fatalf("no session of its own: %s", line)
			}
			sessions[session[1]] = true
			if !g.logged(t, session[1], realClientAddress) {
				t.Errorf("imapgate did not log the session %s that Dovecot logged", session[1])
			}
			sent := d.WaitLog(t, `^.*ID sent: .*`+regexp.QuoteMeta(session[1])+`.*$`)[0]
			if !strings.Contains(sent, "name=lyre bird") {
				t.Errorf("the client's name is lost: %s", sent)
			}
		})
	}
	for i, a := range accounts {
		t.Run("IPv6 "+a.Name, func(t *testing.T) {
			address := fmt.Sprintf("2001:db8::%d", i+1)
			c := newRealConn(t, dialRealTCP(t, g.More[0], ""))
			c.Send("PROXY TCP6 " + address + " 2001:db8::99 4711 143\r\n")
			c.greeting()
			if a.Name == "v2-clear@example.org" {
				// The header tells Dovecot of no TLS, so that it says LOGINDISABLED.
				if _, tagged := c.Command("AUTHENTICATE PLAIN " + realPlain("", a.Name, a.Password)); !strings.HasPrefix(tagged, "NO [SERVERBUG] ") {
					t.Errorf("got %q", tagged)
				}
				c.Logout()
				return
			}
			c.Login(a)
			c.Logout()
			d.WaitLog(t, "Login: user=<"+regexp.QuoteMeta(a.Name)+">.*rip="+address+",")
		})
	}
	if log := d.Log(t); strings.Contains(log, "192.0.2.9") || strings.Contains(log, "forged") {
		t.Error("a client forged its address or session")
	}
}

var realSession = regexp.MustCompile(`session=<([^>]*)>`)

func TestRealDovecotLearnsTLSFromThePROXYHeader(t *testing.T) {
	t.Parallel()
	// No trusted networks here: the address can only come from the header, and
	// clear text is refused unless the header says that the client has TLS.
	const extra = "login_trusted_networks =\n"
	ca := newRealCA(t, "test")
	d := startRealDovecot(t, realDovecotConfig{CA: ca, Accounts: []realAccount{realAlice}, Extra: extra})
	g := startRealGate(t, realGateConfig{
		CA: ca,
		Backends: realMap{
			"mail1": realBackend(ca, realMap{"address": d.HAProxy, "tls": "none", "proxy_protocol": "v2", "ca": nil, "tls_name": nil}),
		},
		Table:   "alice@example.org mail1\n",
		Secrets: []string{realAlice.Password},
	})
	c := dialRealTLSFrom(t, g.TLS, realClientAddress, g.tlsConfig())
	c.Login(realAlice)
	c.Logout()
	line := d.WaitLog(t, `^.*Login: user=<alice@example.org>.*$`)[0]
	if !strings.Contains(line, "rip="+realClientAddress+",") || !strings.Contains(line, ", secured,") || !strings.Contains(line, "local_name=<localhost>") {
		t.Errorf("Dovecot logged: %s", line)
	}
}

func TestRealPROXYHeaderInFrontReachesDovecot(t *testing.T) {
	t.Parallel()
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{
		Listen: []realMap{
			{"tls": "none", "proxy_protocol": realMap{"from": []string{"127.0.0.0/8"}}},
			{"tls": "none", "proxy_protocol": realMap{"from": []string{"192.0.2.0/24"}}},
		},
	})
	for name, account := range map[string]realAccount{"TCP4 198.51.100.7 198.51.100.1": realAlice, "TCP6 2001:db8::7 2001:db8::1": realBob} {
		t.Run(name, func(t *testing.T) {
			c := newRealConn(t, dialRealTCP(t, w.More[0], ""))
			c.Send("PROXY " + name + " 4711 143\r\n")
			c.greeting()
			c.Login(account)
			c.Logout()
			d := map[string]*realDovecot{realAlice.Name: w.Mail1, realBob.Name: w.Mail2}[account.Name]
			d.WaitLog(t, "Login: user=<"+account.Name+">.*rip="+strings.Fields(name)[1]+",")
		})
	}
	t.Run("from elsewhere", func(t *testing.T) {
		c := newRealConn(t, dialRealTCP(t, w.More[1], ""))
		c.EOF() // whatever it would say
	})
}

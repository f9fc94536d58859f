package main_test

import (
	"strings"
	"testing"
	"time"

	"imapgate/proxy/proxytest"
)

func TestRealFailuresTellTheClientWhatToDo(t *testing.T) {
	t.Parallel()
	ca, stranger := newRealCA(t, "test"), newRealCA(t, "stranger")
	dead := realAccount{Name: "dead@example.org", Password: "Xq7-dead-Vw2"}
	accounts := []realAccount{
		realAlice, dead,
		{Name: "badca@example.org", Password: "Xq7-badca-Vw2"},
		{Name: "badname@example.org", Password: "Xq7-badname-Vw2"},
		{Name: "badstarttls@example.org", Password: "Xq7-badstarttls-Vw2"},
		{Name: "badpin@example.org", Password: "Xq7-badpin-Vw2"},
	}
	d := startRealDovecot(t, realDovecotConfig{CA: ca, Accounts: accounts})
	var table strings.Builder
	secrets := []string{"Xq7-wrong-Vw2"}
	for _, a := range accounts {
		backend, _, _ := strings.Cut(a.Name, "@")
		table.WriteString(a.Name + " " + backend + "\n")
		secrets = append(secrets, a.Password)
	}
	g := startRealGate(t, realGateConfig{
		CA: ca,
		Backends: realMap{
			"alice":       realBackend(ca, realMap{"address": d.IMAPS, "tls": "implicit"}),
			"dead":        realBackend(ca, realMap{"address": proxytest.FreeAddress(t), "tls": "implicit"}),
			"badca":       realBackend(stranger, realMap{"address": d.IMAPS, "tls": "implicit"}),
			"badname":     realBackend(ca, realMap{"address": d.IMAPS, "tls": "implicit", "tls_name": "mail.example.org"}),
			"badstarttls": realBackend(stranger, realMap{"address": d.IMAP, "tls": "starttls"}),
			"badpin": realBackend(ca, realMap{
				"address": d.IMAPS, "tls": "implicit", "pins": []string{"sha256/" + strings.Repeat("A", 43) + "="},
			}),
		},
		Table:   table.String(),
		Login:   realMap{"backend_timeout": "3s", "connect_timeout": "1s", "max_failures": 7},
		Secrets: secrets,
	})

	const authenticationFailed = "NO [AUTHENTICATIONFAILED] Authentication failed."
	login := func(c *realConn, name, password string) string {
		_, tagged := c.Command("AUTHENTICATE PLAIN " + realPlain("", name, password))
		return tagged
	}
	t.Run("wrong password and unknown user look the same", func(t *testing.T) {
		c := g.Dial(t)
		for _, name := range []string{realAlice.Name, "nobody@example.org", "nobody@elsewhere.example"} {
			if got := login(c, name, "Xq7-wrong-Vw2"); got != authenticationFailed {
				t.Errorf("AUTHENTICATE as %s: %q", name, got)
			}
			if _, got := c.Command("LOGIN " + name + " Xq7-wrong-Vw2"); got != authenticationFailed {
				t.Errorf("LOGIN as %s: %q", name, got)
			}
		}
		// The same connection still logs in.
		c.Login(realAlice)
		c.Logout()
		if strings.Contains(d.Log(t), "nobody@") {
			t.Error("Dovecot was asked about a user whom the table does not have")
		}
	})
	t.Run("too many failures end the connection", func(t *testing.T) {
		c := g.Dial(t)
		for i := range 7 {
			if got := login(c, realAlice.Name, "Xq7-wrong-Vw2"); got != authenticationFailed {
				t.Errorf("failure %d: %q", i+1, got)
			}
		}
		c.Expect("* BYE ")
		c.EOF()
	})
	t.Run("backend is down", func(t *testing.T) {
		c := g.Dial(t)
		begin := time.Now()
		if got := login(c, dead.Name, dead.Password); !strings.HasPrefix(got, "NO [UNAVAILABLE] ") {
			t.Errorf("got %q", got)
		}
		if took := time.Since(begin); took > 10*time.Second {
			t.Errorf("it took %v", took)
		}
		c.Login(realAlice)
		c.Logout()
	})
	for _, a := range accounts[2:] {
		t.Run(a.Name, func(t *testing.T) {
			c := g.Dial(t)
			got := login(c, a.Name, a.Password)
			if !strings.HasPrefix(got, "NO [SERVERBUG] ") {
				t.Errorf("got %q", got)
			}
			backend, _, _ := strings.Cut(a.Name, "@")
			if strings.Contains(got, "127.0.0.1") || strings.Contains(got, backend) || strings.Contains(got, "certificate") {
				t.Errorf("the client learns too much: %q", got)
			}
			if !g.logged(t, "error", backend) {
				t.Error("no error in the log names the backend")
			}
			if strings.Contains(d.Log(t), a.Name) {
				t.Error("the name was sent to a server that was not verified")
			}
			c.Login(realAlice)
			c.Logout()
		})
	}
}

func TestRealDovecotThatComesBackServesAgain(t *testing.T) {
	t.Parallel()
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{Login: realMap{"backend_timeout": "3s", "connect_timeout": "1s"}})
	spliced := w.Dial(t)
	spliced.Login(realAlice)
	spliced.OK("NOOP")
	waiting := w.Dial(t)

	w.Mail1.Stop(t)
	// Dovecot's own farewell, or else imapgate's, comes before the end.
	spliced.Expect("* BYE ")
	spliced.EOF()
	if _, tagged := waiting.Command("AUTHENTICATE PLAIN " + realPlain("", realAlice.Name, realAlice.Password)); !strings.HasPrefix(tagged, "NO [UNAVAILABLE] ") {
		t.Errorf("got %q", tagged)
	}
	other := w.Dial(t) // the other backend is untouched
	other.Login(realBob)
	other.Logout()

	w.Mail1.Start(t)
	if !realEventually(t, func() bool {
		_, tagged := waiting.Command("AUTHENTICATE PLAIN " + realPlain("", realAlice.Name, realAlice.Password))
		return strings.HasPrefix(tagged, "OK")
	}) {
		t.Fatal("no login after Dovecot came back")
	}
	waiting.OK("SELECT INBOX")
	waiting.Logout()
}

func TestRealDovecotRefusalWithItsOwnCodeReachesTheClient(t *testing.T) {
	t.Parallel()
	// A passdb entry that allows no login, with a reason of its own.
	locked := realAccount{
		Name:     "locked@example.org",
		Password: "Xq7-locked-Vw2",
		Hash:     "{PLAIN}Xq7-locked-Vw2::::::nologin reason=Ask_the_postmaster",
	}
	w := startRealWorld(t, realDovecotConfig{Accounts: []realAccount{locked}}, realGateConfig{Default: "mail1"})
	c := w.Dial(t)
	const want = "NO [CONTACTADMIN] Ask_the_postmaster"
	if _, tagged := c.Command("AUTHENTICATE PLAIN " + realPlain("", locked.Name, locked.Password)); tagged != want {
		t.Errorf("got %q, want %q", tagged, want)
	}
	c.Login(realAlice)
	c.Logout()
}

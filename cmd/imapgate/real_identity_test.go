package main_test

import (
	"strings"
	"testing"
)

func TestRealMasterUserReadsOtherPeoplesMail(t *testing.T) {
	t.Parallel()
	w := startRealWorld(t,
		realDovecotConfig{Masters: []realAccount{realMaster}, Extra: "auth_master_user_separator = *\n"},
		realGateConfig{Login: realMap{"master_separator": "*", "master_users": []string{realMaster.Name}}})
	for _, test := range []struct {
		account realAccount
		home    *realDovecot
	}{{realAlice, w.Mail1}, {realBob, w.Mail2}} {
		name, password := test.account.Name, realMaster.Password
		for form, command := range map[string]string{
			"LOGIN":              "LOGIN " + name + "*" + realMaster.Name + " " + password,
			"LOGIN, quoted":      `LOGIN "` + name + "*" + realMaster.Name + `" "` + password + `"`,
			"PLAIN":              "AUTHENTICATE PLAIN " + realPlain("", name+"*"+realMaster.Name, password),
			"PLAIN with authzid": "AUTHENTICATE PLAIN " + realPlain(name, realMaster.Name, password),
		} {
			t.Run(name+" by "+form, func(t *testing.T) {
				c := w.Dial(t)
				c.OK(command)
				c.OK("SELECT INBOX")
				c.Logout()
				test.home.WaitLog(t, "Master user logging in as "+name)
			})
		}
		t.Run(name+" has no such right", func(t *testing.T) {
			c := w.Dial(t)
			_, tagged := c.Command("AUTHENTICATE PLAIN " + realPlain(name, "someone@example.org", password))
			if !strings.HasPrefix(tagged, "NO [AUTHORIZATIONFAILED]") {
				t.Errorf("got %q", tagged)
			}
			_, tagged = c.Command("AUTHENTICATE PLAIN " + realPlain("", name+"*"+realMaster.Name, "Xq7-wrong-Vw2"))
			if tagged != "NO [AUTHENTICATIONFAILED] Authentication failed." {
				t.Errorf("got %q", tagged)
			}
			c.Logout()
			if strings.Contains(test.home.Log(t), "someone@") {
				t.Error("Dovecot was asked")
			}
		})
	}
}

func TestRealTableMayRenameAUserForDovecot(t *testing.T) {
	t.Parallel()
	w := startRealWorld(t, realDovecotConfig{Extra: "auth_username_format =\n"}, realGateConfig{
		Table: realTable + "robert@example.org mail2 login=bob@example.org\n@elsewhere.example mail1\n",
		Login: realMap{"default_domain": "example.org"},
	})
	w.WaitMechanism(t, "LOGIN")
	for form, dialogue := range map[string]func(c *realConn, tag, name string){
		"LOGIN command": func(c *realConn, tag, name string) {
			c.Send(tag + " LOGIN " + name + " " + realBob.Password + "\r\n")
		},
		"PLAIN": func(c *realConn, tag, name string) {
			c.Send(tag + " AUTHENTICATE PLAIN " + realPlain("", name, realBob.Password) + "\r\n")
		},
		"PLAIN with the same authzid": func(c *realConn, tag, name string) {
			c.Send(tag + " AUTHENTICATE PLAIN " + realPlain(name, name, realBob.Password) + "\r\n")
		},
		"LOGIN mechanism": func(c *realConn, tag, name string) {
			c.Send(tag + " AUTHENTICATE LOGIN " + realBase64(name) + "\r\n")
			c.Continue()
			c.Send(realBase64(realBob.Password) + "\r\n")
		},
	} {
		for _, name := range []string{"robert@example.org", "Robert@Example.ORG", "robert"} {
			t.Run(form+" as "+name, func(t *testing.T) {
				c := w.Dial(t)
				tag := c.Tag()
				dialogue(c, tag, name)
				c.Until(tag + " OK")
				c.OK("SELECT INBOX")
				c.Logout()
			})
		}
	}
	t.Run("other names are as typed", func(t *testing.T) {
		c := w.Dial(t)
		_, tagged := c.Command("LOGIN Typed@Elsewhere.Example Xq7-wrong-Vw2")
		if tagged != "NO [AUTHENTICATIONFAILED] Authentication failed." {
			t.Errorf("got %q", tagged)
		}
		c.Logout()
		w.Mail1.WaitLog(t, `user=<Typed@Elsewhere\.Example>`)
	})
	if log := w.Mail2.Log(t); strings.Contains(strings.ToLower(log), "robert") {
		t.Error("Dovecot has heard the name that the table replaces")
	}
}

func TestRealTaggedOKIsDovecotsOwn(t *testing.T) {
	t.Parallel()
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	for _, test := range []struct {
		account realAccount
		home    *realDovecot
	}{{realAlice, w.Mail1}, {realBob, w.Mail2}} {
		login := "AUTHENTICATE PLAIN " + realPlain("", test.account.Name, test.account.Password)
		direct := dialRealTLSFrom(t, test.home.IMAPS, "127.0.0.2", w.tlsConfig())
		_, want := direct.Command(login)
		direct.Logout()
		if !strings.HasPrefix(want, "OK [CAPABILITY ") {
			t.Fatalf("Dovecot says %q", want)
		}
		for name, dial := range map[string]func(*testing.T) *realConn{"TLS": w.Dial, "STARTTLS": w.DialSTARTTLS, "clear": w.DialClear} {
			c := dial(t)
			untagged, got := c.Command(login)
			if got != want || len(untagged) > 0 {
				t.Errorf("%s: got %q and %q, want %q", name, untagged, got, want)
			}
			c.Logout()
		}
	}
}

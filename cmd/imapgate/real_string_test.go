package main_test

import (
	"fmt"
	"strings"
	"testing"
)

func TestRealNamesAndPasswordsKeepEveryOctetInEveryStringForm(t *testing.T) {
	t.Parallel()
	accounts := []realAccount{
		{Name: "plain@example.org", Password: "Xq7-plain-Vw2"},
		{Name: "spaces@example.org", Password: " Xq7 with  spaces Vw2 "},
		{Name: "quotes@example.org", Password: `"Xq7"quo"ted"Vw2"`},
		{Name: "backslashes@example.org", Password: `\Xq7\\back\nslash\"Vw2\`},
		{Name: "grammar@example.org", Password: "Xq7(){%*]+}Vw2{3}"},
		{Name: "utf8@example.org", Password: "Xq7-Größe-κόσμε-日本語-🔑-Vw2"},
		{Name: "latin1@example.org", Password: "Xq7-Gr\xf6\xdfe-Vw2"},
		{Name: `odd "name"\@example.org`, Password: "Xq7-odd-Vw2"},
		{Name: "größe@example.org", Password: "Xq7-name-Vw2"},
		{Name: "long@example.org", Password: "Xq7-" + strings.Repeat("long ", 100) + "Vw2"},
		{Name: "literal@example.org", Password: "Xq7-{10}"},
		{Name: "literalplus@example.org", Password: "Xq7-{10+}"},
	}
	w := startRealWorld(t, realDovecotConfig{Accounts: accounts}, realGateConfig{Default: "mail2"})

	quoted := func(s string) string {
		return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
	}
	forms := map[string]func(c *realConn, tag string, a realAccount){
		"quoted": func(c *realConn, tag string, a realAccount) {
			c.Send(tag + " LOGIN " + quoted(a.Name) + " " + quoted(a.Password) + "\r\n")
		},
		"literals": func(c *realConn, tag string, a realAccount) {
			c.Send(fmt.Sprintf("%s LOGIN {%d}\r\n", tag, len(a.Name)))
			c.Continue()
			c.Send(fmt.Sprintf("%s {%d}\r\n", a.Name, len(a.Password)))
			c.Continue()
			c.Send(a.Password + "\r\n")
		},
		"non-synchronizing literals": func(c *realConn, tag string, a realAccount) {
			c.Send(fmt.Sprintf("%s LOGIN {%d+}\r\n%s {%d+}\r\n%s\r\n", tag, len(a.Name), a.Name, len(a.Password), a.Password))
		},
		"quoted and a literal": func(c *realConn, tag string, a realAccount) {
			c.Send(fmt.Sprintf("%s LOGIN %s {%d}\r\n", tag, quoted(a.Name), len(a.Password)))
			c.Continue()
			c.Send(a.Password + "\r\n")
		},
		"PLAIN": func(c *realConn, tag string, a realAccount) {
			c.Send(tag + " AUTHENTICATE PLAIN " + realPlain("", a.Name, a.Password) + "\r\n")
		},
		"LOGIN": func(c *realConn, tag string, a realAccount) {
			c.Send(tag + " AUTHENTICATE LOGIN\r\n")
			c.Continue()
			c.Send(realBase64(a.Name) + "\r\n")
			c.Continue()
			c.Send(realBase64(a.Password) + "\r\n")
		},
		"atoms": nil, // where both are atoms
	}
	w.WaitMechanism(t, "LOGIN")
	for _, a := range accounts {
		for name, dialogue := range forms {
			if dialogue == nil {
				if !realAtom(a.Name) || !realAtom(a.Password) {
					continue
				}
				dialogue = func(c *realConn, tag string, a realAccount) {
					c.Send(tag + " LOGIN " + a.Name + " " + a.Password + "\r\n")
				}
			}
			t.Run(a.Name+" "+name, func(t *testing.T) {
				c := w.Dial(t)
				if name == "literals" { // in one form only: Dovecot delays each failure
					wrong := a
					wrong.Password += "x"
					tag := c.Tag()
					dialogue(c, tag, wrong)
					c.Expect(tag + " NO [AUTHENTICATIONFAILED] Authentication failed.")
				}
				tag := c.Tag()
				dialogue(c, tag, a)
				c.Until(tag + " OK")
				c.OK("SELECT INBOX")
				c.Logout()
			})
		}
	}
	w.Mail2.WaitLog(t, `Login: user=<odd "name"\\@example.org>`)
}

// realAtom tells whether a string can be written as an astring's atom.
// See RFC 9051, Section 9.
func realAtom(s string) bool {
	for _, b := range []byte(s) {
		if b <= ' ' || b >= 0x7f || strings.IndexByte(`(){%*"\`, b) >= 0 {
			return false
		}
	}
	return s != ""
}

package main_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

// realScript is a whole session, said without waiting for any answer.
func realScript(a realAccount, subject string) string {
	mail := "Subject: " + subject + "\r\n\r\n.\r\n"
	return fmt.Sprintf("a LOGIN {%d+}\r\n%s {%d+}\r\n%s\r\n", len(a.Name), a.Name, len(a.Password), a.Password) +
		fmt.Sprintf("b APPEND INBOX {%d+}\r\n%s\r\n", len(mail), mail) +
		"c NOOP\r\nd LOGOUT\r\n"
}

// finishScript reads what a server answers to realScript.
func (c *realConn) finishScript() {
	c.t.Helper()
	for _, tag := range []string{"a", "b", "c", "d"} {
		c.Until(tag + " OK")
	}
	c.EOF()
	c.Close()
}

func TestRealPipelinedSessionSurvivesTheLogin(t *testing.T) {
	t.Parallel()
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	dials := map[string]func(*testing.T) *realConn{
		"one segment":                w.DialClear,
		"one TLS record":             w.Dial,
		"one record behind STARTTLS": w.DialSTARTTLS,
	}
	for _, account := range []realAccount{realAlice, realBob} {
		for name, dial := range dials {
			subject := strings.ReplaceAll(name, " ", "-")
			t.Run(name+" "+account.Name, func(t *testing.T) {
				c := dial(t)
				c.Send(realScript(account, subject))
				c.finishScript()
			})
			t.Run(name+" with AUTHENTICATE "+account.Name, func(t *testing.T) {
				c := dial(t)
				c.Send("a AUTHENTICATE PLAIN " + realPlain("", account.Name, account.Password) + "\r\nb NOOP\r\nc NOOP\r\nd LOGOUT\r\n")
				c.finishScript()
			})
			t.Run(name+" behind a failed login "+account.Name, func(t *testing.T) {
				c := dial(t)
				c.Send("w LOGIN " + account.Name + " {11+}\r\nXq7-wrong-V\r\n" + realScript(account, subject))
				c.Expect("w NO [AUTHENTICATIONFAILED]")
				c.finishScript()
			})
		}
		t.Run("mails of "+account.Name, func(t *testing.T) {
			c := w.Dial(t)
			c.Login(account)
			for name := range dials {
				if found := c.Search(strings.ReplaceAll(name, " ", "-")); len(found) != 2 {
					t.Errorf("mails of %s: %q, want 2", name, found)
				}
			}
			c.Logout()
		})
	}
}

func TestRealSessionMayBeSplitAtEveryOctet(t *testing.T) {
	t.Parallel()
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	script := realScript(realAlice, "s")
	step := 1
	if testing.Short() {
		step = 7
	}
	for name, dial := range map[string]func(*testing.T) *realConn{"TLS records": w.Dial, "segments": w.DialClear} {
		t.Run(name, func(t *testing.T) {
			offsets := make(chan int)
			var workers sync.WaitGroup
			defer workers.Wait()
			defer close(offsets)
			for range 4 {
				workers.Go(func() {
					for i := range offsets {
						t.Run(fmt.Sprintf("offset %d", i), func(t *testing.T) {
							c := dial(t)
							c.Send(script[:i])
							c.Send(script[i:])
							c.finishScript()
						})
					}
				})
			}
			for i := 1; i < len(script); i += step {
				offsets <- i
			}
		})
	}
	t.Run("one octet at a time", func(t *testing.T) {
		c := w.Dial(t)
		for _, b := range []byte(script) {
			c.Send(string(b))
		}
		c.finishScript()
	})
	t.Run("synchronizing literals in two parts", func(t *testing.T) {
		a := realAlice
		for i := 1; i < len(a.Name); i++ {
			c := w.Dial(t)
			c.Send(fmt.Sprintf("a LOGIN {%d}\r\n", len(a.Name)))
			c.Continue()
			c.Send(a.Name[:i])
			c.Send(fmt.Sprintf("%s {%d}\r\n", a.Name[i:], len(a.Password)))
			c.Continue()
			c.Send(a.Password[:i%len(a.Password)])
			c.Send(a.Password[i%len(a.Password):] + "\r\nd LOGOUT\r\n")
			c.Until("a OK")
			c.Until("d OK")
			c.EOF()
		}
	})
}

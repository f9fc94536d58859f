package main_test

import (
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestRealSIGTERMSaysGoodbyeToEveryClient(t *testing.T) {
	t.Parallel()
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	before := w.Dial(t)
	before.OK("NOOP")
	halfway := w.DialSTARTTLS(t)
	halfway.Send("a AUTHENTICATE PLAIN\r\n")
	halfway.Continue()
	unencrypted := dialReal(t, w.STARTTLS)

	quiet := w.Dial(t)
	quiet.Login(realAlice)
	quiet.OK("SELECT INBOX")
	idle := w.DialSTARTTLS(t)
	idle.Login(realBob)
	idle.OK("SELECT INBOX")
	idle.Send("i IDLE\r\n")
	idle.Continue()

	w.Signal(t, syscall.SIGTERM)
	for _, c := range []*realConn{before, halfway, unencrypted, quiet, idle} {
		c.Expect("* BYE ")
		c.EOF()
	}
	w.WaitExit(t)
	// Dovecot has seen both sessions end.
	w.Mail1.WaitLog(t, `imap\(alice@example.org\).*(Disconnected|Connection closed|Logged out)`)
	w.Mail2.WaitLog(t, `imap\(bob@example.org\).*(Disconnected|Connection closed|Logged out)`)
}

func TestRealSIGTERMWaitsForAResponseToEnd(t *testing.T) {
	t.Parallel()
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	socket := dialRealTCP(t, w.Clear, "")
	if err := socket.SetReadBuffer(64 << 10); err != nil {
		t.Fatal(err)
	}
	c := newRealConn(t, socket)
	c.greeting()
	c.Login(realAlice)
	const size = 8 << 20 // more than fits into the sockets' buffers
	tag := c.Tag()
	c.Send(tag + " APPEND INBOX {" + strconv.Itoa(size) + "}\r\n")
	c.Continue()
	c.Send(realMail("big") + strings.Repeat(strings.Repeat("x", 98)+"\r\n", (size-len(realMail("big")))/100))
	c.Send(strings.Repeat("y", (size-len(realMail("big")))%100) + "\r\n")
	c.Until(tag + " OK")
	c.OK("EXAMINE INBOX")
	c.Send("f FETCH 1 BODY.PEEK[]\r\n")
	line := c.Expect("* 1 FETCH ") // the literal has begun
	w.Signal(t, syscall.SIGTERM)

	// The literal is whole, and the farewell stands behind a whole response.
	if !strings.HasSuffix(line, "{"+strconv.Itoa(size)+"}") {
		t.Fatalf("got %q", line)
	}
	if n, err := c.r.Discard(size); err != nil {
		t.Fatalf("the literal ends after %d octets: %v", n, err)
	}
	c.Expect(")")
	if line := c.Line(); strings.HasPrefix(line, "f OK") {
		c.Expect("* BYE ")
	} else if !strings.HasPrefix(line, "* BYE ") {
		t.Errorf("got %q", line)
	}
	c.EOF()
	w.WaitExit(t)
}

func TestRealLoginsGoOnDuringReloads(t *testing.T) {
	t.Parallel()
	w := startRealWorld(t, realDovecotConfig{Accounts: []realAccount{{Name: "mover@example.org", Password: "Xq7-mover-Vw2"}}},
		realGateConfig{Table: realTable + "mover@example.org mail1\n"})
	mover := realAccount{Name: "mover@example.org", Password: "Xq7-mover-Vw2"}
	spliced := w.Dial(t)
	spliced.Login(realAlice)
	spliced.OK("SELECT INBOX")

	stop, stopped := make(chan struct{}), make(chan int)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-stop:
				stopped <- n
				return
			case <-tick.C:
				w.WriteTable(t, realTable+"mover@example.org mail"+strconv.Itoa(1+n%2)+"\n")
				w.Signal(t, syscall.SIGHUP)
			}
		}
	}()
	logins := 60
	if testing.Short() {
		logins = 15
	}
	for i := range logins {
		c := []func(*testing.T) *realConn{w.Dial, w.DialSTARTTLS, w.DialClear}[i%3](t)
		c.Login([]realAccount{realAlice, realBob, mover}[i/3%3])
		c.OK("NOOP")
		c.Logout()
	}
	close(stop)
	if n := <-stopped; n == 0 {
		t.Error("no reload happened")
	}
	spliced.Patience(realPatience)
	spliced.OK("NOOP")
	spliced.Logout()

	// The last table counts.
	for _, home := range []*realDovecot{w.Mail2, w.Mail1} {
		name := map[*realDovecot]string{w.Mail1: "mail1", w.Mail2: "mail2"}[home]
		w.WriteTable(t, realTable+"mover@example.org "+name+"\n")
		w.Signal(t, syscall.SIGHUP)
		if !realEventually(t, func() bool {
			before := strings.Count(home.Log(t), "Login: user=<mover@example.org>")
			c := w.Dial(t)
			c.Login(mover)
			c.Logout()
			return strings.Count(home.Log(t), "Login: user=<mover@example.org>") > before
		}) {
			t.Errorf("the user does not arrive at %s", name)
		}
	}
}

func TestRealBadTableLeavesTheLastGoodOneInForce(t *testing.T) {
	t.Parallel()
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	for _, text := range []string{"", "alice@example.org\n", "alice@example.org nowhere\nbob@example.org mail2\n", "\x00\xff"} {
		w.WriteTable(t, text)
		w.Signal(t, syscall.SIGHUP)
		for range 5 {
			for _, account := range []realAccount{realAlice, realBob} {
				c := w.Dial(t)
				c.Login(account)
				c.Logout()
			}
		}
	}
}

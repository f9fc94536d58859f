package main_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

// realConn is a client that says exactly what a test tells it to, and fails
// the test when an answer is not what was expected.
type realConn struct {
	net.Conn
	Greeting string

	t    *testing.T
	r    *bufio.Reader
	tags int
	said []string // the dialogue's last lines, for messages
}

func newRealConn(t *testing.T, conn net.Conn) *realConn {
	t.Helper()
	t.Cleanup(func() { conn.Close() })
	c := &realConn{Conn: conn, t: t, r: bufio.NewReader(conn)}
	c.Patience(realPatience)
	return c
}

// Patience bounds all further reading and writing.
func (c *realConn) Patience(d time.Duration) {
	c.t.Helper()
	if err := c.SetDeadline(time.Now().Add(d)); err != nil {
		c.t.Fatal(err)
	}
}

// dialReal connects and reads the greeting.
func dialReal(t *testing.T, addr string) *realConn {
	t.Helper()
	return dialRealFrom(t, addr, "")
}

// dialRealFrom does so from a loopback address of the test's choice.
func dialRealFrom(t *testing.T, addr, source string) *realConn {
	t.Helper()
	c := newRealConn(t, dialRealTCP(t, addr, source))
	c.greeting()
	return c
}

// dialRealTLS connects to a port with implicit TLS and reads the greeting.
func dialRealTLS(t *testing.T, addr string, cfg *tls.Config) *realConn {
	t.Helper()
	return dialRealTLSFrom(t, addr, "", cfg)
}

func dialRealTLSFrom(t *testing.T, addr, source string, cfg *tls.Config) *realConn {
	t.Helper()
	conn := tls.Client(dialRealTCP(t, addr, source), cfg)
	c := newRealConn(t, conn)
	ctx, cancel := context.WithTimeout(t.Context(), realPatience)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		t.Fatalf("TLS with %s: %v", addr, err)
	}
	c.greeting()
	return c
}

func dialRealTCP(t *testing.T, addr, source string) *net.TCPConn {
	t.Helper()
	d := net.Dialer{Timeout: realPatience}
	if source != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(source)}
	}
	conn, err := d.DialContext(t.Context(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	tcp, ok := conn.(*net.TCPConn) // which sends what it is given at once
	if !ok {
		t.Fatalf("not a TCP connection: %T", conn)
	}
	return tcp
}

func (c *realConn) greeting() {
	c.t.Helper()
	c.Greeting = c.Line()
	if !strings.HasPrefix(c.Greeting, "* OK ") {
		c.t.Fatalf("greeting: %q", c.Greeting)
	}
}

// upgrade begins TLS.
func (c *realConn) upgrade(cfg *tls.Config) {
	c.t.Helper()
	if n := c.r.Buffered(); n > 0 {
		c.t.Fatalf("%d octets behind the answer to STARTTLS", n)
	}
	conn := tls.Client(c.Conn, cfg)
	ctx, cancel := context.WithTimeout(c.t.Context(), realPatience)
	defer cancel()
	if err := conn.HandshakeContext(ctx); err != nil {
		c.t.Fatalf("TLS: %v", err)
	}
	c.Conn = conn
	c.r.Reset(conn)
}

func (c *realConn) note(who, text string) {
	if len(text) > 200 {
		text = text[:200] + "…"
	}
	c.said = append(c.said, who+strings.TrimRight(text, "\r\n"))
	if len(c.said) > 30 {
		c.said = c.said[1:]
	}
}

func (c *realConn) fatalf(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("%s\nafter:\n%s", fmt.Sprintf(format, args...), strings.Join(c.said, "\n"))
}

// Send writes octets in one call, as they are.
func (c *realConn) Send(text string) {
	c.t.Helper()
	c.note("C: ", text)
	if _, err := io.WriteString(c.Conn, text); err != nil {
		c.fatalf("send: %v", err)
	}
}

// Line reads a line and returns it without its end.
func (c *realConn) Line() string {
	c.t.Helper()
	line, err := c.r.ReadString('\n')
	if err != nil {
		c.fatalf("read: %q, %v", line, err)
	}
	c.note("S: ", line)
	text, ok := strings.CutSuffix(line, "\r\n")
	if !ok {
		c.fatalf("line without CRLF: %q", line)
	}
	return text
}

// Until reads lines up to the one with this beginning, and returns it and
// those before it.
func (c *realConn) Until(prefix string) (before []string, line string) {
	c.t.Helper()
	for {
		if line = c.Line(); strings.HasPrefix(line, prefix) {
			return before, line
		}
		if !strings.HasPrefix(line, "* ") {
			c.fatalf("got %q, want %q…", line, prefix)
		}
		before = append(before, line)
	}
}

// Expect reads a line that must have this beginning.
func (c *realConn) Expect(prefix string) string {
	c.t.Helper()
	line := c.Line()
	if !strings.HasPrefix(line, prefix) {
		c.fatalf("got %q, want %q…", line, prefix)
	}
	return line
}

// EOF reads the end of the connection.
func (c *realConn) EOF() {
	c.t.Helper()
	if b, err := c.r.ReadByte(); err == nil {
		rest, _ := c.r.Peek(c.r.Buffered())
		c.fatalf("got %q, want the end", string(b)+string(rest))
	} else if !errors.Is(err, io.EOF) { // nor a reset, nor TLS without its close_notify
		c.fatalf("got %v, want the end", err)
	}
}

// Tag returns a new tag.
func (c *realConn) Tag() string {
	c.tags++
	return "t" + strconv.Itoa(c.tags)
}

// Command sends a command and returns the untagged responses and the tagged
// one, without its tag.
func (c *realConn) Command(command string) (untagged []string, tagged string) {
	c.t.Helper()
	tag := c.Tag()
	c.Send(tag + " " + command + "\r\n")
	untagged, line := c.Until(tag + " ")
	return untagged, line[len(tag)+1:]
}

// OK sends a command that must succeed, and returns its untagged responses.
func (c *realConn) OK(command string) []string {
	c.t.Helper()
	untagged, tagged := c.Command(command)
	if !strings.HasPrefix(tagged, "OK") {
		c.fatalf("got %q, want OK", tagged)
	}
	return untagged
}

// Login logs in by AUTHENTICATE PLAIN.
func (c *realConn) Login(account realAccount) {
	c.t.Helper()
	c.OK("AUTHENTICATE PLAIN " + realPlain("", account.Name, account.Password))
}

// Logout says goodbye and reads the end of the connection.
func (c *realConn) Logout() {
	c.t.Helper()
	if bye := c.OK("LOGOUT"); len(bye) == 0 || !strings.HasPrefix(bye[len(bye)-1], "* BYE") {
		c.fatalf("no BYE: %q", bye)
	}
	c.EOF()
	c.Close()
}

// Continue reads a continuation request and returns its text.
func (c *realConn) Continue() string {
	c.t.Helper()
	_, line := c.Until("+ ")
	return line[2:]
}

// Search returns the numbers of the mails in the INBOX with this subject.
func (c *realConn) Search(subject string) []string {
	c.t.Helper()
	c.OK("EXAMINE INBOX")
	for _, line := range c.OK(`SEARCH HEADER SUBJECT "` + subject + `"`) {
		if numbers, ok := strings.CutPrefix(line, "* SEARCH"); ok {
			return strings.Fields(numbers)
		}
	}
	return nil
}

// Append stores a small mail in the INBOX.
func (c *realConn) Append(subject string) {
	c.t.Helper()
	mail := realMail(subject)
	tag := c.Tag()
	c.Send(fmt.Sprintf("%s APPEND INBOX {%d}\r\n", tag, len(mail)))
	c.Continue()
	c.Send(mail + "\r\n")
	c.Until(tag + " OK")
}

func realMail(subject string) string {
	return "From: test@example.org\r\nTo: test@example.org\r\nDate: Mon, 02 Jan 2006 15:04:05 +0000\r\n" +
		"Message-ID: <" + subject + "@example.org>\r\nSubject: " + subject + "\r\n\r\nThis is " + subject + ".\r\n"
}

func realBase64(s string) string { return base64.StdEncoding.EncodeToString([]byte(s)) }

// realPlain is the response of SASL PLAIN.
func realPlain(authzid, authcid, password string) string {
	return realBase64(authzid + "\x00" + authcid + "\x00" + password)
}

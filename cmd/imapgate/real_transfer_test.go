package main_test

import (
	"bufio"
	"compress/flate"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestRealMailTravelsBothWaysUnchanged(t *testing.T) {
	t.Parallel()
	size := int64(64 << 20)
	if testing.Short() {
		size = 8 << 20
	}
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	for _, test := range []struct {
		name    string
		dial    func(*testing.T) *realConn
		account realAccount
	}{
		{"TLS on both sides", w.Dial, realAlice},
		{"STARTTLS on both sides", w.DialSTARTTLS, realBob},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := test.dial(t)
			c.Login(test.account)
			c.Patience(5 * time.Minute)

			sent := sha256.New()
			tag := c.Tag()
			c.Send(fmt.Sprintf("%s APPEND INBOX {%d}\r\n", tag, size))
			c.Continue()
			if _, err := io.Copy(c.Conn, io.TeeReader(realBigMail(size), sent)); err != nil {
				t.Fatal(err)
			}
			c.Send("\r\n")
			c.Until(tag + " OK")

			c.OK("EXAMINE INBOX")
			tag = c.Tag()
			c.Send(tag + " FETCH * BODY.PEEK[]\r\n")
			received := sha256.New()
			if n := c.Literal(received); n != size {
				t.Errorf("received %d octets, want %d", n, size)
			}
			c.Expect(")")
			c.Until(tag + " OK")
			if a, b := sent.Sum(nil), received.Sum(nil); string(a) != string(b) {
				t.Errorf("sent %x, received %x", a, b)
			}
			c.Logout()
		})
	}
}

// realBigMail generates a mail of exactly this size: lines of random base64.
func realBigMail(size int64) io.Reader {
	header := realMail("big")
	random := rand.NewChaCha8([32]byte{1})
	var line []byte // the rest of the line in hand
	body := realReader(func(p []byte) {
		for len(p) > 0 {
			if len(line) == 0 {
				var raw [57]byte
				for i := range raw {
					raw[i] = byte(random.Uint64())
				}
				line = append(base64.StdEncoding.AppendEncode(line, raw[:]), "\r\n"...)
			}
			n := copy(p, line)
			p, line = p[n:], line[n:]
		}
	})
	const end = "\r\nThe end.\r\n"
	left := size - int64(len(header)) - int64(len(end))
	return io.MultiReader(strings.NewReader(header), io.LimitReader(body, left), strings.NewReader(end))
}

// realReader fills whatever it is given, without end.
type realReader func(p []byte)

func (r realReader) Read(p []byte) (int, error) {
	r(p)
	return len(p), nil
}

// Literal reads lines up to one that ends in a literal, copies its octets to h
// and returns their number.
func (c *realConn) Literal(h hash.Hash) int64 {
	c.t.Helper()
	for {
		line := c.Expect("* ")
		open := strings.LastIndexByte(line, '{')
		if open < 0 || !strings.HasSuffix(line, "}") {
			continue
		}
		size, err := strconv.ParseInt(line[open+1:len(line)-1], 10, 64)
		if err != nil {
			c.fatalf("literal: %v", err)
		}
		n, err := io.CopyN(h, c.r, size)
		if err != nil {
			c.fatalf("literal: %d of %d octets: %v", n, size, err)
		}
		return n
	}
}

func TestRealIdleWakesWhenMailArrives(t *testing.T) {
	t.Parallel()
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	for _, test := range []struct {
		name    string
		dial    func(*testing.T) *realConn
		account realAccount
	}{
		{"TLS", w.Dial, realAlice},
		{"STARTTLS", w.DialSTARTTLS, realBob},
		{"clear", w.DialClear, realAlice},
	} {
		t.Run(test.name, func(t *testing.T) {
			idle := test.dial(t)
			idle.Login(test.account)
			idle.OK("SELECT INBOX")
			tag := idle.Tag()
			idle.Send(tag + " IDLE\r\n")
			idle.Continue()

			other := w.Dial(t)
			other.Login(test.account)
			other.Append("wake up, " + test.name)
			other.Logout()

			for !strings.HasSuffix(idle.Expect("* "), " EXISTS") {
			}
			idle.Send("DONE\r\n")
			idle.Until(tag + " OK")
			idle.Logout()
		})
	}
}

func TestRealCompressionPassesThroughTheSplice(t *testing.T) {
	t.Parallel()
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	c := w.Dial(t)
	if strings.Contains(c.Greeting, "COMPRESS") {
		t.Errorf("COMPRESS before login: %q", c.Greeting)
	}
	c.Login(realAlice)
	if capability := strings.Join(c.OK("CAPABILITY"), " "); !strings.Contains(capability, "COMPRESS=DEFLATE") {
		t.Fatalf("Dovecot offers no compression: %q", capability)
	}
	c.OK("COMPRESS DEFLATE")
	// See RFC 4978, Section 3: raw deflate blocks in both directions from here.
	deflate, err := flate.NewWriter(c.Conn, flate.BestCompression)
	if err != nil {
		t.Fatal(err)
	}
	c.Conn = &realCompressed{Conn: c.Conn, w: deflate, r: flate.NewReader(c.r)}
	c.r = bufio.NewReader(c.Conn)

	c.Append("compressed")
	if found := c.Search("compressed"); len(found) != 1 {
		t.Errorf("mails: %q", found)
	}
	for range 100 {
		c.OK("NOOP")
	}
	tag := c.Tag()
	c.Send(tag + " FETCH 1 BODY.PEEK[]\r\n")
	if n, want := c.Literal(sha256.New()), len(realMail("compressed")); n != int64(want) {
		t.Errorf("received %d octets, want %d", n, want)
	}
	c.Expect(")")
	c.Until(tag + " OK")
	c.Logout()
}

// realCompressed is a connection on which COMPRESS DEFLATE was accepted.
type realCompressed struct {
	net.Conn
	w *flate.Writer
	r io.Reader
}

func (c *realCompressed) Read(p []byte) (int, error) { return c.r.Read(p) }

func (c *realCompressed) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err == nil {
		err = c.w.Flush()
	}
	return n, err
}

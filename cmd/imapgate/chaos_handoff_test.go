package main_test

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"imapgate/proxy/proxytest"
)

// TestChaosHandOff logs in with commands pipelined behind the login, in random
// framings, in pieces of random sizes and with random pauses, both ways: every reply
// comes, in order, and every octet is the one that was sent.
func TestChaosHandOff(t *testing.T) {
	logins := sized(300, 10_000)
	ca := newRealCA(t, "test")
	b := startChaosBackend(t, proxytest.FreeAddress(t))
	g := startRealGate(t, realGateConfig{
		CA: ca, Backends: realMap{"mail1": realMap{"address": b.Address, "tls": "none"}}, Default: "mail1", Secrets: []string{crowdPassword},
		More: realMap{"log": realMap{"format": "json", "level": "warn"}},
	})
	var octets atomic.Int64
	var wg sync.WaitGroup
	slots := make(chan struct{}, 16)
	for i := range logins {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			n, err := handOff(g, uint64(i))
			if err != nil {
				t.Errorf("login %d: %v", i, err)
			}
			octets.Add(n)
		})
		if t.Failed() {
			break
		}
	}
	wg.Wait()
	t.Logf("%d logins, %d octets: all replies in order, all sums equal", logins, octets.Load())
}

// handOff is one of them. All that is random in it comes of its number.
func handOff(g *realGate, number uint64) (int64, error) {
	random := rand.New(rand.NewPCG(number, 2))
	conn, err := tls.Dial("tcp", g.TLS, g.tlsConfig())
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(realPatience)); err != nil {
		return 0, err
	}
	user := fmt.Sprintf("u%d@example.org", number%50)
	var out bytes.Buffer
	var want []func(*bufio.Reader) error
	expect := func(line string) {
		want = append(want, func(in *bufio.Reader) error { return expectPrefix(in, line) })
	}
	expect("* OK ")
	switch number % 4 {
	case 0:
		fmt.Fprintf(&out, "l LOGIN %s %s\r\n", user, crowdPassword)
	case 1:
		fmt.Fprintf(&out, "l login \"%s\" {%d+}\r\n%s\r\n", user, len(crowdPassword), crowdPassword)
	case 2:
		fmt.Fprintf(&out, "l LOGIN {%d+}\r\n%s {%d+}\r\n%s\r\n", len(user), user, len(crowdPassword), crowdPassword)
	case 3:
		fmt.Fprintf(&out, "n NOOP\r\nl AUTHENTICATE PLAIN %s\r\n", realPlain("", user, crowdPassword))
		expect("n OK ")
	}
	expect("l OK ")
	expect("* 1 EXISTS")
	for i := range 1 + random.IntN(8) {
		size := random.IntN(1 << random.IntN(17))
		switch random.IntN(3) {
		case 0:
			fmt.Fprintf(&out, "c%d NOOP\r\n", i)
		case 1:
			p := proxytest.Octets(random.Uint64(), size)
			sum := sha256.Sum256(p)
			fmt.Fprintf(&out, "c%d XSUM {%d+}\r\n%s\r\n", i, size, p)
			expect("* XSUM " + hex.EncodeToString(sum[:]))
		case 2:
			seed := random.Uint64()
			fmt.Fprintf(&out, "c%d XGET %d %d\r\n", i, seed, size)
			want = append(want, func(in *bufio.Reader) error { return expectOctets(in, proxytest.Octets(seed, size)) })
		}
		expect(fmt.Sprintf("c%d OK", i))
	}
	out.WriteString("o LOGOUT\r\n")
	expect("* BYE")
	expect("o OK")

	total := int64(out.Len())
	sent := make(chan error, 1)
	go func() {
		w := io.Writer(conn)
		if number%8 != 0 {
			w = proxytest.NewRagged(conn, number)
		}
		_, err := w.Write(out.Bytes())
		sent <- err
	}()
	in := &counting{r: conn}
	r := bufio.NewReader(in)
	for _, check := range want {
		if err := check(r); err != nil {
			return 0, err
		}
	}
	if _, err := r.ReadByte(); err != io.EOF {
		return 0, fmt.Errorf("behind the last reply: %w", err)
	}
	return total + in.n, <-sent
}

type counting struct {
	r io.Reader
	n int64
}

// Read counts what it reads.
func (c *counting) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

var errChaos = errors.New("not what was asked for")

func expectPrefix(in *bufio.Reader, want string) error {
	line, err := in.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, want) {
		return fmt.Errorf("got %.200q, want %q: %w", line, want, orChaos(err))
	}
	return nil
}

// expectOctets reads the reply to an XGET.
func expectOctets(in *bufio.Reader, want []byte) error {
	if err := expectPrefix(in, fmt.Sprintf("* XGET {%d}\r\n", len(want))); err != nil {
		return err
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(in, got); err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return fmt.Errorf("%d octets are not those that were sent: %w", len(want), errChaos)
	}
	return expectPrefix(in, "\r\n")
}

func orChaos(err error) error {
	if err == nil {
		return errChaos
	}
	return err
}

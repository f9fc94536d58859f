package proxytest

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// ServePlain serves a cheap IMAP server on a TCP address, for tests that want one in a
// process of its own. It lets everybody in, answers every command with OK, and knows
// two of its own: XSUM takes a non-synchronizing literal and answers with the SHA-256
// of its octets; XGET SEED N answers with a literal, [Octets](SEED, N). What it sends
// after a login it sends in pieces of random sizes.
//
// It serves until listening fails, or the process that started it has ended.
func ServePlain(ctx context.Context, address string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	go func() {
		defer l.Close()
		tick := time.NewTicker(time.Second)
		defer tick.Stop()
		for parent := os.Getppid(); os.Getppid() == parent; {
			<-tick.C
		}
	}()
	for {
		nc, err := l.Accept()
		if err != nil {
			return err
		}
		go servePlain(nc)
	}
}

const plainCapabilities = "IMAP4rev1 SASL-IR LITERAL+ ID IDLE AUTH=PLAIN"

func servePlain(nc net.Conn) {
	defer nc.Close()
	out := NewRagged(nc, rand.Uint64()) //nolint:gosec // a test's
	w := io.Writer(nc)
	in := bufio.NewReaderSize(nc, 64<<10)
	say := func(line string) { _, _ = io.WriteString(w, line+"\r\n") }
	say("* OK [CAPABILITY " + plainCapabilities + "] ready")
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		tag, rest, _ := strings.Cut(strings.TrimRight(line, "\r\n"), " ")
		verb, args, _ := strings.Cut(rest, " ")
		switch strings.ToUpper(verb) {
		case "AUTHENTICATE", "LOGIN":
			w = out
			say(tag + " OK [CAPABILITY " + plainCapabilities + "] in\r\n* 1 EXISTS")
		case "IDLE":
			say("+ idling")
			if line, err = in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "DONE") {
				return
			}
			say(tag + " OK done")
		case "LOGOUT":
			say("* BYE\r\n" + tag + " OK")
			return
		case "XSUM":
			n, err := strconv.ParseInt(strings.Trim(args, "{+}"), 10, 64)
			h := sha256.New()
			if err == nil {
				_, err = io.CopyN(h, in, n)
			}
			if err != nil {
				return
			}
			_, _ = in.ReadString('\n')
			say("* XSUM " + hex.EncodeToString(h.Sum(nil)) + "\r\n" + tag + " OK")
		case "XGET":
			var s uint64
			var n int
			if _, err := fmt.Sscan(args, &s, &n); err != nil {
				return
			}
			say(fmt.Sprintf("* XGET {%d}\r\n%s\r\n%s OK", n, Octets(s, n), tag))
		default:
			say(tag + " OK")
		}
	}
}

// Octets returns n octets of all values, always the same for a seed.
func Octets(seed uint64, n int) []byte {
	var key [32]byte
	binary.BigEndian.PutUint64(key[:], seed)
	p := make([]byte, n)
	_, _ = rand.NewChaCha8(key).Read(p)
	return p
}

// Ragged is a writer that writes in pieces of random sizes, with a pause now and then.
type Ragged struct {
	w      io.Writer
	random *rand.Rand
}

// NewRagged returns a writer to w; what is random about it comes of the seed.
func NewRagged(w io.Writer, seed uint64) *Ragged {
	return &Ragged{w: w, random: rand.New(rand.NewPCG(seed, 0))} //nolint:gosec // a test's
}

// Write writes all of p.
func (r *Ragged) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		size := 1 + r.random.IntN(1<<r.random.IntN(16))
		n, err := r.w.Write(p[done:min(len(p), done+size)])
		if done += n; err != nil {
			return done, err
		}
		if r.random.IntN(16) == 0 {
			<-time.After(time.Duration(r.random.IntN(2000)) * time.Microsecond)
		}
	}
	return len(p), nil
}

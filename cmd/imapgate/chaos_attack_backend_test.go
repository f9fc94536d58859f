package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

// quickBackend is an IMAP server on loopback that lets in whoever says goodSecret,
// and does little else, as quickly as it can.
type quickBackend struct {
	address string
	rejects time.Duration // how long a wrong password takes
}

// goodSecret is in the password, or in the token, of a login that succeeds.
const goodSecret = "good-"

const quickCapabilities = "IMAP4rev1 SASL-IR LITERAL+ ID AUTH=PLAIN AUTH=LOGIN AUTH=XOAUTH2 AUTH=OAUTHBEARER"

func startQuickBackend(t *testing.T, rejects time.Duration) *quickBackend {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &quickBackend{address: l.Addr().String(), rejects: rejects}
	var (
		serving sync.WaitGroup
		mu      sync.Mutex
		open    = make(map[net.Conn]struct{})
	)
	serving.Go(func() {
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[nc] = struct{}{}
			mu.Unlock()
			serving.Go(func() {
				b.serve(nc)
				mu.Lock()
				delete(open, nc)
				mu.Unlock()
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		mu.Lock()
		for nc := range open {
			_ = nc.Close()
		}
		mu.Unlock()
		serving.Wait()
	})
	return b
}

// serve serves one connection.
func (b *quickBackend) serve(nc net.Conn) {
	defer nc.Close()
	in := bufio.NewReaderSize(nc, 512)
	say := func(format string, args ...any) { _, _ = fmt.Fprintf(nc, format+"\r\n", args...) }
	line := func() (string, bool) {
		s, err := in.ReadString('\n')
		return strings.TrimRight(s, "\r\n"), err == nil
	}
	say("* OK [CAPABILITY %s] Hello.", quickCapabilities)
	for {
		s, ok := line()
		if !ok {
			return
		}
		words := append(strings.SplitN(s, " ", 4), "", "", "", "")
		tag := words[0]
		switch strings.ToUpper(words[1]) {
		case "AUTHENTICATE":
			secret := words[3]
			if words[2] == "LOGIN" {
				say("+ ")
				_, _ = line()
				say("+ ")
				secret, _ = line()
			}
			message, _ := base64.StdEncoding.DecodeString(secret)
			b.judge(say, tag, string(message))
		case "LOGIN":
			b.judge(say, tag, s)
		case "LOGOUT":
			say("* BYE Bye.")
			say("%s OK Done.", tag)
			return
		default:
			say("%s OK Done.", tag)
		}
	}
}

func (b *quickBackend) judge(say func(string, ...any), tag, said string) {
	if strings.Contains(said, goodSecret) {
		say("%s OK [CAPABILITY IMAP4rev1 IDLE] Logged in.", tag)
		return
	}
	if b.rejects > 0 {
		<-time.After(b.rejects)
	}
	say("%s NO [AUTHENTICATIONFAILED] No.", tag)
}

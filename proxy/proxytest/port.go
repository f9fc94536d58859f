package proxytest

import (
	"context"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"testing"
)

// handed are the ports that were handed out: who was told one may not listen yet.
var handed sync.Map

// FreePort returns a TCP port of 127.0.0.1 that nobody listens on. It stays below the
// range that the system takes the ports of outgoing connections from, so that none of
// them has the port when the test listens.
func FreePort(tb testing.TB) int {
	tb.Helper()
	for range 100 {
		port := 10000 + rand.IntN(20000) //nolint:gosec // it is no secret
		if _, taken := handed.LoadOrStore(port, true); taken {
			continue
		}
		l, err := new(net.ListenConfig).Listen(context.WithoutCancel(tb.Context()), "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err != nil {
			continue
		}
		_ = l.Close()
		return port
	}
	tb.Fatal("no free port")
	return 0
}

// FreeAddress returns an address of 127.0.0.1 with such a port.
func FreeAddress(tb testing.TB) string {
	tb.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(FreePort(tb)))
}

package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// TestLateLoginsWhoseDialEndsEarly has clients log in when their time is nearly over,
// over a dialer that gives up a little before its context ends: a real one sets timers
// of its own. That too says nothing about the backend.
func TestLateLoginsWhoseDialEndsEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{network: new(proxytest.Network), logs: new(bytes.Buffer)}
		var dialled atomic.Int64
		g.start(t, oneBackend(t), proxy.Listener{TLS: proxy.TLSNone}, func(ctx context.Context, _ *proxy.Backend) (net.Conn, error) {
			dialled.Add(1)
			ends, _ := ctx.Deadline()
			time.Sleep(time.Until(ends) - time.Millisecond)
			return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.ErrDeadlineExceeded}
		})
		var clients []*client
		for _, from := range []string{"192.0.2.1:40000", "192.0.2.99:40000", "198.51.100.7:40000"} {
			nc, err := g.listener.Connect(netip.MustParseAddrPort(from))
			if err != nil {
				t.Fatal(err)
			}
			c := &client{t: t, nc: nc, in: bufio.NewReader(nc), seen: new(bytes.Buffer)}
			t.Cleanup(func() { _ = nc.Close() })
			c.line()
			clients = append(clients, c)
		}
		time.Sleep(59 * time.Second)
		before := dialled.Load()
		for _, c := range clients {
			c.send("a1 LOGIN alice secret\r\n")
			synctest.Wait()
		}
		for _, c := range clients {
			if line := c.line(); !strings.HasPrefix(line, "a1 NO [UNAVAILABLE]") {
				t.Errorf("got %q", line)
			}
		}
		if n := dialled.Load() - before; n < int64(len(clients)) {
			t.Errorf("dialled %d times for %d clients", n, len(clients))
		}
		synctest.Wait()
		if logs := g.logs.String(); strings.Contains(logs, "backend down") {
			t.Errorf("the backend is blamed:\n%s", logs)
		}
	})
}

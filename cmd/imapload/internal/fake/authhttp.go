//go:build linux

package fake

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync/atomic"
)

// ServeAuthHTTP answers nginx's auth_http requests: every login is fine, and lives
// on the next of the backends. It is no net/http server, since its CPU time is
// counted as nginx's.
func ServeAuthHTTP(ctx context.Context, listener net.Listener, backends []string) error {
	var replies [][]byte
	for _, b := range backends {
		host, port, err := net.SplitHostPort(b)
		if err != nil {
			return err
		}
		replies = append(replies, fmt.Appendf(nil, "HTTP/1.0 200 OK\r\nAuth-Status: OK\r\nAuth-Server: %s\r\nAuth-Port: %s\r\n"+
			"Content-Length: 0\r\nConnection: close\r\n\r\n", host, port))
	}
	var next atomic.Uint64
	return serve(ctx, listener, func(_ context.Context, conn net.Conn) {
		var request [2048]byte
		for n := 0; !bytes.Contains(request[:n], []byte("\r\n\r\n")); {
			k, err := conn.Read(request[n:])
			if err != nil || n+k == len(request) {
				return
			}
			n += k
		}
		_, _ = conn.Write(replies[next.Add(1)%uint64(len(replies))])
	})
}

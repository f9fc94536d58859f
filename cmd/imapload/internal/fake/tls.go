//go:build linux

package fake

import (
	"context"
	"crypto/tls"
	"net"
)

// ServeTLS is the backend with TLS, until ctx ends. No mail arrives here.
func ServeTLS(ctx context.Context, listener net.Listener, conf *tls.Config) error {
	mail := text(64 << 10)
	return serve(ctx, listener, func(_ context.Context, raw net.Conn) {
		conn := tls.Server(raw, conf)
		if _, err := conn.Write([]byte(greeting)); err != nil {
			return
		}
		s := session{body: defaultBody}
		in := make([]byte, 4096)
		var out []byte
		for !s.bye {
			n, err := conn.Read(in)
			if err != nil {
				return
			}
			for left := in[:n]; len(left) > 0 && !s.bye; {
				used, replies, body := s.feed(left, out[:0])
				left, out = left[used:], replies
				if len(out) > 0 {
					if _, err := conn.Write(out); err != nil {
						return
					}
				}
				if body < 0 {
					continue
				}
				for ; body > 0; body -= min(body, int64(len(mail))) {
					if _, err := conn.Write(mail[:min(body, int64(len(mail)))]); err != nil {
						return
					}
				}
				if _, err := conn.Write(s.fetched(out[:0])); err != nil {
					return
				}
			}
		}
	})
}

//go:build linux

package fake

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"time"
)

// pushLine asks for mail: how many a second, and for how many seconds. The answer
// is one line, how many there were.
const pushLine = "push %g %g\n"

// ServeControl lets mail arrive at b when it is asked to, until ctx ends.
func ServeControl(ctx context.Context, listener net.Listener, b *Backend) error {
	return serve(ctx, listener, func(ctx context.Context, conn net.Conn) {
		in := bufio.NewReader(conn)
		for {
			var perSecond, seconds float64
			if _, err := fmt.Fscanf(in, pushLine, &perSecond, &seconds); err != nil {
				return
			}
			sent, err := b.Push(ctx, perSecond, time.Duration(seconds*float64(time.Second)))
			if err != nil {
				return
			}
			_, _ = fmt.Fprintln(conn, sent)
		}
	})
}

// AskPush asks a control port for mail, waits until all has been sent, and returns
// how many that was.
func AskPush(ctx context.Context, control string, perSecond float64, duration time.Duration) (int64, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", control)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	var sent int64
	if _, err := fmt.Fprintf(conn, pushLine, perSecond, duration.Seconds()); err != nil {
		return 0, err
	}
	_, err = fmt.Fscanln(conn, &sent)
	return sent, err
}

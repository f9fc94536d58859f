//go:build linux

package fake

import (
	"context"
	"net"
	"time"
)

// linkBuffer is how many reads of a direction may be under way on a line.
const linkBuffer = 1024

// ServeLink passes connections on to a backend over a line that takes delay in
// each direction, until ctx ends. Who connects to loopback is connected at once;
// so what the three segments of a real line's connection take is waited for here,
// before the backend hears of it.
func ServeLink(ctx context.Context, listener net.Listener, backend string, delay time.Duration) error {
	return serve(ctx, listener, func(ctx context.Context, near net.Conn) {
		if pause(ctx, 3*delay) != nil {
			return
		}
		far, err := new(net.Dialer).DialContext(ctx, "tcp", backend)
		if err != nil {
			return
		}
		defer far.Close()
		stop := context.AfterFunc(ctx, func() { _ = far.Close() })
		defer stop()
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			carry(ctx, far, near, delay)
		}()
		carry(ctx, near, far, delay)
		_ = near.Close()
		_ = far.Close()
		<-sent
	})
}

// carry copies src to dst, each read delay after it was made.
func carry(ctx context.Context, dst, src net.Conn, delay time.Duration) {
	type segment struct {
		data []byte
		due  time.Time
	}
	line := make(chan segment, linkBuffer)
	go func() { // ends with src, which the caller closes
		defer close(line)
		buf := make([]byte, 64<<10)
		for {
			n, err := src.Read(buf)
			if n > 0 {
				select {
				case line <- segment{append([]byte(nil), buf[:n]...), time.Now().Add(delay)}:
				case <-ctx.Done():
					return
				}
			}
			if err != nil {
				return
			}
		}
	}()
	failed := false
	for s := range line {
		if failed || pause(ctx, time.Until(s.due)) != nil {
			continue
		}
		if _, err := dst.Write(s.data); err != nil {
			failed = true
			_ = src.Close()
		}
	}
	if half, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// pause waits.
func pause(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

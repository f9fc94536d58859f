//go:build linux

package fake

import (
	"context"
	"fmt"
	"net"
	"sync"
)

// serve calls handle in a goroutine for each connection until ctx ends. It then
// closes listener and connections, and waits for the goroutines.
func serve(ctx context.Context, listener net.Listener, handle func(context.Context, net.Conn)) error {
	var conns sync.WaitGroup
	defer conns.Wait()
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		conns.Go(func() {
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			defer conn.Close()
			handle(ctx, conn)
		})
	}
}

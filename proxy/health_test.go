package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// TestBackendsThatHangDelayNoLookAtOthers has many backends that are dialled and
// never answer, and one that is well.
func TestBackendsThatHangDelayNoLookAtOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		cfg := oneBackend(t)
		cfg.Check = proxy.Check{Interval: time.Second, Timeout: 10 * time.Second}
		for i := range 50 {
			name := fmt.Sprintf("hung%d", i)
			cfg.Backends[name] = &proxy.Backend{Name: name, Address: name + ":143", TLS: proxy.TLSNone}
		}
		g := &gate{network: new(proxytest.Network), logs: new(bytes.Buffer)}
		g.network.Add("mail1", &proxytest.Backend{})
		var looks, hung atomic.Int64
		g.start(t, cfg, proxy.Listener{TLS: proxy.TLSNone}, func(ctx context.Context, b *proxy.Backend) (net.Conn, error) {
			if b.Name == "mail1" {
				looks.Add(1)
				return g.network.Dial(ctx, b)
			}
			hung.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		})
		<-time.After(30 * time.Second)
		if n := looks.Load(); n < 30 {
			t.Errorf("%d looks in 30 seconds at the backend that is well", n)
		}
		if n := hung.Load(); n < 3*50 {
			t.Errorf("%d looks at those that hang", n)
		}
	})
}

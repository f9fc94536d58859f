package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

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

// TestWhatIsOursTakesNoBackendDown has a backend not reached for reasons that say
// nothing about it, by two clients at different addresses and by every look at it.
// Its sessions go on.
func TestWhatIsOursTakesNoBackendDown(t *testing.T) {
	t.Parallel()
	noSocket := &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("socket", syscall.EMFILE)}
	for _, c := range []struct {
		name  string
		err   error
		down  bool
		lacks []string
	}{
		{"no descriptor", noSocket, false, []string{proxy.LackDescriptors}},
		{"no memory", &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ENOBUFS)}, false, []string{proxy.LackDescriptors}},
		{"no port", &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.EADDRNOTAVAIL)}, false, nil},
		{"refused", &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}, true, nil},
		{"no name server", &net.DNSError{Err: "server misbehaving", Name: "mail1", IsTemporary: true}, false, nil},
		{"no descriptor to ask a name server", &net.DNSError{Err: noSocket.Error(), Name: "mail1", IsTemporary: noSocket.Temporary()}, false, nil},
		{"no such name", &net.DNSError{Err: "no such host", Name: "mail1", IsNotFound: true}, true, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := oneBackend(t)
				cfg.Check = proxy.Check{Interval: 5 * time.Second, Fall: 2, Rise: 1}
				g := &gate{network: new(proxytest.Network), logs: new(bytes.Buffer)}
				g.network.Add("mail1", new(proxytest.Backend))
				var refusing atomic.Bool
				g.start(t, cfg, proxy.Listener{TLS: proxy.TLSNone}, func(ctx context.Context, b *proxy.Backend) (net.Conn, error) {
					if refusing.Load() {
						return nil, &net.OpError{Op: "dial", Net: "tcp", Err: c.err}
					}
					return g.network.Dial(ctx, b)
				})
				session, _ := g.greeted(t, "192.0.2.1:1")
				session.command("LOGIN alice secret")
				refusing.Store(true)
				for _, from := range []string{"192.0.2.2:1", "198.51.100.2:1"} {
					client, _ := g.greeted(t, from)
					if reply, _ := client.command("LOGIN alice secret"); !strings.HasPrefix(reply, "NO [UNAVAILABLE]") {
						t.Errorf("a login was told %q", reply)
					}
				}
				if diff := cmp.Diff(c.lacks, g.server.Overload()); diff != "" {
					t.Errorf("lacks (-want +got):\n%s", diff)
				}
				<-time.After(2 * time.Minute)
				synctest.Wait()
				if down := strings.Contains(g.logs.String(), "backend down"); down != c.down {
					t.Errorf("the backend is down: %t", down)
				}
				if n := len(g.server.Sessions()); (n == 0) != c.down {
					t.Errorf("%d sessions are left", n)
				}
			})
		})
	}
}

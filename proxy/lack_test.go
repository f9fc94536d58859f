package proxy_test

import (
	"bytes"
	"context"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// TestWantOfOurOwnIsNoFaultOfTheBackend lets the system refuse connections to a backend,
// for want of something here, and then for the network's sake.
func TestWantOfOurOwnIsNoFaultOfTheBackend(t *testing.T) {
	for errno, down := range map[syscall.Errno]bool{
		syscall.EMFILE: false, syscall.ENFILE: false, syscall.ENOBUFS: false, syscall.ENOMEM: false,
		syscall.EADDRNOTAVAIL: false, syscall.ECONNREFUSED: true, syscall.EHOSTUNREACH: true,
	} {
		synctest.Test(t, func(t *testing.T) {
			cfg := oneBackend(t)
			cfg.Checks = map[string]proxy.Check{"mail1": {Interval: time.Second, Fall: 2, Rise: 1}}
			g := &gate{network: new(proxytest.Network), logs: new(bytes.Buffer)}
			g.start(t, cfg, proxy.Listener{TLS: proxy.TLSNone}, func(context.Context, *proxy.Backend) (net.Conn, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: os.NewSyscallError("connect", errno)}
			})
			<-time.After(time.Minute)
			synctest.Wait()
			if is := strings.Contains(g.logs.String(), `"backend down"`); is != down {
				t.Errorf("%v: the backend is down: %t", errno, is)
			}
		})
	}
}

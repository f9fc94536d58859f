package proxy_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// slowBackend answers each login after a tenth of a second, and counts those that
// come in each. It can be away.
type slowBackend struct {
	mu     sync.Mutex
	away   bool
	began  time.Time
	counts []int // of logins, by tenths of a second since began
}

func (s *slowBackend) serve(b *proxytest.BackendConn) {
	_ = b.Say("* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] Hello.")
	for {
		tag, line, err := b.ReadTag()
		if err != nil {
			return
		}
		if !strings.Contains(line, " AUTHENTICATE ") {
			_ = b.Say(tag + " OK Done.")
			continue
		}
		s.mu.Lock()
		at := int(time.Since(s.began) / (100 * time.Millisecond))
		s.counts = append(s.counts, make([]int, max(0, at+1-len(s.counts)))...)
		s.counts[at]++
		s.mu.Unlock()
		<-time.After(100 * time.Millisecond)
		_ = b.Say(tag + " OK [CAPABILITY IMAP4rev1] Logged in.")
	}
}

// TestABackendThatComesBackBeginsSmall has many clients log in in the same moment:
// to a backend that nobody knows yet, to one that was away, and to one that was away
// for long.
func TestABackendThatComesBackBeginsSmall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const clients, most = 200, 50
		slow := &slowBackend{}
		cfg := oneBackend(t)
		cfg.Backends["mail1"].MaxLogins = most
		cfg.Checks = map[string]proxy.Check{"mail1": {Interval: time.Second, Fall: 1, Rise: 1}}
		g := &gate{network: new(proxytest.Network), logs: new(bytes.Buffer)}
		g.network.Add("mail1", &proxytest.Backend{Serve: slow.serve})
		g.start(t, cfg, proxy.Listener{TLS: proxy.TLSNone}, func(ctx context.Context, b *proxy.Backend) (net.Conn, error) {
			slow.mu.Lock()
			defer slow.mu.Unlock()
			if slow.away {
				return nil, errors.New("refused")
			}
			return g.network.Dial(ctx, b)
		})
		rush := func(want ...int) {
			t.Helper()
			slow.mu.Lock()
			slow.began, slow.counts = time.Now(), nil
			slow.mu.Unlock()
			all := make([]*client, clients)
			var wg sync.WaitGroup
			for i := range all {
				all[i] = g.connect(t)
				all[i].line()
			}
			for _, c := range all {
				wg.Go(func() {
					if reply, _ := c.command("LOGIN alice secret"); !strings.HasPrefix(reply, "OK ") {
						t.Errorf("told %q", reply)
					}
				})
			}
			synctest.Wait()
			if load := g.server.Logins()["mail1"]; load != (proxy.LoginLoad{InFlight: want[0], Waiting: clients - want[0], Room: want[0]}) {
				t.Errorf("under way: %+v", load)
			}
			wg.Wait()
			if !slices.Equal(slow.counts, want) {
				t.Errorf("logins in each tenth of a second: %v, want %v", slow.counts, want)
			}
			for _, c := range all {
				_ = c.nc.Close()
			}
			synctest.Wait()
			if load := g.server.Logins()["mail1"]; load.InFlight != 0 || load.Waiting != 0 {
				t.Errorf("nobody logs in: %+v", load)
			}
		}
		away := func(d time.Duration) {
			for _, gone := range []bool{true, false} {
				slow.mu.Lock()
				slow.away = gone
				slow.mu.Unlock()
				<-time.After(d)
				d = 5 * time.Second // two looks at least
			}
		}
		synctest.Wait()
		rush(8, 16, 32, 50, 50, 44)
		rush(50, 50, 50, 50) // it is known by now
		away(10 * time.Second)
		rush(8, 16, 32, 50, 50, 44)
		away(time.Minute)
		rush(1, 2, 4, 8, 16, 32, 50, 50, 37)
	})
}

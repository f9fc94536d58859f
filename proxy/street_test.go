package proxy_test

import (
	"bufio"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
	"imapgate/route"
)

// patience is how long the other end of a connection may take in these tests.
const patience = time.Minute

// street is a server on loopback, with TLS and without, and two backends, with TLS
// and without: what is here is real sockets, so that sessions are parked. TLS records
// come in pieces.
type street struct {
	server       *proxy.Server
	clear, tls   string // addresses of the listeners
	clientConfig *tls.Config

	mu    sync.Mutex
	plans map[string]func(net.Conn, *bufio.Reader) // what the backend does with a user, once logged in
}

// twoTables sends users whose name begins with "s" to the backend with TLS.
type twoTables struct{ clear, secure *route.Table }

func (t twoTables) Begin(key string) (*route.Lease, error) {
	if strings.HasPrefix(key, "s") {
		return t.secure.Begin(key)
	}
	return t.clear.Begin(key)
}

func newStreet(tb testing.TB) *street {
	tb.Helper()
	ca := proxytest.NewCA(tb)
	config := &tls.Config{Certificates: []tls.Certificate{ca.Issue(tb, proxytest.CertOptions{})}, MinVersion: tls.VersionTLS12}
	st := &street{
		clientConfig: &tls.Config{RootCAs: ca.Pool(), ServerName: "localhost", MinVersion: tls.VersionTLS12},
		plans:        make(map[string]func(net.Conn, *bufio.Reader)),
	}
	cfg := oneBackend(tb)
	// However busy the machine is, nobody is to be late.
	cfg.LoginTimeout, cfg.TLSTimeout, cfg.BackendTimeout, cfg.ConnectTimeout = patience, patience, patience, patience
	cfg.Router = twoTables{everyoneAt(tb, "mail1"), everyoneAt(tb, "mail2")}
	for name, config := range map[string]*tls.Config{"mail1": nil, "mail2": config} {
		b := &proxy.Backend{Name: name, TLS: proxy.TLSNone}
		if config != nil {
			b.TLS, b.TLSConfig = proxy.TLSImplicit, st.clientConfig
		}
		l := listen(tb)
		b.Address = l.Addr().String()
		cfg.Backends[name] = b
		var serving sync.WaitGroup
		serving.Go(func() { st.accept(l, config, &serving) })
		tb.Cleanup(func() {
			_ = l.Close()
			serving.Wait()
		})
	}
	var err error
	if st.server, err = proxy.NewServer(cfg, proxy.Options{Logger: zap.NewNop()}); err != nil {
		tb.Fatal(err)
	}
	var serving sync.WaitGroup
	for _, l := range []*proxy.Listener{
		{Listener: listen(tb), Name: "clear", TLS: proxy.TLSNone},
		{Listener: listen(tb), Name: "tls", TLS: proxy.TLSImplicit, TLSConfig: config},
	} {
		if l.TLS == proxy.TLSNone {
			st.clear = l.Addr().String()
		} else {
			st.tls = l.Addr().String()
		}
		serving.Go(func() {
			if err := st.server.Serve(tb.Context(), l); err != nil && !errors.Is(err, proxy.ErrServerClosed) {
				tb.Errorf("Serve: %v", err)
			}
		})
	}
	tb.Cleanup(func() {
		_ = st.server.Close()
		serving.Wait()
	})
	return st
}

func listen(tb testing.TB) net.Listener {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	return l
}

// accept serves logins at a backend.
func (st *street) accept(l net.Listener, config *tls.Config, wg *sync.WaitGroup) {
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		wg.Go(func() {
			defer nc.Close()
			_ = nc.SetDeadline(time.Now().Add(patience))
			if config != nil {
				nc = tls.Server(torn{nc}, config)
			}
			in := bufio.NewReader(nc)
			_, _ = io.WriteString(nc, "* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready\r\n")
			line, err := in.ReadString('\n')
			if err != nil {
				return
			}
			words := strings.Fields(line)
			secret, _ := base64.StdEncoding.DecodeString(words[len(words)-1])
			user := strings.Split(string(secret), "\x00")[1]
			st.mu.Lock()
			act := st.plans[user]
			delete(st.plans, user)
			st.mu.Unlock()
			_, _ = io.WriteString(nc, words[0]+" OK [CAPABILITY IMAP4rev1] Logged in.\r\n")
			act(nc, in)
		})
	}
}

// login opens a session. The backend goes on with act.
func (st *street) login(user string, withTLS bool, act func(net.Conn, *bufio.Reader)) (net.Conn, *bufio.Reader, error) {
	st.mu.Lock()
	st.plans[user] = act
	st.mu.Unlock()
	address := st.clear
	if withTLS {
		address = st.tls
	}
	nc, err := net.Dial("tcp", address)
	if err != nil {
		return nil, nil, err
	}
	_ = nc.SetDeadline(time.Now().Add(patience))
	if withTLS {
		nc = tls.Client(torn{nc}, st.clientConfig)
	}
	in := bufio.NewReader(nc)
	_, err = in.ReadString('\n')
	if err == nil {
		_, err = fmt.Fprintf(nc, "a1 LOGIN %s secret\r\n", user)
	}
	var line string
	if err == nil {
		line, err = in.ReadString('\n')
	}
	if err == nil && !strings.HasPrefix(line, "a1 OK ") {
		err = fmt.Errorf("login: %q", line)
	}
	if err != nil {
		_ = nc.Close()
		return nil, nil, err
	}
	return nc, in, nil
}

// torn is a connection that sends a part of what is written in pieces, which end
// wherever it happens.
type torn struct{ net.Conn }

// Write implements [net.Conn].
func (c torn) Write(p []byte) (n int, err error) {
	for err == nil && n < len(p) && rand.IntN(4) == 0 {
		var m int
		m, err = c.Conn.Write(p[n : n+1+rand.IntN(min(len(p)-n, 1<<rand.IntN(14)))])
		if n += m; rand.IntN(4) == 0 {
			<-time.After(time.Duration(rand.IntN(300)) * time.Microsecond)
		}
	}
	if err != nil || n == len(p) {
		return n, err
	}
	m, err := c.Conn.Write(p[n:])
	return n + m, err
}

// CloseWrite passes a half-close on.
func (c torn) CloseWrite() error { return endWriting(c.Conn) }

package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// These are measured over real sockets: what a session costs lies in them. The
// clients and the backend are in the same process, and their share is counted too;
// "make bench-peers" measures the proxy alone.

// benchWorld is a server with TLS in front of one backend in clear text.
type benchWorld struct {
	address string
	client  *tls.Config

	mu   sync.Mutex
	idle []net.Conn // connections to the backend that idle
}

func newBenchWorld(b *testing.B) *benchWorld {
	b.Helper()
	ca := proxytest.NewCA(b)
	w := &benchWorld{client: &tls.Config{RootCAs: ca.Pool(), ServerName: "imap.example.org"}}
	backend := benchListener(b)
	cfg := oneBackend(b)
	cfg.Backends["mail1"].Address = backend.Addr().String()
	server, err := proxy.NewServer(cfg, proxy.Options{Logger: zap.NewNop()})
	if err != nil {
		b.Fatal(err)
	}
	front := benchListener(b)
	w.address = front.Addr().String()
	l := proxy.Listener{
		Name: "bench", Listener: front, TLS: proxy.TLSImplicit,
		TLSConfig: &tls.Config{Certificates: []tls.Certificate{ca.Issue(b, proxytest.CertOptions{Hosts: []string{"imap.example.org"}})}},
	}
	var running sync.WaitGroup
	running.Go(func() {
		if err := server.Serve(b.Context(), &l); !errors.Is(err, proxy.ErrServerClosed) && b.Context().Err() == nil {
			b.Errorf("Serve: %v", err)
		}
	})
	running.Go(func() {
		for {
			conn, err := backend.Accept()
			if err != nil {
				return
			}
			running.Go(func() { w.serve(conn) })
		}
	})
	b.Cleanup(func() {
		_ = server.Close()
		_ = backend.Close()
		running.Wait()
	})
	return w
}

func benchListener(b *testing.B) net.Listener {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = l.Close() })
	return l
}

// serve is the backend: FETCH n sends n octets, APPEND {n+} takes them.
func (w *benchWorld) serve(conn net.Conn) {
	defer conn.Close()
	in := bufio.NewReader(conn)
	_, _ = fmt.Fprintf(conn, "* OK [CAPABILITY %s] ready\r\n", proxytest.DefaultCapabilities)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		if len(words) < 2 {
			continue // DONE
		}
		switch words[1] {
		case "FETCH":
			n, _ := strconv.Atoi(words[2])
			_, _ = conn.Write(bytes.Repeat([]byte("x"), n))
			_, _ = io.WriteString(conn, "\r\n")
		case "APPEND":
			n, _ := strconv.ParseInt(strings.Trim(words[2], "{+}"), 10, 64)
			_, _ = io.CopyN(io.Discard, in, n+2)
		case "ID":
			_, _ = io.WriteString(conn, "* ID NIL\r\n")
		case "IDLE":
			w.mu.Lock()
			w.idle = append(w.idle, conn)
			w.mu.Unlock()
			_, _ = io.WriteString(conn, "+ idling\r\n")
			continue
		case "LOGOUT":
			_, _ = io.WriteString(conn, "* BYE\r\n"+words[0]+" OK bye\r\n")
			return
		}
		_, _ = io.WriteString(conn, words[0]+" OK [CAPABILITY IMAP4rev1] done\r\n")
	}
}

// benchClient is one connection of a client.
type benchClient struct {
	b    *testing.B
	conn *tls.Conn
	in   *bufio.Reader
}

// connect connects and reads the greeting.
func (w *benchWorld) connect(b *testing.B) *benchClient {
	b.Helper()
	conn, err := tls.Dial("tcp", w.address, w.client)
	if err != nil {
		b.Fatal(err)
	}
	c := &benchClient{b, conn, bufio.NewReaderSize(conn, 64<<10)}
	c.line()
	return c
}

func (w *benchWorld) login(b *testing.B) *benchClient {
	b.Helper()
	c := w.connect(b)
	b.Cleanup(func() { _ = c.conn.Close() })
	c.command("LOGIN alice secret")
	return c
}

func (c *benchClient) line() string {
	c.b.Helper()
	line, err := c.in.ReadString('\n')
	if err != nil {
		c.b.Fatal(err)
	}
	return line
}

// command sends a command and reads up to its tagged response.
func (c *benchClient) command(command string) {
	c.b.Helper()
	if _, err := io.WriteString(c.conn, "a "+command+"\r\n"); err != nil {
		c.b.Fatal(err)
	}
	for line := ""; !strings.HasPrefix(line, "a OK"); {
		if line = c.line(); strings.HasPrefix(line, "a NO") || strings.HasPrefix(line, "a BAD") {
			c.b.Fatalf("%s: %s", command, line)
		}
	}
}

// BenchmarkSplice is what passes through a session.
func BenchmarkSplice(b *testing.B) {
	const size = 1 << 20
	b.Run("noop", func(b *testing.B) {
		c := newBenchWorld(b).login(b)
		b.ReportAllocs()
		for b.Loop() {
			c.command("NOOP")
		}
	})
	b.Run("download", func(b *testing.B) {
		c := newBenchWorld(b).login(b)
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := fmt.Fprintf(c.conn, "a FETCH %d\r\n", size); err != nil {
				b.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, c.in, size+2); err != nil {
				b.Fatal(err)
			}
			c.line()
		}
	})
	b.Run("upload", func(b *testing.B) {
		c := newBenchWorld(b).login(b)
		mail := fmt.Appendf(nil, "a APPEND {%d+}\r\n%s\r\n", size, bytes.Repeat([]byte("x"), size))
		b.SetBytes(size)
		b.ReportAllocs()
		for b.Loop() {
			if _, err := c.conn.Write(mail); err != nil {
				b.Fatal(err)
			}
			c.line()
		}
	})
}

// BenchmarkWake is mail that arrives for one of 1,000 idle sessions after the other,
// so that each has been silent for long.
func BenchmarkWake(b *testing.B) {
	w := newBenchWorld(b)
	var clients []*benchClient // in the order in which their backends idle
	for range 1000 {
		c := w.login(b)
		if _, err := io.WriteString(c.conn, "a IDLE\r\n"); err != nil {
			b.Fatal(err)
		}
		c.line()
		clients = append(clients, c)
	}
	i := 0
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.WriteString(w.idle[i], "* 1 EXISTS\r\n"); err != nil {
			b.Fatal(err)
		}
		clients[i].line()
		i = (i + 1) % len(w.idle)
	}
}

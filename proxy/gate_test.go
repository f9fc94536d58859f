package proxy_test

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
	"imapgate/route"
)

// gate is a server on an in-memory network, inside a bubble of testing/synctest.
type gate struct {
	server   *proxy.Server
	listener *proxytest.Listener
	network  *proxytest.Network
	logs     *bytes.Buffer // JSON, at debug level
	onLog    func(message string)
}

// newGate starts a server whose backend mail1 is the one given. It is closed, with
// everything on its network, when the test ends.
func newGate(t *testing.T, cfg *proxy.Config, l proxy.Listener, mail1 ...*proxytest.Backend) *gate {
	t.Helper()
	g := &gate{network: new(proxytest.Network), logs: new(bytes.Buffer)}
	for _, b := range mail1 {
		g.network.Add("mail1", b)
	}
	g.start(t, cfg, l, g.network.Dial)
	return g
}

// start starts the server of a gate that has its network.
func (g *gate) start(t *testing.T, cfg *proxy.Config, l proxy.Listener, dial proxy.DialFunc) {
	t.Helper()
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewDevelopmentEncoderConfig()), zapcore.Lock(zapcore.AddSync(g.logs)), zapcore.DebugLevel)
	g.serve(t, cfg, proxy.Options{Logger: zap.New(core, zap.Hooks(func(e zapcore.Entry) error {
		if g.onLog != nil {
			g.onLog(e.Message)
		}
		return nil
	})), Dial: dial}, l)
}

// serve starts the server, on a listener of its own.
func (g *gate) serve(t *testing.T, cfg *proxy.Config, o proxy.Options, l proxy.Listener) {
	t.Helper()
	server, err := proxy.NewServer(cfg, o)
	if err != nil {
		t.Fatal(err)
	}
	g.server = server
	g.listener = proxytest.NewListener(netip.MustParseAddrPort("198.51.100.1:143"))
	l.Listener, l.Name = g.listener, "test"
	done := make(chan error, 1)
	go func() { done <- server.Serve(t.Context(), &l) }()
	t.Cleanup(func() {
		_ = server.Close()
		g.network.Close()
		if err := <-done; err != nil && !errors.Is(err, proxy.ErrServerClosed) {
			t.Errorf("Serve: %v", err)
		}
	})
}

// oneBackend is a configuration in which everybody lives on mail1.
func oneBackend(tb testing.TB) *proxy.Config {
	tb.Helper()
	return &proxy.Config{
		Router:         everyoneAt(tb, "mail1"),
		Backends:       map[string]*proxy.Backend{"mail1": {Name: "mail1", Address: "10.0.0.1:143", TLS: proxy.TLSNone}},
		ExemptNetworks: []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")},
		MaxFailures:    1000,
	}
}

// nobody is a router that knows no user.
type nobody struct{}

func (nobody) Begin(string) (*route.Lease, error) { return nil, route.ErrUnknownUser }

// client is a client of a gate. Everything that it was told is kept.
type client struct {
	t    *testing.T
	nc   net.Conn
	in   *bufio.Reader
	seen *bytes.Buffer
	tag  int
}

func (g *gate) connect(t *testing.T) *client {
	t.Helper()
	nc, err := g.listener.Connect(netip.MustParseAddrPort("192.0.2.1:40000"))
	if err != nil {
		t.Fatal(err)
	}
	return newClient(t, nc)
}

func newClient(t *testing.T, nc net.Conn) *client {
	t.Helper()
	c := &client{t: t, nc: nc, in: bufio.NewReader(nc), seen: new(bytes.Buffer)}
	t.Cleanup(func() { _ = nc.Close() })
	return c
}

func (c *client) startTLS(config *tls.Config) {
	c.t.Helper()
	tc := tls.Client(c.nc, config)
	if err := tc.Handshake(); err != nil {
		c.t.Fatal(err)
	}
	c.nc = tc
	c.in.Reset(tc)
}

// line reads one line; "" when the connection has ended.
func (c *client) line() string {
	c.t.Helper()
	_ = c.nc.SetReadDeadline(time.Now().Add(10 * time.Minute))
	line, err := c.in.ReadString('\n')
	c.seen.WriteString(line)
	if errors.Is(err, net.ErrClosed) || err != nil && strings.Contains(err.Error(), "timeout") {
		c.t.Fatalf("no answer: %v; so far:\n%s", err, c.seen)
	}
	return strings.TrimSuffix(line, "\r\n")
}

func (c *client) send(format string, args ...any) {
	c.t.Helper()
	_, _ = fmt.Fprintf(c.nc, format, args...) // what matters is the answer
}

// command sends a command and returns its tagged response without the tag, and
// what came before it. Continuation requests are answered with answers. When the
// connection ends, reply is "".
func (c *client) command(command string, answers ...string) (reply string, before []string) {
	c.t.Helper()
	c.tag++
	tag := fmt.Sprintf("c%d", c.tag)
	c.send("%s %s\r\n", tag, command)
	for {
		line := c.line()
		text, tagged := strings.CutPrefix(line, tag+" ")
		switch {
		case line == "":
			return "", before
		case tagged:
			return text, before
		case strings.HasPrefix(line, "+"):
			if len(answers) == 0 {
				c.t.Fatalf("nothing to answer %q with", line)
			}
			c.send("%s\r\n", answers[0])
			answers = answers[1:]
		}
		before = append(before, line)
	}
}

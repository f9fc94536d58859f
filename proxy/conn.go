package proxy

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"

	"imapgate/proxy/imap"
)

// goodbyeTimeout bounds the writing of a last line to a client.
const goodbyeTimeout = 5 * time.Second

// conn is one client connection from accept until the splice, or until its end.
type conn struct {
	// Static after construction.
	srv     *Server
	cfg     *Config
	l       *Listener
	cancel  context.CancelFunc
	started time.Time
	log     *zap.Logger

	// Owned by run.
	nc       net.Conn             // what is spoken through: the socket, or TLS over it
	tlsState *tls.ConnectionState // nil: clear text
	mayLogin bool                 // whether credentials are taken
	in       *imap.Reader
	commands imap.CommandReader
	out      []byte // replies not written yet
	caps     []string
	origin   clientInfo // what is known of the client before its first command
	client   clientInfo // what is known of it now
	bad      int        // bad commands
	failed   int        // failed logins
	place    *place     // what it takes up of the limits
	state    string     // how far the connection came, for the log

	// Likewise, for a trace.
	trace    *tracer // nil: there is none
	tag      string  // of the last command that was understood
	received int     // octets of the client
	consumed int     // of these, when taken was called last

	mu          sync.Mutex
	raw         net.Conn // the socket
	interrupted error    // why the server ends it, nil while it does not: no deadline is moved any more
	spliced     bool     // the session's business from here on
}

// clientInfo is who the client is, as far as the proxy may believe it.
type clientInfo struct {
	session string         // names the session in logs, here and on the backend
	remote  netip.AddrPort // the client's own endpoint
	local   netip.AddrPort // the one it connected to
	name    string         // the host name it connected to (SNI)
	ttl     int            // how many more proxies may follow
	id      []imap.Pair    // what it told of itself with ID, the harmless keys
	tls     tlsInfo        // how its leg is encrypted, here or in front of here
}

// firstTTL is the x-proxy-ttl that a backend is told when no trusted proxy told
// one: the number of further proxies a session may pass.
const firstTTL = 5

func newConn(s *Server, l *Listener, nc net.Conn, cancel context.CancelFunc) *conn {
	cfg := s.cfg.Load()
	if !l.Tuned {
		tuneTCP(nc)
	}
	nc = parkable(nc)
	c := &conn{
		srv: s, cfg: cfg, l: l, cancel: cancel, started: time.Now(),
		log: s.log, nc: nc, raw: nc, state: "accept",
		origin: clientInfo{
			session: strings.Clone(rand.Text()[:16]), // without the rest, for as long as the session
			remote:  addrPort(nc.RemoteAddr()),
			local:   addrPort(nc.LocalAddr()),
			ttl:     firstTTL + 1,
		},
	}
	c.client = c.origin
	c.in = imap.NewReader(clientSource{c})
	c.commands = imap.CommandReader{R: c.in, Continue: c.continueLiteral}
	c.setDeadline(c.started.Add(cfg.LoginTimeout))
	return c
}

// serve runs the connection until its splice, and returns the session then, or
// until its end. A panic ends this connection alone.
func (c *conn) serve(ctx context.Context) (ss *session) {
	defer c.srv.removeConn(c)
	defer func() {
		if ss == nil {
			c.place.leave()
		}
	}()
	defer func() {
		if p := recover(); p != nil {
			// The value may hold what the client sent; the stack does not.
			c.log.Error("panic", zap.String("session", c.client.session), zap.String("state", c.state), zap.Stack("stack"))
			_ = c.raw.Close()
		}
	}()
	ss, err := c.run(ctx)
	if err != nil {
		c.farewell(err)
		c.logEnd(err)
	}
	return ss
}

// run is the path of a connection until the splice. The error says why it ended
// before.
func (c *conn) run(ctx context.Context) (*session, error) {
	if err := c.readProxyHeader(); err != nil {
		return nil, err
	}
	if err := c.countAddress(); err != nil {
		return nil, err
	}
	if c.l.TLS == TLSImplicit {
		if err := c.startTLS(ctx); err != nil {
			return nil, err
		}
	}
	c.greet()
	for {
		a, err := c.readLogin(ctx)
		if err != nil {
			return nil, err
		}
		if err := c.flush(); err != nil { // what was asked before does not wait for a backend
			a.wipe()
			return nil, err
		}
		b, fail := c.login(ctx, a)
		a.wipe()
		c.in.Wipe()
		if fail == nil {
			return c.splice(a, b)
		}
		if err := c.refuse(ctx, a, fail); err != nil {
			return nil, err
		}
	}
}

// clientSource is what commands are read from. Replies are written before a read
// that may block, so that pipelined commands share one write and no reply waits
// for the client's next byte.
type clientSource struct{ c *conn }

func (s clientSource) Read(p []byte) (int, error) {
	if err := s.c.flush(); err != nil {
		return 0, err
	}
	n, err := s.c.nc.Read(p)
	s.c.received += n
	return n, err
}

// say queues one line for the client.
func (c *conn) say(line string) {
	if t := c.traced(); t != nil {
		t.say("S", maskResponse(line, c.tag))
	}
	c.out = append(append(c.out, line...), '\r', '\n')
}

func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.nc.Write(c.out)
	c.out = c.out[:0]
	return err
}

// setDeadline moves the deadline of everything on the socket, unless the
// connection has been interrupted.
func (c *conn) setDeadline(t time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.interrupted != nil {
		return
	}
	_ = c.raw.SetReadDeadline(t)
	if !t.IsZero() {
		t = t.Add(goodbyeTimeout) // the last replies are written after it
	}
	_ = c.raw.SetWriteDeadline(t)
}

// interrupt makes the connection end with a BYE, because the server shuts down.
func (c *conn) interrupt() { c.interruptFor(errShutdown) }

// evict does so because others need the room.
func (c *conn) evict() { c.interruptFor(errEvicted) }

// interruptFor makes the connection end with a BYE: its reads fail from now on, and a
// client that takes nothing is not waited for.
func (c *conn) interruptFor(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.spliced || c.interrupted != nil {
		return
	}
	c.interrupted = why
	_ = c.raw.SetReadDeadline(time.Unix(1, 0))
	_ = c.raw.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	c.cancel()
}

// liftDeadline ends the time that a client has for its login, and hands the socket
// over to the session.
func (c *conn) liftDeadline() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.spliced = true
	_ = c.raw.SetDeadline(time.Time{})
}

// abort closes the socket under the connection.
func (c *conn) abort() {
	c.cancel()
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.spliced { // else it is the session's
		_ = c.raw.Close()
	}
}

// turnAway ends a connection that was accepted and will not be served, with a last
// line where there is somebody to talk to in IMAP already.
func (c *conn) turnAway(line string) {
	c.cancel()
	if c.l.TLS != TLSImplicit {
		_ = c.raw.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
		_, _ = c.raw.Write([]byte(line + "\r\n"))
	}
	_ = c.raw.Close()
}

// interruption returns why the server ends the connection, nil while it does not.
func (c *conn) interruption() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.interrupted
}

// farewell says the last line that err calls for, and closes the connection.
func (c *conn) farewell(err error) {
	defer func() { _ = c.nc.Close() }()
	if c.state == "proxy" || c.state == "tls" || c.l.TLS == TLSImplicit && c.tlsState == nil {
		return // there is nobody to talk to in IMAP
	}
	line, sending := goodbye(err, c.interruption())
	if line != "" {
		c.say(line)
	}
	_ = c.raw.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	if c.flush() != nil || !sending {
		return
	}
	// The client is in the middle of sending. Closing now would reset the
	// connection, and could take the BYE from the client with it.
	closeWrite(c.nc)
	_ = c.raw.SetReadDeadline(time.Now().Add(time.Second))
	_, _ = io.CopyN(io.Discard, c.nc, imap.MaxLiteralTotal)
}

// goodbye returns the last line for a connection that ends with err, and whether
// the client is likely to be sending still.
func goodbye(err, interruption error) (line string, sending bool) {
	var (
		tooBig *imap.TooBigError
		limit  *limitError
	)
	switch {
	case errors.Is(interruption, errEvicted):
		return "* BYE [UNAVAILABLE] Server is busy.", false
	case interruption != nil:
		return "* BYE [UNAVAILABLE] Server is shutting down.", false
	case errors.As(err, &limit):
		return limit.bye(), false
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "* BYE Login took too long.", false
	case errors.Is(err, errTooManyBad):
		return "* BYE Too many bad commands.", false
	case errors.Is(err, errTooManyFail):
		return "* BYE Too many failed logins.", false
	case errors.Is(err, imap.ErrLineTooLong):
		return "* BYE [TOOBIG] Command line too long.", true
	case errors.As(err, &tooBig):
		return "* BYE [TOOBIG] Literal too big.", true
	}
	return "", false
}

// logEnd logs a connection that ended before its login.
func (c *conn) logEnd(err error) {
	if why := c.interruption(); why != nil {
		err = why
	}
	if _, ok := errors.AsType[*limitError](err); ok {
		return // it was logged, if it was not one of many
	}
	reason := "closed by client"
	switch {
	case errors.Is(err, io.EOF):
	case errors.Is(err, os.ErrDeadlineExceeded):
		reason = "timeout"
	default:
		// A TLS library may quote what the client offered.
		reason = err.Error()
		reason = reason[:min(len(reason), maxName)]
	}
	c.log.Info("disconnected before login", append(c.fields(),
		zap.String("state", c.state), zap.String("reason", reason),
		zap.Int("failed_logins", c.failed), zap.Duration("duration", time.Since(c.started)))...)
}

// fields are the log fields of every line about this connection.
func (c *conn) fields() []zap.Field {
	return clientFields(c.client.session, c.l.Name, c.client.remote, c.client.tls.version)
}

// mostFields is room for the fields of nearly every line, so that they are not copied
// while they are added to.
const mostFields = 14

// clientFields say who is meant. The address stands before anything that a client
// chooses.
func clientFields(session, listener string, remote netip.AddrPort, tlsVersion string) []zap.Field {
	return append(
		make([]zap.Field, 0, mostFields),
		zap.String("session", session),
		zap.String("listener", listener),
		zap.String("remote_ip", remote.Addr().String()),
		zap.Uint16("remote_port", remote.Port()),
		zap.String("tls", tlsVersion),
	)
}

// addrPort returns the endpoint of a socket, the zero value for one that is not
// TCP. An IPv4 address in IPv6 clothes becomes an IPv4 address.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

package proxy

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"time"
)

// tlsInfo says how a client's leg is encrypted. The zero value is clear text.
type tlsInfo struct {
	version    string // "TLS 1.3", as crypto/tls names it; "" for clear text
	cipher     string // the IANA name, as a PROXY header told it; see cipherName
	suite      uint16 // else its number
	commonName string // of the client's verified certificate
	verified   bool   // whether the client presented a certificate that verified
}

// cipherName returns the IANA name of the cipher suite, "" for clear text. It costs a list
// of all there are.
func (t *tlsInfo) cipherName() string {
	if t.cipher != "" || t.suite == 0 {
		return t.cipher
	}
	return tls.CipherSuiteName(t.suite)
}

// startTLS makes the TLS handshake with the client. What the client sent before
// it and was not read yet is the beginning of the handshake, so that a pipelined
// ClientHello succeeds and a pipelined command fails without ever being parsed.
// What the client told before is forgotten. See RFC 9051, Section 6.2.1.
func (c *conn) startTLS(ctx context.Context) error {
	if err := c.flush(); err != nil {
		return err
	}
	c.state = "tls"
	ahead := c.in.Take()
	login := c.started.Add(c.cfg.LoginTimeout)
	until := earlier(time.Now().Add(c.cfg.TLSTimeout), login)
	c.setDeadline(until)
	q := &passage{t: &c.srv.handshakes, until: until, done: ctx.Done()}
	under := &handshakeConn{withPrefix(c.nc, ahead), q}
	tc := tls.Server(under, c.l.TLSConfig)
	err := tc.Handshake() //nolint:noctx // whatever ends ctx ends the socket's deadline too, and a context costs a goroutine
	under.turn = nil
	q.giveBack()
	if err != nil {
		c.srv.metrics.Handshake(c.l.Name, "", "failed", q.waited)
		return fmt.Errorf("tls handshake: %w", err)
	}
	c.setDeadline(login)
	state := tc.ConnectionState()
	if state.NegotiatedProtocol == protocolACME {
		_ = tc.CloseWrite()
		return errACME
	}
	c.nc, c.tlsState = tc, &state
	c.in.Reset(clientSource{c})
	c.client = c.origin
	if name := state.ServerName; len(name) <= maxName && printable([]byte(name)) {
		c.client.name = name // it goes to the backend's log
	}
	c.client.tls = tlsInfo{version: tls.VersionName(state.Version), suite: state.CipherSuite}
	if len(state.VerifiedChains) > 0 {
		c.client.tls.verified = true
		c.client.tls.commonName = state.PeerCertificates[0].Subject.CommonName
	}
	result := "ok"
	if state.DidResume {
		result = "resumed"
	}
	c.srv.metrics.Handshake(c.l.Name, c.client.tls.version, result, q.waited)
	return nil
}

// protocolACME is the ALPN name of handshakes that a certificate authority makes to
// see a certificate, and that mean nothing else. See RFC 8737, Section 3.
const protocolACME = "acme-tls/1"

// prefixConn is a connection of which some bytes have been read already.
type prefixConn struct {
	net.Conn
	prefix []byte
}

// withPrefix returns a connection whose first bytes are prefix.
func withPrefix(nc net.Conn, prefix []byte) net.Conn {
	if len(prefix) == 0 {
		return nc
	}
	return &prefixConn{nc, prefix}
}

func (p *prefixConn) Read(b []byte) (int, error) {
	if len(p.prefix) == 0 {
		return p.Conn.Read(b)
	}
	n := copy(b, p.prefix)
	if p.prefix = p.prefix[n:]; len(p.prefix) == 0 {
		p.prefix = nil
	}
	return n, nil
}

// CloseWrite passes a half-close on.
func (p *prefixConn) CloseWrite() error { return halfClose(p.Conn) }

// closeWrite half-closes nc, and closes it where that is not possible.
func closeWrite(nc net.Conn) {
	if halfClose(nc) != nil {
		_ = nc.Close()
	}
}

func halfClose(nc net.Conn) error {
	if h, ok := nc.(interface{ CloseWrite() error }); ok {
		return h.CloseWrite()
	}
	return nc.Close()
}

// Keepalive of both sides: a dead client or backend is noticed after about five
// minutes, without waking mobile phones more often than they wake themselves.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 2 * time.Minute, Interval: 30 * time.Second, Count: 6}

// userTimeout is how long sent bytes may stay unacknowledged.
const userTimeout = 5 * time.Minute

// tuneTCP sets what finds dead connections. TCP_NODELAY is Go's default.
func tuneTCP(nc net.Conn) {
	if tc, ok := nc.(*net.TCPConn); ok {
		_ = tc.SetKeepAliveConfig(keepAlive)
		setUserTimeout(tc, userTimeout)
	}
}

package proxy

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"imapgate/proxy/imap"
	"imapgate/route"
)

// backendBudget is how many bytes a backend may send before the splice.
const backendBudget = 64 << 10

// backendConn is a connection to a backend until the splice. It is owned by one
// goroutine.
type backendConn struct {
	b    *Backend
	raw  net.Conn    // the socket
	nc   net.Conn    // what is spoken through: the socket, or TLS over it
	stop func() bool // takes the connection out of its context's hands

	config *tls.Config // that was the backend's when it was made

	ended    atomic.Bool // the context has
	warm     bool        // it waited for this login
	heard    bool        // the backend has said something since
	answered bool        // something was asked, and the backend has replied

	in        *imap.Reader
	responses imap.ResponseReader
	caps      []string // before login; nil: not known
	trace     *tracer  // of the client's connection, while it is logged in

	leave func(*failure) // gives its place among the logins under way back

	// What the login brought: the user's place, and what is for the client.
	lease     *route.Lease
	entering  *entering
	untagged  []string // status responses, in order
	loginCaps []string // capabilities after login; nil: not known
	capsLine  string   // the data of a CAPABILITY response that has to be passed on
	okLine    string   // the tagged OK, from the space behind its tag
}

// dialTCP is the DialFunc of a server that was given none.
func dialTCP(ctx context.Context, b *Backend) (net.Conn, error) {
	d := tunedDialer()
	if b.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(b.Source, 0))
	}
	return d.DialContext(ctx, "tcp", b.Address)
}

// connect opens a connection to b as far as its capabilities: dial, PROXY header,
// TLS, greeting, CAPABILITY. cl is the client it is for, nil for a look at the
// capabilities. Nothing about the client is sent before TLS but the PROXY header.
func (s *Server) connect(ctx context.Context, cfg *Config, b *Backend, cl *clientInfo) (*backendConn, *failure) {
	began := time.Now()
	quick, cancel := context.WithTimeout(ctx, cfg.ConnectTimeout)
	defer cancel()
	raw, err := s.dial(quick, b)
	if err != nil {
		fail := unreached("login/connect", err)
		fail.ours = s.noteRefusal(err) || errors.Is(err, syscall.EADDRNOTAVAIL) || isUnknown(err)
		return nil, fail
	}
	bc := newBackendConn(b, raw)
	bc.guard(quick)
	fail := bc.greeting(s, cl)
	if !bc.release() && fail == nil {
		fail = unreached("login/greeting", quick.Err())
	}
	if fail == nil {
		s.metrics.BackendConnected(b.Name, time.Since(began))
		bc.guard(ctx)
		if fail = bc.secure(); fail == nil {
			fail = bc.learn()
		}
	}
	if fail != nil {
		bc.close()
		return nil, fail
	}
	s.live.learned(b, bc.caps)
	return bc, nil
}

func newBackendConn(b *Backend, raw net.Conn) *backendConn {
	raw = parkable(raw)
	bc := &backendConn{b: b, config: b.tlsConfig(), raw: raw, nc: raw, in: imap.NewReader(raw)}
	bc.responses = imap.ResponseReader{R: bc.in, Budget: backendBudget}
	return bc
}

// guard makes everything on the connection fail when ctx ends.
func (bc *backendConn) guard(ctx context.Context) {
	bc.stop = context.AfterFunc(ctx, func() {
		bc.ended.Store(true)
		_ = bc.raw.SetDeadline(time.Unix(1, 0))
	})
}

// expect makes the connection fail when nothing has been read by t; zero takes that
// back.
func (bc *backendConn) expect(t time.Time) {
	_ = bc.raw.SetReadDeadline(t)
	if bc.ended.Load() { // what guard does may have come before
		_ = bc.raw.SetDeadline(time.Unix(1, 0))
	}
}

// release ends what guard began. It returns false when the context has ended: the
// connection is of no use then.
func (bc *backendConn) release() bool { return bc.stop() }

func (bc *backendConn) close() {
	bc.stop()
	_ = bc.raw.Close()
}

// isUnknown says whether nobody could be asked for a backend's address, which is not
// that it has none. The reason, a descriptor that is refused say, cannot be told from a
// net.DNSError.
func isUnknown(err error) bool {
	var lookup *net.DNSError
	return errors.As(err, &lookup) && lookup.Temporary()
}

// unreached is the failure of a backend that could not be spoken to: another one
// may be tried at once.
func unreached(state string, err error) *failure {
	f := unavailable(state, strings.TrimPrefix(state, "login/"), err)
	f.unreached = true
	return f
}

// greeting goes as far as the backend's greeting.
func (bc *backendConn) greeting(s *Server, cl *clientInfo) *failure {
	if s.isOwn(bc.raw) {
		return misconfigured("login/connect", "loop", errors.New("proxy loop: the backend's address is one of our listeners"))
	}
	if v := bc.b.ProxyProtocol; v != 0 {
		if cl == nil && v == 2 && bc.b.TLS == TLSNone {
			// What is looked for is what clients with TLS are offered: without
			// it in the header a server that has no TLS of its own says
			// LOGINDISABLED.
			cl = &clientInfo{
				remote: addrPort(bc.raw.LocalAddr()), local: addrPort(bc.raw.RemoteAddr()),
				tls: tlsInfo{version: "TLS 1.3"},
			}
		}
		h, err := proxyHeader(v, cl, bc.raw)
		if err != nil {
			return misconfigured("login/proxy", "proxy", err)
		}
		if _, err := bc.raw.Write(h); err != nil {
			return unreached("login/proxy", err)
		}
	}
	if bc.b.TLS == TLSImplicit {
		if fail := bc.handshake("login/tls"); fail != nil {
			return fail
		}
	}
	r, err := bc.responses.ReadResponse()
	switch {
	case err != nil:
		return unreached("login/greeting", err)
	case r.Kind != imap.Untagged || r.Name != "OK":
		// PREAUTH would be somebody's session, BYE is a refusal, and the rest
		// is no IMAP.
		return unreached("login/greeting", fmt.Errorf("greeting is %s, not OK", describe(r)))
	}
	bc.caps, _ = r.Capabilities()
	return nil
}

// secure makes the STARTTLS of a backend that wants it. See RFC 9051, Section
// 6.2.1.
func (bc *backendConn) secure() *failure {
	if bc.b.TLS != TLSStartTLS {
		return nil
	}
	const state = "login/starttls"
	if bc.caps != nil && !imap.HasCapability(bc.caps, "STARTTLS") {
		return misconfigured(state, "starttls", errors.New("the backend does not offer STARTTLS"))
	}
	tag := newTag()
	if _, err := bc.nc.Write([]byte(tag + " STARTTLS\r\n")); err != nil {
		return unreached(state, err)
	}
	r, _, err := bc.await(nil, tag)
	if err != nil {
		return unreached(state, err)
	}
	if r.Name != "OK" {
		return misconfigured(state, "starttls", fmt.Errorf("the backend answers STARTTLS with %s", r.Name))
	}
	if n := bc.in.Buffered(); n > 0 {
		// Bytes that somebody without the key could have put there.
		return misconfigured(state, "starttls", fmt.Errorf("%d bytes behind the reply to STARTTLS", n))
	}
	bc.caps = nil
	return bc.handshake(state)
}

// handshake makes the TLS handshake and verifies the backend.
func (bc *backendConn) handshake(state string) *failure {
	tc := tls.Client(bc.raw, bc.config)
	if err := tc.Handshake(); err != nil { //nolint:noctx // guard ends it with the context; the library's way costs a goroutine
		if isIOError(err) {
			return unreached(state, err)
		}
		return misconfigured(state, "tls", err)
	}
	bc.nc = tc
	bc.in.Reset(tc)
	return nil
}

// isIOError tells a connection that broke from one whose other end is not who or
// what it should be.
func isIOError(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error") {
		return false // a TLS alert
	}
	var (
		netErr net.Error
		errno  syscall.Errno
	)
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) ||
		errors.As(err, &netErr) || errors.As(err, &errno)
}

// learn asks for the capabilities that the greeting did not bring.
func (bc *backendConn) learn() *failure {
	if bc.caps != nil {
		return nil
	}
	const state = "login/capability"
	tag := newTag()
	if _, err := bc.nc.Write([]byte(tag + " CAPABILITY\r\n")); err != nil {
		return unreached(state, err)
	}
	r, untagged, err := bc.await(nil, tag)
	if err != nil {
		return unreached(state, err)
	}
	if r.Name != "OK" {
		return unreached(state, fmt.Errorf("the backend answers CAPABILITY with %s", r.Name))
	}
	bc.caps = capabilitiesIn(append(untagged, r))
	if bc.caps == nil {
		return unreached(state, errors.New("the backend tells no capabilities"))
	}
	return nil
}

// capabilitiesIn returns the last capabilities that the responses tell, nil for
// none.
func capabilitiesIn(rs []imap.Response) []string {
	for _, r := range slices.Backward(rs) {
		if caps, ok := r.Capabilities(); ok {
			return caps
		}
	}
	return nil
}

// await reads until the tagged response to the last of the commands in flight, and
// returns it with the untagged ones before it. The replies come in the order of
// the commands: a reply counts for a command in flight alone, and any other tag
// is an error. onContinuation answers continuation requests of the last command;
// nil: they are an error.
func (bc *backendConn) await(onContinuation func(imap.Response) error, tags ...string) (imap.Response, []imap.Response, error) {
	var untagged []imap.Response
	for {
		r, err := bc.responses.ReadResponse()
		if err != nil {
			return r, nil, noEOF(err)
		}
		if bc.warm && !bc.heard {
			bc.heard = true
			bc.expect(time.Time{})
		}
		bc.answered = bc.answered || r.Kind != imap.Untagged
		if bc.trace != nil {
			bc.trace.say("B", maskResponse(r.Line, tags[0]))
		}
		switch {
		case r.Kind == imap.Untagged:
			untagged = append(untagged, r)
		case r.Kind == imap.Tagged && r.Tag != tags[0]:
			return r, nil, errors.New("a reply to a command that was not sent")
		case r.Kind == imap.Tagged && len(tags) == 1:
			return r, untagged, nil
		case r.Kind == imap.Tagged:
			tags = tags[1:]
		case onContinuation == nil || len(tags) > 1:
			return r, nil, errNoAnswer
		default:
			if err := onContinuation(r); err != nil {
				return r, nil, err
			}
		}
	}
}

// noEOF makes an end of the stream an error that says so.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("the backend closed the connection: %w", io.ErrUnexpectedEOF)
	}
	return err
}

// describe names a response in an error, without its text: that may be anything.
func describe(r imap.Response) string {
	switch {
	case r.Kind == imap.Continuation:
		return "a continuation request"
	case r.Kind == imap.Tagged:
		return "a tagged response"
	case r.IsStatus():
		return r.Name
	}
	return "no status response"
}

// newTag returns a tag that nobody can answer in advance.
func newTag() string { return rand.Text()[:10] }

// isOwn says whether a connection to a backend has come out at one of our own
// listeners.
func (s *Server) isOwn(nc net.Conn) bool {
	to, from := addrPort(nc.RemoteAddr()), addrPort(nc.LocalAddr())
	if !to.IsValid() {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for l := range s.listeners {
		at := addrPort(l.Addr())
		if at.Port() != to.Port() {
			continue
		}
		// A connection to an address of this very host leaves from it too.
		if at.Addr() == to.Addr() || at.Addr().IsUnspecified() && (to.Addr() == from.Addr() || to.Addr().IsLoopback()) {
			return true
		}
	}
	return false
}

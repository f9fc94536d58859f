package proxy

import (
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"imapgate/proxy/imap"
	"imapgate/route"
)

// ending says why the proxy ends a session of its own accord.
type ending struct {
	reason string // for the log
	text   string // for the client, behind BYE
}

// The endings there are. See RFC 9051, Section 7.1.5.
var (
	endShutdown = &ending{"shutdown", "[UNAVAILABLE] Server is shutting down."}
	endBackend  = &ending{"backend lost", "[UNAVAILABLE] Connection to the mail store lost."}
	endIdentity = &ending{"unauthenticate", "[UNAVAILABLE] UNAUTHENTICATE is not available."}
)

// session is one spliced pair of connections.
type session struct {
	// Static after construction.
	srv     *Server
	client  net.Conn
	backend net.Conn
	info    SessionInfo  // but for its counters
	lease   *route.Lease // the user's place at the backend
	log     *zap.Logger
	fields  []zap.Field

	// What the backend can do after login that matters to the proxy.
	compresses, unauthenticates bool

	// head and tail are what was read ahead before the splice: head is written
	// to the client before anything of the backend, tail to the backend before
	// anything of the client.
	head, tail []byte

	fromClient, fromBackend atomic.Int64
	ending                  atomic.Pointer[ending]
	opaque                  atomic.Bool // the stream cannot be followed: it may be compressed
	clientGone              atomic.Bool // the client will send no more
	backendGone             atomic.Bool // the backend has ended its side: the client is to close next

	mu     sync.Mutex
	reason string // the first thing that ended the session
}

// splice turns the connection into a session: the client gets the answer to its
// login, and from there on every byte is passed on as it is.
func (c *conn) splice(a *attempt, b *backendConn) (*session, error) {
	ss := &session{
		srv: c.srv, client: c.nc, backend: b.nc, lease: b.lease, log: c.log,
		info:   c.sessionInfo(a, b.b.Name),
		fields: c.loginFields(a, b.b.Name),
		head:   c.loginAnswer(a, b),
		tail:   c.in.Take(),

		compresses:      imap.HasCapability(b.loginCaps, "COMPRESS=DEFLATE"),
		unauthenticates: imap.HasCapability(b.loginCaps, "UNAUTHENTICATE"),
	}
	c.log.Info("login", append(slices.Clip(ss.fields),
		zap.String("backend_address", b.b.Address),
		zap.String("route", a.route.place.Reason.String()),
		zap.Duration("duration", time.Since(c.started)))...)
	c.traced().say("-", "logged in at "+b.b.Name+": what follows is not traced")
	c.liftDeadline() // the client is authenticated
	c.srv.addSession(ss, b.entering)
	return ss, nil
}

// sessionInfo describes the session that a login is about to become.
func (c *conn) sessionInfo(a *attempt, backend string) SessionInfo {
	return SessionInfo{
		ID: c.client.session, User: a.route.key, Backend: backend, Listener: c.l.Name, Mechanism: a.mechanism,
		TLS: c.client.tls.version, Remote: c.client.remote, Since: time.Now(),
	}
}

// loginAnswer returns what the client gets for its login: what the backend said
// before its tagged OK, capabilities if the OK brings none, the OK itself, and
// whatever came behind it.
func (c *conn) loginAnswer(a *attempt, b *backendConn) []byte {
	out := c.out
	c.out = nil
	t := c.traced()
	line := func(s string) {
		out = append(append(out, s...), '\r', '\n')
		if t != nil {
			t.say("S", maskResponse(s, a.tag))
		}
	}
	for _, u := range b.untagged {
		line(u)
	}
	if b.capsLine != "" {
		line("* CAPABILITY " + b.capsLine)
	}
	line(a.tag + b.okLine)
	return append(out, b.in.Take()...)
}

// run passes everything on until the session ends.
func (s *session) run() {
	defer s.lease.End()
	defer s.srv.removeSession(s)
	s.srv.metrics.SessionStarted(s.info.Backend)
	defer s.recovered()
	var up sync.WaitGroup
	up.Go(func() {
		defer s.recovered()
		s.clientToBackend()
	})
	s.backendToClient()
	up.Wait()
	s.close()
	in, out := s.fromClient.Load(), s.fromBackend.Load()
	s.srv.metrics.SessionEnded(s.info.Backend, in, out)
	s.log.Info("session ended", append(s.fields,
		zap.String("reason", s.because("")), zap.Duration("duration", time.Since(s.info.Since)),
		zap.Int64("bytes_from_client", in), zap.Int64("bytes_from_backend", out))...)
}

// recovered ends the session alone when one of its directions panics.
func (s *session) recovered() {
	if p := recover(); p != nil {
		s.log.Error("panic", append(s.fields, zap.Stack("stack"))...)
		s.close()
	}
}

// end ends the session: the client gets a BYE at the next response boundary.
// Only the first call counts.
func (s *session) end(e *ending) {
	if !s.ending.CompareAndSwap(nil, e) {
		return
	}
	s.because(e.reason)
	_ = s.client.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
	_ = s.backend.SetReadDeadline(time.Unix(1, 0)) // wakes backendToClient
	if s.backendGone.Load() {
		_ = s.client.SetReadDeadline(time.Unix(1, 0)) // wakes clientToBackend, which is all there is
	}
}

// close ends the session without a word.
func (s *session) close() {
	_ = s.client.Close()
	_ = s.backend.Close()
}

// because notes the reason for the session's end, unless there is one already,
// and returns the one that counts.
func (s *session) because(reason string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reason == "" {
		s.reason = reason
	}
	return s.reason
}

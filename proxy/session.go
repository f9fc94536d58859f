package proxy

import (
	"net"
	"sync"
	"sync/atomic"
	"time"
	"unique"

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

// session is one spliced pair of connections. There are many, and most of them
// are silent: what can be had from elsewhere, or is needed for a moment only, is
// not kept here.
type session struct {
	// Static after construction.
	srv     *Server
	client  net.Conn
	backend net.Conn
	facts   facts
	lease   *route.Lease  // the user's place at the backend
	place   *place        // what it takes up of the limits
	trace   *sessionTrace // nil: nobody watches

	// head and tail are what was read ahead before the splice, nil once it has been
	// passed on: head is written to the client before anything of the backend, tail
	// to the backend before anything of the client.
	head, tail *[]byte

	// Owned by the way from the client to the backend.
	up      way
	watched *commandWatch // nil: no command matters

	// Owned by the way from the backend to the client.
	down      way
	responses *responses // nil: at a boundary

	parking // where the session is while nobody serves it

	fromClient, fromBackend atomic.Int64
	ending                  atomic.Pointer[ending]
	opaque                  atomic.Bool // the stream cannot be followed: it may be compressed
	clientGone              atomic.Bool // the client will send no more
	backendGone             atomic.Bool // the backend has ended its side: the client is to close next
	served                  atomic.Bool // from here on end and abort have somebody to tell
	aborted                 atomic.Bool // by abort

	// Owned by the way from the backend to the client, and here where there is room.
	bye   bool // the backend said BYE
	told  bool // the client was told that the backend is lost
	waits bool // the wait for a boundary has begun

	mu     sync.Mutex
	reason string // the first thing that ended the session
}

// splice turns the connection into a session: the client gets the answer to its
// login, and from there on every byte is passed on as it is.
func (c *conn) splice(a *attempt, b *backendConn) (*session, error) {
	f := c.facts(a, b)
	ss := &session{
		srv: c.srv, client: c.nc, backend: b.nc, lease: b.lease, place: c.place,
		facts: f,
		head:  new(c.loginAnswer(a, b)),
	}
	if tail := c.in.Take(); tail != nil {
		ss.tail = &tail
	}
	if f.how.Value().unauthenticates || imap.HasCapability(b.loginCaps, "COMPRESS=DEFLATE") {
		ss.watched = new(commandWatch)
	}
	ss.prepare(c.raw, b.raw)
	c.log.Info("login", append(ss.fields(),
		zap.String("backend_address", b.b.Address),
		zap.String("route", a.route.place.Reason.String()),
		zap.Duration("duration", time.Since(c.started)))...)
	t := c.traced()
	t.say("-", "logged in at "+b.b.Name+": what follows is told by names and sizes")
	ss.trace = newSessionTrace(t)
	c.liftDeadline() // the client is authenticated
	c.srv.addSession(ss, b.entering)
	return ss, nil
}

// facts are those of the session that a login is about to become.
func (c *conn) facts(a *attempt, b *backendConn) facts {
	return facts{
		id: c.client.session, user: a.route.key, remote: c.client.remote, since: time.Now(),
		how: unique.Make(circumstances{
			backend: b.b.Name, listener: c.l.Name, mechanism: a.mechanism, tls: c.client.tls.version, master: a.master(),
			unauthenticates: imap.HasCapability(b.loginCaps, "UNAUTHENTICATE"),
		}),
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

// run passes everything on until the session ends. Where sessions can be parked, it
// returns when this one is: its loop goes on, and calls finished.
func (s *session) run() {
	s.srv.metrics.SessionStarted(s.facts.how.Value().backend)
	if s.park() {
		return
	}
	defer s.finished()
	var up sync.WaitGroup
	up.Go(func() { s.copy(s.stepUp) })
	s.served.Store(true)
	s.look() // somebody may have wanted its end before
	s.copy(s.stepDown)
	up.Wait()
}

// copy makes the steps of one direction, with reads and writes that block.
func (s *session) copy(step func([]byte) progress) {
	defer s.recovered()
	buf, _ := buffers.Get().(*[32 << 10]byte)
	defer func() {
		clear(buf[:])
		buffers.Put(buf)
	}()
	for step(buf[:]) != over {
	}
}

// buffers are those of sessions that cannot be parked.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// finished is called when both directions have ended.
func (s *session) finished() {
	defer s.lease.End()
	defer s.place.leave()
	defer s.srv.removeSession(s)
	s.close()
	in, out := s.fromClient.Load(), s.fromBackend.Load()
	s.srv.metrics.SessionEnded(s.facts.how.Value().backend, in, out)
	s.srv.log.Info("session ended", append(s.fields(),
		zap.String("reason", s.because("")), zap.Duration("duration", time.Since(s.facts.since)),
		zap.Int64("bytes_from_client", in), zap.Int64("bytes_from_backend", out))...)
}

// fields are the log fields of every line about the session.
func (s *session) fields() []zap.Field {
	f, how := &s.facts, s.facts.how.Value()
	return loginFields(clientFields(f.id, how.listener, f.remote, how.tls), how.mechanism, f.user, how.master, how.backend)
}

// recovered ends the session alone when one of its directions panics.
func (s *session) recovered() {
	if p := recover(); p != nil {
		s.panicked()
	}
}

// panicked logs a panic, without its value: it may hold what was passed on.
func (s *session) panicked() {
	s.srv.log.Error("panic", append(s.fields(), zap.Stack("stack"))...)
	s.close()
}

// end ends the session: the client gets a BYE at the next response boundary.
// Only the first call counts.
func (s *session) end(e *ending) {
	if !s.ending.CompareAndSwap(nil, e) {
		return
	}
	s.because(e.reason)
	s.tell()
}

// abort ends the session without a word.
func (s *session) abort() {
	s.aborted.Store(true)
	s.tell()
}

// tell makes whoever serves the session look.
func (s *session) tell() {
	if s.served.Load() && !s.wake() {
		s.look()
	}
}

// look does what end and abort ask for. Once the session is parked, its loop calls
// it, and nobody else.
func (s *session) look() {
	if s.aborted.Load() {
		s.close()
		return
	}
	if s.ending.Load() == nil {
		return
	}
	s.limitWrites(goodbyeTimeout)
	_ = s.backend.SetReadDeadline(time.Unix(1, 0)) // the next step down comes at once
	if s.backendGone.Load() {
		_ = s.client.SetReadDeadline(time.Unix(1, 0)) // the way from the client is all there is
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

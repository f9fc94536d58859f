package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"imapgate/proxy/imap"
)

// lingerTimeout is how long a client may take to close after its backend did.
const lingerTimeout = time.Minute

// boundaryTimeout is how long the end of a session waits for a response to be
// complete.
const boundaryTimeout = 5 * time.Second

// progress is what a step of one direction of a session came to.
type progress int

const (
	again progress = iota // the next step may come at once
	later                 // there is nothing to do before bytes come, or go; never for a session that is not parked
	over                  // the direction has ended
)

// side is one of the two ends of a session.
type side int

const (
	clientSide side = iota
	backendSide
)

// conn returns the connection of a side.
func (s *session) conn(sd side) net.Conn {
	if sd == clientSide {
		return s.client
	}
	return s.backend
}

// errOver ends a copy whose session has said its BYE.
var errOver = errors.New("session is over")

// way is one direction of a session. Each is a sequence of steps, which whoever
// serves the session makes: two goroutines whose reads and writes block, or the
// loop in which it is parked, where they never do. Steps of the two directions
// may be made at the same time, steps of one may not.
type way struct {
	err  error // why it ends, once all that was written has gone
	over bool  // parked sessions: no more steps
	idle bool  // parked sessions: nothing to read when it was last tried
}

// stepUp passes on what the client sends.
func (s *session) stepUp(buf []byte) progress {
	if err := s.sent(backendSide); err != nil {
		switch gone := s.backendGone.Load(); {
		case isWouldBlock(err) && !gone:
			return later
		case isWouldBlock(err):
			// What it does not take is for nobody, and nothing else tells of the
			// client's end.
			_ = s.backend.Close()
		case !gone:
			// What the backend said last is still on its way to the client.
			s.because("backend closed")
			return over
		}
	}
	if s.up.err == nil {
		n, err := s.nextFromClient(buf)
		if n > 0 {
			if werr := s.passUp(buf[:n]); werr != nil && !s.backendGone.Load() {
				s.because("backend closed")
				return over
			}
		}
		switch {
		case err == nil:
			return again
		case isWouldBlock(err):
			return later
		}
		s.up.err = err
		if isWouldBlock(s.sent(backendSide)) {
			return later
		}
	}
	s.clientGone.Store(true)
	s.because("client closed")
	switch {
	case !errors.Is(s.up.err, io.EOF) && !errors.Is(s.up.err, io.ErrUnexpectedEOF):
		s.close()
	case !s.backendGone.Load(): // else closing is all there is left
		closeWrite(s.backend) // it may still have something to say
	}
	return over
}

// nextFromClient reads from the client; first comes what was read ahead.
func (s *session) nextFromClient(buf []byte) (int, error) {
	if s.tail != nil {
		n := copy(buf, *s.tail)
		if *s.tail = (*s.tail)[n:]; len(*s.tail) == 0 {
			s.tail = nil
		}
		return n, nil
	}
	return s.read(clientSide, buf)
}

func (s *session) passUp(p []byte) error {
	if s.watched != nil && !s.opaque.Load() && !s.watch(p) {
		s.end(endIdentity)
		return io.ErrClosedPipe
	}
	if !s.opaque.Load() {
		s.trace.fromClient(p)
	}
	s.fromClient.Add(int64(len(p)))
	return s.write(backendSide, p)
}

// stepDown passes on what the backend sends, and says BYE at a response boundary
// when the proxy has to end the session.
func (s *session) stepDown(buf []byte) progress {
	if s.down.err == nil {
		err := s.sent(clientSide)
		if err != nil && !isWouldBlock(err) {
			err = &clientError{err}
		}
		if err == nil {
			err = s.copyDown(buf)
		}
		switch {
		case err == nil:
			return again
		case isWouldBlock(err):
			return later
		}
		s.down.err = err
	}
	return s.leave()
}

// copyDown passes on what can be read of the backend at once.
func (s *session) copyDown(buf []byte) error {
	if s.head != nil {
		// The answer to the login ends at a boundary; what the backend sent
		// behind it is followed like the rest.
		head := *s.head
		s.head = nil
		return s.passDown(head)
	}
	n, err := s.read(backendSide, buf)
	if n > 0 {
		if errors.Is(err, io.EOF) {
			s.lastWords()
		}
		if werr := s.passDown(buf[:n]); werr != nil {
			return werr
		}
	}
	if errors.Is(err, os.ErrDeadlineExceeded) && s.ending.Load() != nil && !s.waits {
		return s.finish()
	}
	return err
}

// passDown writes p to the client. When the session is to end, it stops behind the
// last complete response.
func (s *session) passDown(p []byte) error {
	if !s.opaque.Load() {
		s.trace.fromBackend(p)
	}
	boundary := s.follow(p)
	ending := s.ending.Load()
	if ending == nil || boundary < 0 || s.opaque.Load() {
		return s.writeDown(p)
	}
	if err := s.writeDown(p[:boundary]); err != nil {
		return err
	}
	return s.sayBye(ending)
}

func (s *session) writeDown(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	s.fromBackend.Add(int64(len(p)))
	if err := s.write(clientSide, p); err != nil {
		return &clientError{err}
	}
	return nil
}

// finish is called when the session is to end and the backend is silent: at a
// boundary that is the moment for BYE, else the response gets a little more time.
func (s *session) finish() error {
	switch {
	case s.opaque.Load():
		return errOver
	case s.responses == nil:
		return s.sayBye(s.ending.Load())
	}
	s.waits = true
	return s.backend.SetReadDeadline(time.Now().Add(boundaryTimeout))
}

// sayBye writes the last line that the client gets.
func (s *session) sayBye(e *ending) error {
	if !s.bye {
		if err := s.writeDown([]byte("* BYE " + e.text + "\r\n")); err != nil {
			return err
		}
	}
	return errOver
}

// clientError is an error of the client's connection, as opposed to one of the
// backend's.
type clientError struct{ err error }

func (e *clientError) Error() string { return e.err.Error() }

func (e *clientError) Unwrap() error { return e.err }

// leave ends the way from the backend to the client, once the client has all that
// was written to it.
func (s *session) leave() progress {
	if isWouldBlock(s.sent(clientSide)) {
		return later
	}
	err := s.down.err
	var ce *clientError
	switch {
	case errors.Is(err, errOver), s.ending.Load() != nil:
	case errors.As(err, &ce):
		s.because("client closed")
	case s.bye, errors.Is(err, io.EOF) && s.clientGone.Load():
		// The dialogue has come to its end. The client closes next.
		s.because("backend closed")
		s.linger()
		return over
	default:
		// No IMAP server goes without a BYE.
		s.because(endBackend.reason)
		if !s.told && s.responses == nil && !s.opaque.Load() {
			s.told = true
			s.limitWrites(goodbyeTimeout)
			_ = s.sayBye(endBackend)
			if isWouldBlock(s.sent(clientSide)) {
				return later
			}
		}
		if errors.Is(err, io.EOF) {
			s.backendGone.Store(true)
			_ = s.backend.Close() // without a BYE, nobody knows what it still does
			s.linger()
			return over
		}
	}
	s.close()
	return over
}

// linger gives up the user's place at a backend that has ended its side: a client
// that never closes must not keep its user from logging in elsewhere. The client
// gets a while to close, since what it was told last may still be on its way.
func (s *session) linger() {
	s.backendGone.Store(true)
	if isWouldBlock(s.sent(backendSide)) {
		_ = s.backend.Close() // see stepUp
	}
	s.lease.End()
	_ = s.client.SetReadDeadline(time.Now().Add(lingerTimeout))
	closeWrite(s.client)
	if s.ending.Load() != nil { // it may have come before the deadline
		s.close()
	}
}

// responses follows the backend's stream through a response. There is one only
// while a response is incomplete: most of the time a session is between two.
type responses struct {
	imap.Follower
	bye bool // the backend said BYE
}

var followers = sync.Pool{New: func() any {
	r := new(responses)
	r.OnLine = func(head []byte) {
		if bye := []byte("* BYE"); len(head) >= len(bye) && bytes.EqualFold(head[:len(bye)], bye) {
			r.bye = true
		}
	}
	return r
}}

// follow takes note of what the backend sends. It returns the offset in p behind
// the last response that ends in p, or -1 when none does.
func (s *session) follow(p []byte) (boundary int) {
	if s.responses == nil {
		s.responses, _ = followers.Get().(*responses)
	}
	boundary = s.responses.Advance(p)
	if s.responses.bye {
		s.bye, s.responses.bye = true, false
	}
	if s.responses.AtBoundary() {
		followers.Put(s.responses) // it is as it was before the response
		s.responses = nil
	}
	return boundary
}

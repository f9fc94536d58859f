package proxy

import (
	"bytes"
	"errors"
	"io"
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

// buffers are those of the copies: a full TLS record and more at a time.
var buffers = sync.Pool{New: func() any { return new([32 << 10]byte) }}

// clientToBackend passes the client's bytes on until one of the two ends.
func (s *session) clientToBackend() {
	buf, _ := buffers.Get().(*[32 << 10]byte)
	defer func() {
		clear(buf[:])
		buffers.Put(buf)
	}()
	var lines commandWatch
	pass := func(p []byte) error {
		if (s.compresses || s.unauthenticates) && !s.opaque.Load() && !s.watch(&lines, p) {
			s.end(endIdentity)
			return io.ErrClosedPipe
		}
		s.fromClient.Add(int64(len(p)))
		_, err := s.backend.Write(p)
		return err
	}
	var err error
	if len(s.tail) > 0 {
		err = pass(s.tail)
		s.tail = nil
	}
	for err == nil {
		var n int
		n, err = s.client.Read(buf[:])
		if n > 0 {
			if werr := pass(buf[:n]); werr != nil && !s.backendGone.Load() {
				// What the backend said last is still on its way to the client.
				s.because("backend closed")
				return
			}
		}
		if err == nil {
			continue
		}
		s.clientGone.Store(true)
		s.because("client closed")
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			closeWrite(s.backend) // it may still have something to say
			return
		}
		s.close()
	}
}

// backendToClient passes the backend's bytes on until one of the two ends, and
// says BYE at a response boundary when the proxy has to end the session.
func (s *session) backendToClient() {
	buf, _ := buffers.Get().(*[32 << 10]byte)
	defer func() {
		clear(buf[:])
		buffers.Put(buf)
	}()
	d := toClient{s: s}
	d.follow.OnLine = func(head []byte) {
		if bye := []byte("* BYE"); len(head) >= len(bye) && bytes.EqualFold(head[:len(bye)], bye) {
			d.bye = true
		}
	}
	// The answer to the login ends at a boundary; what the backend sent behind
	// it is followed like the rest.
	err := d.pass(s.head)
	s.head = nil
	for err == nil {
		var n int
		n, err = s.backend.Read(buf[:])
		if n > 0 {
			if werr := d.pass(buf[:n]); werr != nil {
				err = werr
			}
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && s.ending.Load() != nil && !d.over {
			err = d.finish()
		}
	}
	d.end(err)
}

// errOver ends a copy whose session has said its BYE.
var errOver = errors.New("session is over")

// toClient is the way from the backend to the client.
type toClient struct {
	s      *session
	follow imap.Follower
	bye    bool // the backend said BYE
	over   bool // the wait for a boundary has begun
}

// pass writes p to the client. When the session is to end, it stops behind the
// last complete response.
func (d *toClient) pass(p []byte) error {
	boundary := d.follow.Advance(p)
	ending := d.s.ending.Load()
	if ending == nil || boundary < 0 || d.s.opaque.Load() {
		return d.write(p)
	}
	if err := d.write(p[:boundary]); err != nil {
		return err
	}
	return d.sayBye(ending)
}

func (d *toClient) write(p []byte) error {
	if len(p) == 0 {
		return nil
	}
	d.s.fromBackend.Add(int64(len(p)))
	if _, err := d.s.client.Write(p); err != nil {
		return &clientError{err}
	}
	return nil
}

// finish is called when the session is to end and the backend is silent: at a
// boundary that is the moment for BYE, else the response gets a little more time.
func (d *toClient) finish() error {
	if d.s.opaque.Load() {
		return errOver
	}
	if d.follow.AtBoundary() {
		return d.sayBye(d.s.ending.Load())
	}
	d.over = true
	return d.s.backend.SetReadDeadline(time.Now().Add(boundaryTimeout))
}

// sayBye writes the last line that the client gets.
func (d *toClient) sayBye(e *ending) error {
	if !d.bye {
		if err := d.write([]byte("* BYE " + e.text + "\r\n")); err != nil {
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

// end ends the way from the backend to the client because of err.
func (d *toClient) end(err error) {
	s := d.s
	var ce *clientError
	switch {
	case errors.Is(err, errOver), s.ending.Load() != nil:
	case errors.As(err, &ce):
		s.because("client closed")
	case d.bye, errors.Is(err, io.EOF) && s.clientGone.Load():
		// The dialogue has come to its end. The client closes next.
		s.because("backend closed")
		s.linger()
		return
	default:
		// No IMAP server goes without a BYE.
		s.because(endBackend.reason)
		_ = s.client.SetWriteDeadline(time.Now().Add(goodbyeTimeout))
		if d.follow.AtBoundary() && !s.opaque.Load() {
			_ = d.sayBye(endBackend)
		}
		if errors.Is(err, io.EOF) {
			s.backendGone.Store(true)
			_ = s.backend.Close() // without a BYE, nobody knows what it still does
			s.linger()
			return
		}
	}
	s.close()
}

// linger gives up the user's place at a backend that has ended its side: a client
// that never closes must not keep its user from logging in elsewhere. The client
// gets a while to close, since what it was told last may still be on its way.
func (s *session) linger() {
	s.backendGone.Store(true)
	s.lease.End()
	_ = s.client.SetReadDeadline(time.Now().Add(lingerTimeout))
	closeWrite(s.client)
	if s.ending.Load() != nil { // it may have come before the deadline
		s.close()
	}
}

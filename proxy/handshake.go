package proxy

import (
	"container/list"
	"context"
	"net"
	"os"
	"runtime"
	"sync"
	"time"
)

// turnstile bounds how many TLS handshakes with clients are computed at the same
// time. They are the most that a client costs, and thousands who come back at once
// would otherwise be served before anybody who is in already: whoever has a place
// lets all others who are ready go first, so that a storm takes what is left.
//
// A place is held while a handshake is computed, never while it waits for its
// client: slow clients are in nobody's way. Those that have been answered once come
// before those that are new. Of the new ones the oldest comes first, which is fair,
// for as long as it has not used up half of its time. From then on the newest does:
// more come than can be served, and a queue in which everybody waits to the end of
// his time would serve only clients who are about to give up.
type turnstile struct {
	mu     sync.Mutex
	places int
	taken  int
	begun  list.List // of *waiter, oldest first: answered once
	fresh  list.List // of *waiter, oldest first
}

// waiter is a handshake that waits for a place.
type waiter struct {
	turn     chan struct{} // closed when it has got one
	patience time.Time     // half of its time
	queue    *list.List
	at       *list.Element // guarded by turnstile.mu; nil once it waits no more
}

// setPlaces changes how many places there are. Whoever has one keeps it.
func (t *turnstile) setPlaces(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.places = n
	t.admit()
}

// waiting returns how many handshakes wait for a place.
func (t *turnstile) waiting() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.begun.Len() + t.fresh.Len()
}

// admit gives the free places to those who wait. mu is held.
func (t *turnstile) admit() {
	for t.taken < t.places && t.begun.Len()+t.fresh.Len() > 0 {
		w := t.next()
		w.queue.Remove(w.at)
		w.at = nil
		t.taken++
		close(w.turn)
	}
}

// next returns who comes next of those who wait, of whom there are some. mu is held.
func (t *turnstile) next() *waiter {
	e := t.begun.Front()
	if e == nil {
		e = t.fresh.Front()
		if w, _ := e.Value.(*waiter); time.Now().After(w.patience) {
			e = t.fresh.Back()
		}
	}
	w, _ := e.Value.(*waiter)
	return w
}

// enter takes a place, and waits for it until a time, or until done is closed.
func (t *turnstile) enter(q *passage) error {
	t.mu.Lock()
	if t.taken < t.places {
		t.taken++
		t.mu.Unlock()
		return nil
	}
	now := time.Now()
	w := &waiter{turn: make(chan struct{}), patience: now.Add(q.until.Sub(now) / 2), queue: &t.fresh}
	if q.answered {
		w.queue = &t.begun
	}
	w.at = w.queue.PushBack(w)
	t.mu.Unlock()

	timer := time.NewTimer(q.until.Sub(now))
	defer timer.Stop()
	var err error
	select {
	case <-w.turn:
	case <-timer.C:
		err = os.ErrDeadlineExceeded
	case <-q.done:
		err = context.Canceled
	}
	q.waited += time.Since(now)
	if err == nil {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if w.at != nil {
		w.queue.Remove(w.at)
	} else { // it got one in the same moment
		t.taken--
		t.admit()
	}
	return err
}

// leave gives a place back.
func (t *turnstile) leave() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.taken--
	t.admit()
}

// passage is one handshake's way through the turnstile. It belongs to the goroutine of
// the handshake.
type passage struct {
	t        *turnstile
	until    time.Time       // when the handshake has to be over
	done     <-chan struct{} // closed when its connection is to end
	holds    bool
	answered bool // something was written
	waited   time.Duration
}

// take takes a place, and lets all who are ready to run go first.
func (q *passage) take() error {
	if err := q.t.enter(q); err != nil {
		return err
	}
	q.holds = true
	runtime.Gosched()
	return nil
}

func (q *passage) giveBack() {
	if q.holds {
		q.holds = false
		q.t.leave()
	}
}

// handshakeConn is the connection under a TLS connection. During the handshake it
// holds a place at the turnstile whenever it does not wait for its client; after
// it, it is the connection.
type handshakeConn struct {
	net.Conn
	turn *passage // nil after the handshake
}

// Read implements [net.Conn].
func (h *handshakeConn) Read(p []byte) (int, error) {
	q := h.turn
	if q == nil {
		return h.Conn.Read(p)
	}
	q.giveBack()
	n, err := h.Conn.Read(p)
	if err == nil {
		err = q.take()
	}
	return n, err
}

// Write implements [net.Conn].
func (h *handshakeConn) Write(p []byte) (int, error) {
	n, err := h.Conn.Write(p)
	if q := h.turn; q != nil {
		q.answered = true
	}
	return n, err
}

// Await gives the place back while the handshake waits for something else than its
// client or a computation: a certificate that is ordered, say. wait gets what is closed
// when the connection is to end.
func (h *handshakeConn) Await(wait func(done <-chan struct{})) error {
	q := h.turn
	if q == nil {
		wait(nil)
		return nil
	}
	q.giveBack()
	wait(q.done)
	return q.take()
}

// CloseWrite passes a half-close on.
func (h *handshakeConn) CloseWrite() error { return halfClose(h.Conn) }

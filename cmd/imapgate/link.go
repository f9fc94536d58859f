package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"net"
	"sync"
	"time"

	"imapgate/proxy"
	"imapgate/route"
)

// message is a line, in JSON, between the two processes of an upgrade.
type message struct {
	// ID numbers a question of either side, and its answer.
	ID     uint64 `json:"id,omitempty"`
	Answer bool   `json:"answer,omitempty"`

	// What the new process says until it serves.
	Ready   *newcomer `json:"ready,omitempty"`   // all is read, and every listener is there
	Failed  string    `json:"failed,omitempty"`  // why it gives up
	Serving bool      `json:"serving,omitempty"` // it accepts

	// What the old process hands over, in this order, once the new one is ready.
	Residents []route.Residence    `json:"residents,omitempty"`
	Failures  []proxy.FailedLogins `json:"failures,omitempty"`
	Take      *estate              `json:"take,omitempty"` // and that was all

	// From then on the old process asks before it logs somebody in, and says when
	// a login or a session has ended. An answer repeats what was claimed: who asked
	// may not wait for it any more.
	Claim   *stay `json:"claim,omitempty"`
	Granted bool  `json:"granted,omitempty"`
	End     *stay `json:"end,omitempty"`

	// The new process shows and ends the old one's sessions.
	Who      *string             `json:"who,omitempty"` // a user, "" for all
	Sessions []proxy.SessionInfo `json:"sessions,omitempty"`
	Kick     *eviction           `json:"kick,omitempty"`
	Kicked   int                 `json:"kicked,omitempty"`
}

// newcomer is the new process.
type newcomer struct {
	Version string `json:"version"`
}

// estate is what the old process leaves to the new one beside its sessions.
type estate struct {
	PID       int              `json:"pid"`
	Version   string           `json:"version"`
	Overrides []route.Override `json:"overrides"`
}

// stay is a user's login or session at a backend.
type stay struct {
	User    string `json:"user"`
	Backend string `json:"backend"`
}

// eviction names sessions that are to end, and how.
type eviction struct {
	IDs []string `json:"ids"`
	proxy.KickOptions
}

// link is the connection between the two processes of an upgrade. Its methods are
// safe for concurrent use.
type link struct {
	conn net.Conn
	done chan struct{} // closed when the other side is gone

	mu      sync.Mutex
	queue   []message
	held    []message // what waits for release; nil: nothing is held back
	wake    chan struct{}
	waiting map[uint64]chan<- message
	asked   uint64
}

func newLink(conn net.Conn) *link {
	return &link{conn: conn, done: make(chan struct{}), wake: make(chan struct{}, 1), waiting: make(map[uint64]chan<- message)}
}

// send queues a message. It never blocks.
func (l *link) send(m message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.held != nil {
		l.held = append(l.held, m)
		return
	}
	l.enqueue(m)
}

// enqueue is send past what is held back. mu is held.
func (l *link) enqueue(m message) {
	l.queue = append(l.queue, m)
	select {
	case l.wake <- struct{}{}:
	default: // it is awake
	}
}

// hold makes all that is sent wait until release, which sends first what it is given.
func (l *link) hold() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.held = []message{}
}

func (l *link) release(first ...message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range append(first, l.held...) {
		l.enqueue(m)
	}
	l.held = nil
}

var errLinkLost = errors.New("the other process is gone")

// ask sends a question and returns the answer. After the end of ctx that goes to who
// handles all else.
func (l *link) ask(ctx context.Context, m message) (message, error) {
	answer := make(chan message, 1)
	l.mu.Lock()
	l.asked++
	m.ID = l.asked
	l.waiting[m.ID] = answer
	l.mu.Unlock()
	l.send(m)
	select {
	case a := <-answer:
		return a, nil
	case <-l.done:
		return message{}, errLinkLost
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.waiting, m.ID)
		select {
		case a := <-answer: // just now
			return a, nil
		default:
			return message{}, ctx.Err()
		}
	}
}

// run reads what the other side sends until it is gone. Answers go to those who
// wait for them, all else to handle, in order.
func (l *link) run(handle func(message)) {
	var writing sync.WaitGroup
	defer writing.Wait()
	defer l.close()
	defer close(l.done)
	writing.Go(l.write)
	d := json.NewDecoder(bufio.NewReader(l.conn))
	for {
		var m message
		if err := d.Decode(&m); err != nil {
			return // whatever it is, there is nobody to talk to any more
		}
		if !m.Answer || !l.answered(m) {
			handle(m)
		}
	}
}

// answered gives an answer to who waits for it. It returns false when nobody does.
func (l *link) answered(m message) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	answer := l.waiting[m.ID]
	if answer == nil {
		return false
	}
	delete(l.waiting, m.ID)
	answer <- m // there is room, and who gives up looks again
	return true
}

// write sends what is queued, until the other side is gone.
func (l *link) write() {
	out := bufio.NewWriter(l.conn)
	e := json.NewEncoder(out)
	for {
		l.mu.Lock()
		queue := l.queue
		l.queue = nil
		l.mu.Unlock()
		for _, m := range queue {
			if e.Encode(m) != nil {
				return
			}
		}
		if out.Flush() != nil {
			return
		}
		if len(queue) > 0 {
			continue
		}
		select {
		case <-l.wake:
		case <-l.done:
			return
		}
	}
}

// flushTimeout bounds how long the last words to the other side may take.
const flushTimeout = 5 * time.Second

// finish waits until the other side has hung up, which it does after the last word.
func (l *link) finish() {
	t := time.NewTimer(flushTimeout)
	defer t.Stop()
	select {
	case <-l.done:
	case <-t.C:
	}
	l.close()
}

func (l *link) close() { _ = l.conn.Close() }

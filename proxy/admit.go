package proxy

import (
	"container/list"
	"context"
	"errors"
	"time"
)

// DefaultMaxLogins is the MaxLogins of a Backend that has none.
const DefaultMaxLogins = 256

// How many logins a backend gets at a time that nobody has logged in to yet, or
// that was down: each that it answers makes room for one more.
const (
	freshLogins   = 8
	probingLogins = 1 // after longer than passiveWindow
)

// errBusy says that a login had to wait too long for those before it.
var errBusy = errors.New("too many logins are under way at the backend")

// gate lets logins in to one backend: so many at a time, the others wait in the
// order in which they came. When a backend comes back, all its users do so in the
// same moment, and what has just started does worst then. As with the slow start
// of TCP, a backend that answers quickly is at its full rate within a few of its
// answers.
//
// A login that waits goes nowhere else, even where other backends may serve its
// user: it would take the user's place there for as long as the affinity lasts, and
// the next one's patience with it. Only when the backend is found to be down are
// those who wait sent on.
//
// It is guarded by liveBackends.mu.
type gate struct {
	room  int       // logins that may be under way, if MaxLogins is not less
	busy  int       // that are
	queue list.List // of *turn
}

// turn is a login at a gate.
type turn struct {
	at   *list.Element // in the queue; nil: not waiting
	over bool
	let  chan bool // told once: true to go on, false when the backend is down
}

// LoginLoad says how many logins there are at a backend.
type LoginLoad struct {
	InFlight int // from the dial to the tagged reply
	Waiting  int // for those to make room
	Room     int // how many may be in flight now
}

// Logins returns the logins there are, by backend.
func (s *Server) Logins() map[string]LoginLoad {
	l := &s.live
	l.mu.Lock()
	defer l.mu.Unlock()
	loads := make(map[string]LoginLoad, len(l.backends))
	for name, live := range l.backends {
		loads[name] = LoginLoad{InFlight: live.gate.busy, Waiting: live.gate.queue.Len(), Room: live.roomNow()}
	}
	return loads
}

// admit waits until a login may go to b: as long as its budget leaves time for a
// connection. What it returns is called when the login is over, with its failure or
// nil, and may be called more than once.
func (s *Server) admit(ctx context.Context, cfg *Config, b *Backend) (leave func(*failure), _ *failure) {
	live, t := s.live.queue(b)
	if t == nil {
		return func(*failure) {}, nil // its backend is not configured any more
	}
	leave = func(f *failure) {
		answered := f == nil || f.result != resultUnavailable && f.result != resultMisconfigured
		s.live.leave(live, t, answered)
	}
	select {
	case <-t.let: // there is nobody else: the usual case
		return leave, nil
	default:
	}
	deadline, _ := ctx.Deadline()
	left := time.Until(deadline)
	patience := time.NewTimer(max(left-cfg.ConnectTimeout, left/2))
	defer patience.Stop()
	select {
	case up := <-t.let:
		if up {
			return leave, nil
		}
		f := moved(b.Name)
		f.retry = false
		return nil, f
	case <-patience.C:
	case <-ctx.Done():
	case <-s.closing:
	}
	s.live.leave(live, t, false)
	f := unavailable("login/wait", "busy", errBusy)
	f.retry = false
	return nil, f
}

// queue lets a login stand in line at b.
func (l *liveBackends) queue(b *Backend) (*liveBackend, *turn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	live := l.of(b)
	if live == nil {
		return nil, nil
	}
	t := &turn{let: make(chan bool, 1)}
	t.at = live.gate.queue.PushBack(t)
	live.letIn()
	return live, t
}

// leave ends a login, or its waiting.
func (l *liveBackends) leave(live *liveBackend, t *turn, answered bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	g := &live.gate
	switch {
	case t.over:
		return
	case t.at != nil:
		g.queue.Remove(t.at)
	default:
		g.busy--
		if answered && g.room < live.b.maxLogins() {
			g.room++
		}
	}
	t.at, t.over = nil, true
	live.letIn()
}

// letIn lets in whoever is next. The caller holds mu.
func (live *liveBackend) letIn() {
	g := &live.gate
	for g.busy < live.roomNow() && g.queue.Len() > 0 {
		t, ok := g.queue.Remove(g.queue.Front()).(*turn)
		if !ok {
			continue
		}
		t.at = nil
		g.busy++
		t.let <- true
	}
}

// dismiss sends those on who wait for a backend that is down. The caller holds mu.
func (live *liveBackend) dismiss() {
	for g := &live.gate; g.queue.Len() > 0; {
		if t, ok := g.queue.Remove(g.queue.Front()).(*turn); ok {
			t.at, t.over = nil, true
			t.let <- false
		}
	}
}

// restart begins small again, with a backend that has been down for some time. The
// caller holds mu.
func (live *liveBackend) restart(down time.Duration) {
	live.gate.room = freshLogins
	if down > passiveWindow {
		live.gate.room = probingLogins
	}
}

// roomNow returns how many logins may be under way. The caller holds mu.
func (live *liveBackend) roomNow() int { return min(live.gate.room, live.b.maxLogins()) }

func (b *Backend) maxLogins() int {
	if b.MaxLogins == 0 {
		return DefaultMaxLogins
	}
	return b.MaxLogins
}

package proxy

import (
	"context"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// TraceLine is one line of a dialogue, as far as it can be shown to people: secrets,
// and whatever is not understood, are told by their length alone. See mask.go.
type TraceLine struct {
	At      time.Time
	Session string // as in the log
	Remote  netip.AddrPort
	User    string // normalised name, "" while nobody is known

	// Who spoke: C the client, S the proxy to the client, P the proxy to the
	// backend, B the backend; "-" is a remark of the proxy.
	Who  string
	Text string
}

// TraceOptions choose what is traced: what belongs to a user, or comes from a
// network. Zero fields choose nothing.
type TraceOptions struct {
	User    string // normalised name
	Network netip.Prefix
}

const (
	maxTraceLines = 200  // of a connection, kept for when its user is known
	maxTraceText  = 500  // octets of a line
	traceQueue    = 1000 // lines that somebody who watches has not seen yet
)

// traces are the traces that are watched now. The zero value is ready to use.
type traces struct {
	active atomic.Int32 // watches: what a connection asks before all else

	mu      sync.Mutex
	watches map[*traceWatch]struct{}
}

// traceWatch is somebody who watches.
type traceWatch struct {
	TraceOptions
	lines chan TraceLine
	lost  atomic.Int64 // lines that there was no room for
}

func (w *traceWatch) wants(l *TraceLine) bool {
	return w.User != "" && w.User == l.User || w.Network.IsValid() && w.Network.Contains(l.Remote.Addr())
}

// Trace calls show with each line of the dialogues that match, until ctx ends, show
// returns an error, or the server closes. Of a connection whose user becomes known,
// what was said before comes first, if it was said since a trace began. Lines are
// lost rather than waited for.
func (s *Server) Trace(ctx context.Context, o TraceOptions, show func(TraceLine) error) error {
	w := &traceWatch{TraceOptions: o, lines: make(chan TraceLine, traceQueue)}
	t := &s.traces
	t.mu.Lock()
	if t.watches == nil {
		t.watches = make(map[*traceWatch]struct{})
	}
	t.watches[w] = struct{}{}
	t.mu.Unlock()
	t.active.Add(1)
	defer func() {
		t.active.Add(-1)
		t.mu.Lock()
		defer t.mu.Unlock()
		delete(t.watches, w)
	}()
	for {
		select {
		case l := <-w.lines:
			if n := w.lost.Swap(0); n > 0 {
				if err := show(TraceLine{At: l.At, Who: "-", Text: octets("lines lost", int(n))}); err != nil {
					return err
				}
			}
			if err := show(l); err != nil {
				return err
			}
		case <-ctx.Done():
			return nil
		case <-s.closing:
			return ErrServerClosed
		}
	}
}

// tracer is the dialogue of one connection, while there is a trace. The nil tracer
// shows nothing. It is owned by the connection's goroutine, and by nobody else: its
// lines are what others see.
type tracer struct {
	traces *traces
	about  TraceLine // but for what is said
	told   []TraceLine
	shown  map[*traceWatch]struct{} // who has seen what was told
}

// traced returns the connection's tracer, nil when nobody watches anything.
func (c *conn) traced() *tracer {
	if c.srv.traces.active.Load() == 0 {
		c.trace = nil
		return nil
	}
	if c.trace == nil {
		c.trace = &tracer{traces: &c.srv.traces, shown: make(map[*traceWatch]struct{})}
	}
	c.trace.about.Session, c.trace.about.Remote = c.client.session, c.client.remote
	return c.trace
}

// say shows a line, which has to be masked already.
func (t *tracer) say(who, text string) {
	if t == nil {
		return
	}
	l := t.about
	l.At, l.Who, l.Text = time.Now(), who, text[:min(len(text), maxTraceText)]
	if len(t.told) < maxTraceLines {
		t.told = append(t.told, l)
	}
	t.traces.mu.Lock()
	defer t.traces.mu.Unlock()
	for w := range t.traces.watches {
		if _, ok := t.shown[w]; ok {
			w.offer(l)
			continue
		}
		if !w.wants(&l) {
			continue
		}
		t.shown[w] = struct{}{}
		for _, before := range t.told {
			w.offer(before)
		}
	}
}

// offer hands a line over, without waiting.
func (w *traceWatch) offer(l TraceLine) {
	select {
	case w.lines <- l:
	default:
		w.lost.Add(1)
	}
}

// traceUser notes who the client says it is.
func (c *conn) traceUser(key string) {
	if t := c.traced(); t != nil {
		t.about.User = key
		t.say("-", "the user is known")
	}
}

// taken returns how many octets of the client were consumed since the last call.
func (c *conn) taken() int {
	at := c.received - c.in.Buffered()
	n := at - c.consumed
	c.consumed = at
	return n
}

package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// Options are the parts of a [Server] that never change.
type Options struct {
	Logger  *zap.Logger // nil: logs nothing
	Dial    DialFunc    // nil: TCP
	Metrics Metrics     // nil: counts nothing

	// KickElsewhere ends sessions of a user that another process has, and returns
	// how many; nil: there is no other process.
	KickElsewhere func(ctx context.Context, user string, match func(SessionInfo) bool, o KickOptions) int

	// Descriptors is how many file descriptors the process may have; they bound
	// the connections there can be. 0: any number.
	Descriptors int

	// Strain returns what the process lacks (LackMemory, LackCPU) when asked, four
	// times a second; nil: nothing ever.
	Strain func() []string
}

// Server accepts IMAP clients, logs them in at their backends and splices the
// two connections. Its methods are safe for concurrent use. Nothing runs before
// the first [Server.Serve].
type Server struct {
	// Static after construction.
	log     *zap.Logger
	dial    DialFunc
	metrics Metrics

	kickElsewhere func(ctx context.Context, user string, match func(SessionInfo) bool, o KickOptions) int
	descriptors   int
	strain        func() []string

	configuring sync.Mutex // one SetConfig at a time

	cfg        atomic.Pointer[Config]
	live       liveBackends
	stocks     atomic.Pointer[map[*Backend]*stock] // nil while nothing is served
	handshakes turnstile
	failures   failureLog
	traces     traces
	loops      loops // where sessions are parked
	rejections rejections
	admission  admission
	overload   overload

	wg sync.WaitGroup // connections, sessions, the watch on the backends

	reconfigured chan struct{} // tells the watch of a new configuration
	probed       chan struct{} // closed once the backends were looked at
	markProbed   func()

	draining atomic.Bool // by Drain

	mu        sync.Mutex
	listeners map[*Listener]struct{}
	conns     map[*conn]struct{}
	sessions  map[*session]struct{}
	entering  map[*entering]struct{}
	watching  bool
	idle      chan struct{} // closed when there is nobody any more; nil: nobody asks
	closing   chan struct{} // closed by Shutdown and Close
	closed    bool
	aborted   bool // by Close
}

// NewServer returns a server that serves as cfg says.
func NewServer(cfg *Config, o Options) (*Server, error) {
	s := &Server{
		log: o.Logger, dial: o.Dial, metrics: o.Metrics, kickElsewhere: o.KickElsewhere,
		descriptors: o.Descriptors, strain: o.Strain,
		listeners: make(map[*Listener]struct{}),
		conns:     make(map[*conn]struct{}),
		sessions:  make(map[*session]struct{}),
		entering:  make(map[*entering]struct{}),
		closing:   make(chan struct{}),

		reconfigured: make(chan struct{}, 1),
		probed:       make(chan struct{}),
	}
	s.loops.init(s)
	s.markProbed = sync.OnceFunc(func() { close(s.probed) })
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if s.dial == nil {
		s.dial = dialTCP
	}
	if s.metrics == nil {
		s.metrics = noMetrics{}
	}
	return s, s.SetConfig(cfg)
}

// SetConfig makes cfg the configuration of the connections accepted from now
// on. Connections that were accepted before keep theirs. The server keeps cfg;
// it must not be changed any more.
func (s *Server) SetConfig(cfg *Config) error {
	full, err := cfg.withDefaults()
	if err != nil {
		return fmt.Errorf("proxy: %w", err)
	}
	s.configuring.Lock()
	defer s.configuring.Unlock()
	for _, name := range s.live.update(full) {
		if full.Health != nil {
			full.Health.SetHealth(name, true, "not looked at yet")
		}
	}
	s.handshakes.setPlaces(full.Handshakes)
	s.cfg.Store(full)
	select {
	case s.reconfigured <- struct{}{}:
	default: // it has not yet taken note of the one before
	}
	return nil
}

// Serve accepts connections of l until ctx is cancelled (it then returns nil,
// and the connections live on) or the server is shut down (ErrServerClosed).
// It closes l in any case.
func (s *Server) Serve(ctx context.Context, l *Listener) error {
	if l.TLS < TLSImplicit || l.TLS > TLSNone {
		return fmt.Errorf("proxy: listener %s: no TLS mode", l.Name)
	}
	if l.TLS != TLSNone && l.TLSConfig == nil {
		return fmt.Errorf("proxy: listener %s: TLS mode %s without a TLS configuration", l.Name, l.TLS)
	}
	base := context.WithoutCancel(ctx)
	if !s.addListener(base, l) {
		_ = l.Close()
		return ErrServerClosed
	}
	defer s.removeListener(l)
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	s.log.Info("listening", zap.String("listener", l.Name), zap.Stringer("address", l.Addr()), zap.Stringer("tls", l.TLS))

	// What is offered to the first clients depends on what the backends can do.
	s.awaitProbe(ctx)

	var pause time.Duration
	for {
		nc, err := l.Accept()
		switch {
		case err == nil:
			pause = s.paced(pause)
			s.start(base, l, nc)
			s.breathe(ctx)
			continue
		case s.isClosed():
			return ErrServerClosed
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("proxy: listener %s: %w", l.Name, err)
		}
		// Too many open files, or a client that went away in the queue: wait
		// a little, and never give the listener up.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		if s.noteAccept(err) {
			s.log.Warn("accept failed", zap.String("listener", l.Name), zap.Error(err), zap.Duration("retry_in", pause))
		}
		if !s.wait(ctx, pause) {
			continue // the next Accept tells why
		}
	}
}

// start runs one accepted connection.
func (s *Server) start(base context.Context, l *Listener, nc net.Conn) {
	ctx, cancel := context.WithCancel(base)
	c := newConn(s, l, nc, cancel)
	if full := s.arrive(c); full != nil {
		c.turnAway(full.bye())
		return
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		c.place.leave()
		c.turnAway("* BYE " + endShutdown.text)
		return
	}
	s.conns[c] = struct{}{}
	s.wg.Add(1)
	s.mu.Unlock()
	s.metrics.Accepted(l.Name)
	go func() {
		defer s.wg.Done()
		deepen(0)
		ss := c.serve(ctx)
		cancel()
		c = nil // with it its configuration, and the table of that
		if ss != nil {
			ss.run()
		}
	}()
}

// wait waits for d. It returns false when ctx ends or the server closes first.
func (s *Server) wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
	case <-s.closing:
	}
	return false
}

// awaitProbe waits until the backends were looked at once, or for as long as one
// that answers would take.
func (s *Server) awaitProbe(ctx context.Context) {
	t := time.NewTimer(s.cfg.Load().ConnectTimeout)
	defer t.Stop()
	select {
	case <-s.probed:
	case <-t.C:
	case <-ctx.Done():
	case <-s.closing:
	}
}

// waitFor waits until done is closed, nil counting as closed. It returns false when
// ctx ends or the server closes first.
func (s *Server) waitFor(ctx context.Context, done <-chan struct{}) bool {
	if done == nil {
		return ctx.Err() == nil
	}
	select {
	case <-done:
		return true
	case <-ctx.Done():
	case <-s.closing:
	}
	return false
}

// addListener notes l, and begins to watch the backends with the first one.
func (s *Server) addListener(base context.Context, l *Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	s.listeners[l] = struct{}{}
	s.watchOnce(base)
	return true
}

// watch begins to watch the backends, unless they are watched.
func (s *Server) watch(base context.Context) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.watchOnce(base)
	}
}

// watchOnce is watch. mu is held.
func (s *Server) watchOnce(base context.Context) {
	if !s.watching {
		s.watching = true
		s.wg.Go(func() { s.watchBackends(base) })
		if s.strain != nil {
			s.wg.Go(s.watchStrain)
		}
	}
}

func (s *Server) removeListener(l *Listener) {
	_ = l.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.listeners, l)
}

func (s *Server) removeConn(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.conns, c)
	s.noteIdle()
}

// addSession notes a spliced session, so that it can be ended. One that begins while
// the server shuts down, or that somebody meant to end before it began, is ended at
// once.
func (s *Server) addSession(ss *session, en *entering) {
	s.mu.Lock()
	s.sessions[ss] = struct{}{}
	delete(s.entering, en)
	e := en.ended
	if s.closed {
		e = endShutdown
	}
	aborted := s.aborted
	s.mu.Unlock()
	if e != nil {
		ss.end(e)
	}
	if aborted {
		ss.abort()
	}
}

func (s *Server) removeSession(ss *session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.sessions, ss)
	s.noteIdle()
}

func (s *Server) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

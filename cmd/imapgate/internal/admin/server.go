package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"imapgate/proxy"
)

// Options are the parts of a [Server]. All are needed, but for those that say
// otherwise.
type Options struct {
	Proxy   Proxy
	Site    Site
	Metrics *Metrics
	History *History
	Log     *zap.Logger // nil: logs nothing

	Build         Build
	Config        string // the configuration file
	OverridesFile string // where route.State keeps changes; "": nowhere
}

// Server serves the API. Use [New] to make one. Its methods are safe for
// concurrent use; nothing runs before Serve.
type Server struct {
	// Static after construction.
	Options
	log     *zap.Logger
	started time.Time
	local   http.Handler // for the unix socket
	remote  http.Handler // for TCP
	diffing chan struct{}

	tokens atomic.Pointer[Tokens] // nil: TCP needs none

	wg sync.WaitGroup // listeners, and what ends sessions

	mu      sync.Mutex
	moving  map[string]struct{} // users of moves under way
	leaving map[string]*leaving // backends that sessions are ended of
	closed  bool
	changes int           // requests under way that change something
	frozen  bool          // a new process is taking over
	settled chan struct{} // closed when changes is 0; nil: nobody waits

	watchers atomic.Int32 // requests for events
	tracers  atomic.Int32 // requests for traces
	viewMu   sync.Mutex
	view     view
}

// New returns a server that shows and changes what o names.
func New(o Options) (*Server, error) {
	s := &Server{
		Options: o, log: o.Log, started: time.Now().UTC(),
		moving: make(map[string]struct{}), leaving: make(map[string]*leaving), diffing: make(chan struct{}, 1),
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	mux, err := s.routes()
	if err != nil {
		return nil, err
	}
	local := http.NewServeMux()
	local.Handle("/", mux)
	for path, profile := range map[string]http.HandlerFunc{
		"": pprof.Index, "cmdline": pprof.Cmdline, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace,
	} {
		local.HandleFunc("GET /debug/pprof/"+path, func(w http.ResponseWriter, r *http.Request) {
			setDeadline(w, time.Time{})
			profile(w, r)
		})
	}
	s.local = s.guard(markLocal(local))
	s.remote = s.guard(s.checkHost(s.authenticate(mux)))
	return s, nil
}

// routes returns all that TCP and the socket have in common.
func (s *Server) routes() (*http.ServeMux, error) {
	mux := http.NewServeMux()
	methods := make(map[string]string) // allowed, by path
	for _, e := range endpoints() {
		mux.HandleFunc(e.method+" "+e.path, func(w http.ResponseWriter, r *http.Request) { s.serve(e, w, r) })
		methods[e.path] = e.method
	}
	for path, h := range s.others() {
		mux.Handle("GET "+path, h)
		methods[path] = http.MethodGet
	}
	for path, method := range methods {
		mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", method)
			s.fail(w, r, failf(http.StatusMethodNotAllowed, "%s is not allowed here, %s is", r.Method, method))
		})
	}
	mux.HandleFunc("/v1/", func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, failf(http.StatusNotFound, "there is no %s", r.URL.Path))
	})
	page, err := webPage()
	if err != nil {
		return nil, err
	}
	mux.Handle("/", page)
	return mux, nil
}

// others returns what speaks something else than JSON, by path. All of it is GET.
func (s *Server) others() map[string]http.Handler {
	return map[string]http.Handler{
		"/v1/events":       http.HandlerFunc(s.events),
		"/v1/trace":        http.HandlerFunc(s.trace),
		"/v1/openapi.yaml": http.HandlerFunc(serveOpenAPI),
		"/healthz":         http.HandlerFunc(s.healthz),
		"/readyz":          http.HandlerFunc(s.readyz),
		"/metrics": promhttp.HandlerFor(s.Metrics.gatherer(s), promhttp.HandlerOpts{
			MaxRequestsInFlight: maxScrapes,
		}),
	}
}

const (
	maxScrapes = 4 // of metrics at the same time

	headerTimeout   = 5 * time.Second
	idleTimeout     = 2 * time.Minute
	shutdownTimeout = 2 * time.Second
	maxHeader       = 64 << 10
)

// Serve serves on the listeners, of which there may be none, until ctx ends, and
// closes them. Drains end at their deadlines meanwhile. When it returns, nothing
// runs any more. The error is that of a listener that failed.
func (s *Server) Serve(ctx context.Context, listeners ...*Listener) error {
	requests, cancel := context.WithCancel(ctx)
	defer cancel()
	var open connections
	servers := make([]*http.Server, 0, len(listeners))
	failed := make(chan error, len(listeners))
	for _, l := range listeners {
		errorLog, err := zap.NewStdLogAt(s.log, zap.DebugLevel)
		if err != nil {
			return err
		}
		server := &http.Server{
			Handler:           s.handler(l),
			ReadHeaderTimeout: headerTimeout,
			IdleTimeout:       idleTimeout,
			MaxHeaderBytes:    maxHeader,
			ErrorLog:          errorLog,
			BaseContext:       func(net.Listener) context.Context { return requests },
			ConnContext:       withPeer,
			ConnState:         open.note,
		}
		servers = append(servers, server)
		s.log.Info("admin API", zap.Stringer("address", l.Addr()))
		s.wg.Go(func() {
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
				failed <- err
			}
		})
	}
	s.resume(requests)
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	cancel()
	s.stopLeaving()
	for i, server := range servers {
		_ = listeners[i].Close()
		server.SetKeepAlivesEnabled(false)
	}
	// Shutdown would close connections that were accepted a moment ago, whatever
	// they ask for, and after an upgrade there is always somebody who asks.
	open.wait(shutdownTimeout)
	for _, server := range servers {
		shutdown, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
		if server.Shutdown(shutdown) != nil {
			_ = server.Close()
		}
		cancel()
	}
	s.wg.Wait()
	return err
}

// connections are those with a request that is not answered, or about to come. The
// zero value is ready to use.
type connections struct {
	mu   sync.Mutex
	busy map[net.Conn]struct{}
	none chan struct{} // closed when there is none; nil: nobody waits
}

// note is an [http.Server]'s ConnState.
func (c *connections) note(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew, http.StateActive:
		if c.busy == nil {
			c.busy = make(map[net.Conn]struct{})
		}
		c.busy[conn] = struct{}{}
	case http.StateIdle, http.StateHijacked, http.StateClosed:
		delete(c.busy, conn)
	}
	if len(c.busy) == 0 && c.none != nil {
		close(c.none)
		c.none = nil
	}
}

// wait waits until there is none, and no longer than limit.
func (c *connections) wait(limit time.Duration) {
	c.mu.Lock()
	none := make(chan struct{})
	if len(c.busy) == 0 {
		close(none)
	} else {
		c.none = none
	}
	c.mu.Unlock()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-none:
	case <-t.C:
	}
}

func (s *Server) handler(l *Listener) http.Handler {
	if l.local {
		return s.local
	}
	return s.remote
}

// localKey is the key, in the context of a request, of whether it came by the unix
// socket.
type localKey struct{}

func markLocal(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		next.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), localKey{}, true)))
	})
}

// errNotLocal answers requests that only the unix socket takes.
var errNotLocal = &apiError{code: http.StatusForbidden, text: "only for who may use the unix socket"}

func isLocal(r *http.Request) bool { return r.Context().Value(localKey{}) != nil }

// guard bounds the time of a request, and refuses what a browser sends at the
// bidding of another site.
func (s *Server) guard(next http.Handler) http.Handler {
	p := http.NewCrossOriginProtection()
	p.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.fail(w, r, failf(http.StatusForbidden, "the request comes from another site"))
	}))
	protected := p.Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setDeadline(w, time.Now().Add(callTimeout))
		protected.ServeHTTP(w, r)
	})
}

// setDeadline bounds what is left of a request. The zero time lifts the bound; a
// read deadline that passed would also cancel the request's context.
func setDeadline(w http.ResponseWriter, deadline time.Time) {
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(deadline)
	_ = control.SetWriteDeadline(deadline)
}

var _ Proxy = (*proxy.Server)(nil)

package admin

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	dto "github.com/prometheus/client_model/go"

	"imapgate/proxy"
)

// Metrics counts what happens, for Prometheus. It implements [proxy.Metrics]. Use
// [NewMetrics] to make one.
type Metrics struct {
	connections    *prometheus.CounterVec
	handshakes     *prometheus.CounterVec
	handshakeWaits *prometheus.HistogramVec
	attempts       *prometheus.CounterVec
	attemptSeconds prometheus.Histogram
	decisions      *prometheus.CounterVec
	connectSeconds *prometheus.HistogramVec
	warmLogins     *prometheus.CounterVec
	errors         *prometheus.CounterVec
	active         *prometheus.GaugeVec
	started        *prometheus.CounterVec
	bytes          *prometheus.CounterVec
	limited        *prometheus.CounterVec
	unlogged       prometheus.Counter

	mu     sync.Mutex
	logins map[string]*rate // by backend; "" is all
}

var _ proxy.Metrics = (*Metrics)(nil)

const namespace = "imapgate"

// NewMetrics returns metrics of which nothing has been counted.
func NewMetrics() *Metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, buckets ...float64) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets}
	}
	return &Metrics{
		connections: counter("connections_total", "Connections that clients opened.", "listener"),
		handshakes:  counter("tls_handshakes_total", "TLS handshakes with clients: ok, resumed (ok, with a session ticket) or failed; version is empty for those that failed.", "listener", "version", "result"),
		handshakeWaits: prometheus.NewHistogramVec(histogram("tls_handshake_wait_seconds", "How long TLS handshakes with clients waited for others to be computed.",
			.001, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10), []string{"listener"}),
		attempts: counter("auth_attempts_total", "Logins that clients tried, by how they ended.", "mechanism", "result"),
		attemptSeconds: prometheus.NewHistogram(histogram("auth_duration_seconds", "From a login's last byte to its outcome, the backend's part included.",
			.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30)),
		decisions: counter("route_decisions_total", "Routing decisions, by the step of the lookup that decided.", "reason"),
		connectSeconds: prometheus.NewHistogramVec(histogram("backend_connect_duration_seconds", "From connecting to a backend to its greeting.",
			.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5), []string{"backend"}),
		warmLogins: counter("backend_warm_logins_total",
			"Logins at a backend that keeps connections ready: hit, miss, or stale when the one that was kept had been closed.", "backend", "result"),
		errors: counter("backend_errors_total", "Errors of backends, those that checks found included.", "backend", "reason"),
		active: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: namespace, Name: "sessions_active", Help: "Sessions there are.",
		}, []string{"backend"}),
		started: counter("sessions_total", "Sessions that began.", "backend"),
		limited: counter("limited_total", "What limits kept out, turned away or slowed down.", "limit"),
		bytes:   counter("session_bytes_total", "Bytes of sessions after their login, counted when a session ends.", "direction"),
		unlogged: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Name: "log_dropped_total", Help: "Lines of the log that were dropped, because nobody took it.",
		}),
		logins: make(map[string]*rate),
	}
}

// LogLineDropped counts a line of the log that nobody will see.
func (m *Metrics) LogLineDropped() { m.unlogged.Inc() }

// all returns what is counted.
func (m *Metrics) all() []prometheus.Collector {
	return []prometheus.Collector{
		m.connections, m.handshakes, m.handshakeWaits, m.attempts, m.attemptSeconds, m.decisions, m.connectSeconds, m.warmLogins, m.errors, m.active, m.started, m.bytes, m.limited, m.unlogged,
	}
}

// gatherer returns the metrics, and those that are looked up when somebody asks.
func (m *Metrics) gatherer(s *Server) prometheus.Gatherer {
	r := prometheus.NewRegistry()
	r.MustRegister(m.all()...)
	r.MustRegister(newCollector(s), collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		for _, b := range s.Site.InForce().Table.Backends() {
			m.active.WithLabelValues(b.Name) // a backend without sessions has 0 of them
			m.started.WithLabelValues(b.Name)
		}
		return r.Gather()
	})
}

// Accepted implements [proxy.Metrics], like all the methods below.
func (m *Metrics) Accepted(listener string) { m.connections.WithLabelValues(listener).Inc() }

// Handshake counts a TLS handshake with a client, and how long it waited.
func (m *Metrics) Handshake(listener, version, result string, waited time.Duration) {
	m.handshakes.WithLabelValues(listener, version, result).Inc()
	m.handshakeWaits.WithLabelValues(listener).Observe(waited.Seconds())
}

// Authenticated counts a login and how long it took.
func (m *Metrics) Authenticated(mechanism, result string, took time.Duration) {
	m.attempts.WithLabelValues(mechanism, result).Inc()
	m.attemptSeconds.Observe(took.Seconds())
}

// Routed counts a decision of the routing table.
func (m *Metrics) Routed(reason string) { m.decisions.WithLabelValues(reason).Inc() }

// BackendConnected counts a connection to a backend.
func (m *Metrics) BackendConnected(backend string, took time.Duration) {
	m.connectSeconds.WithLabelValues(backend).Observe(took.Seconds())
}

// WarmLogin counts a login at a backend that keeps connections ready.
func (m *Metrics) WarmLogin(backend, result string) {
	m.warmLogins.WithLabelValues(backend, result).Inc()
}

// BackendFailed counts an error of a backend.
func (m *Metrics) BackendFailed(backend, reason string) {
	m.errors.WithLabelValues(backend, reason).Inc()
}

// SessionStarted counts a session.
func (m *Metrics) SessionStarted(backend string) {
	m.active.WithLabelValues(backend).Inc()
	m.started.WithLabelValues(backend).Inc()
	now := time.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, name := range []string{"", backend} {
		r := m.logins[name]
		if r == nil {
			r = new(rate)
			m.logins[name] = r
		}
		r.add(now)
	}
}

// SessionEnded counts the end of a session.
func (m *Metrics) SessionEnded(backend string, fromClient, fromBackend int64) {
	m.active.WithLabelValues(backend).Dec()
	m.bytes.WithLabelValues("from_client").Add(float64(fromClient))
	m.bytes.WithLabelValues("from_backend").Add(float64(fromBackend))
}

// Limited counts what a limit kept out, turned away or slowed down.
func (m *Metrics) Limited(limit string) { m.limited.WithLabelValues(limit).Inc() }

// loginRate returns the logins a second at a backend, "" for all.
func (m *Metrics) loginRate(backend string, now time.Time) float64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	if r := m.logins[backend]; r != nil {
		return r.perSecond(now)
	}
	return 0
}

// rateWindow is over how many seconds a rate is taken.
const rateWindow = 10

// rate counts events of the last seconds. The zero value has seen none.
type rate struct {
	counts [rateWindow + 1]int64 // by second; the last one is not over
	last   int64                 // second of the last event
}

func (r *rate) add(now time.Time) {
	r.forget(now.Unix())
	r.counts[now.Unix()%int64(len(r.counts))]++
}

// forget makes room for the seconds up to now.
func (r *rate) forget(second int64) {
	for n := max(r.last+1, second-rateWindow); n <= second; n++ {
		r.counts[n%int64(len(r.counts))] = 0
	}
	r.last = max(r.last, second)
}

func (r *rate) perSecond(now time.Time) float64 {
	r.forget(now.Unix())
	sum := int64(0)
	for n, count := range r.counts {
		if int64(n) != now.Unix()%int64(len(r.counts)) { // that second is not over
			sum += count
		}
	}
	return float64(sum) / rateWindow
}

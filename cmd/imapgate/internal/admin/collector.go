package admin

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"imapgate/proxy"
	"imapgate/route"
)

// collector tells what is looked up when somebody asks.
type collector struct {
	s *Server

	build, rows, loaded, up, admin, weight, inFlight, queued, atOnce, overrides, saved, expiry, problem, reloaded, waiting, warm, handshakes, overload *prometheus.Desc
}

func newCollector(s *Server) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil)
	}
	return &collector{
		s:          s,
		build:      desc("build_info", "What is running; the value is 1.", "version", "revision", "goversion"),
		rows:       desc("table_rows", "Rows of the routing table in force.", "kind"),
		loaded:     desc("table_last_success_timestamp_seconds", "When the routing table in force was loaded."),
		up:         desc("backend_up", "Whether a backend works, as checks found.", "backend"),
		admin:      desc("backend_admin_state", "What people decided about a backend: 1 for the state that it is in.", "backend", "state"),
		weight:     desc("backend_weight", "The weight of a backend that is in effect.", "backend"),
		inFlight:   desc("backend_logins_in_flight", "Logins at a backend that it has not answered yet.", "backend"),
		queued:     desc("backend_logins_waiting", "Logins that wait for those in flight at their backend.", "backend"),
		atOnce:     desc("backend_logins_in_flight_max", "How many logins may be in flight at a backend now: it begins small when it comes back.", "backend"),
		overrides:  desc("overrides", "Changes of people that are in force.", "kind"),
		saved:      desc("overrides_saved", "Whether the changes of people would survive a restart."),
		expiry:     desc("cert_expiry_timestamp_seconds", "When a certificate that clients see expires.", "name"),
		problem:    desc("cert_problem", "Whether a certificate that clients are to see is yet to be obtained, not valid, older than its files, or cannot be renewed.", "name"),
		reloaded:   desc("config_last_reload_successful", "Whether the configuration, the tables and the certificates in force are what their files say."),
		waiting:    desc("connections_active", "Clients that are connected and have not logged in."),
		handshakes: desc("tls_handshakes_waiting", "TLS handshakes with clients that wait for others to be computed."),
		warm:       desc("backend_warm_connections", "Connections to a backend that wait for a login.", "backend"),
		overload:   desc("overload", "Whether the proxy lacks something, so that new clients wait or are turned away.", "lack"),
	}
}

// Describe implements [prometheus.Collector].
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.build, c.rows, c.loaded, c.up, c.admin, c.weight, c.inFlight, c.queued, c.atOnce, c.overrides, c.saved, c.expiry, c.problem, c.reloaded, c.waiting, c.warm, c.handshakes, c.overload} {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	e := c.s.look()
	gauge(c.build, 1, e.Status.Build.Version, e.Status.Build.Revision, e.Status.Build.Go)
	gauge(c.rows, float64(e.Status.Table.Users), "user")
	gauge(c.rows, float64(e.Status.Table.Domains), "domain")
	gauge(c.loaded, seconds(e.Status.Table.LoadedAt))
	for _, b := range e.Backends {
		gauge(c.up, truth(b.Up), b.Name)
		for _, state := range []route.Admin{route.AdminReady, route.AdminDrain, route.AdminMaint} {
			gauge(c.admin, truth(b.Admin == state), b.Name, string(state))
		}
		gauge(c.weight, float64(b.Weight), b.Name)
		gauge(c.inFlight, float64(b.LoginsInFlight), b.Name)
		gauge(c.queued, float64(b.LoginsWaiting), b.Name)
		gauge(c.atOnce, float64(b.LoginsAtOnce), b.Name)
	}
	o := e.Status.Overrides
	for kind, n := range map[route.OverrideKind]int{
		route.OverrideAdmin: o.Admin, route.OverrideWeight: o.Weight, route.OverridePin: o.Pin, route.OverrideHold: o.Hold,
	} {
		gauge(c.overrides, float64(n), string(kind))
	}
	gauge(c.saved, truth(o.File != "" && o.Error == ""))
	for name, cert := range c.s.certs(e.Status.Now) {
		gauge(c.problem, truth(cert.problem), name)
		if !cert.expires.IsZero() {
			gauge(c.expiry, seconds(cert.expires), name)
		}
	}
	gauge(c.reloaded, truth(c.s.History.OK()))
	gauge(c.waiting, float64(e.Status.Connections))
	gauge(c.handshakes, float64(c.s.Proxy.HandshakesWaiting()))
	for name, n := range c.s.Proxy.WarmConnections() {
		gauge(c.warm, float64(n), name)
	}
	for _, lack := range []string{proxy.LackConnections, proxy.LackDescriptors, proxy.LackMemory, proxy.LackCPU} {
		gauge(c.overload, truth(slices.Contains(e.Status.Overload, lack)), lack)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// seconds is a time as Prometheus has it; 0 is never.
func seconds(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

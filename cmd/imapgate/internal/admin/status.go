package admin

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"imapgate/proxy"
	"imapgate/route"
)

func parseQuery(raw string) (url.Values, error) {
	query, err := url.ParseQuery(raw)
	if err != nil {
		return nil, failf(http.StatusBadRequest, "bad query: %v", err)
	}
	return query, nil
}

func (s *Server) status(*call) (*Status, error) {
	e := s.look()
	return &e.Status, nil
}

func (s *Server) backends(*call) (*Backends, error) {
	e := s.look()
	return &Backends{Now: e.Status.Now, Backends: e.Backends, Pools: e.Pools}, nil
}

// look returns all that can be told without a look at each session.
func (s *Server) look() Event {
	now := time.Now().UTC()
	in := s.Site.InForce()
	e := Event{Backends: []Backend{}, Pools: append([]route.PoolStatus{}, in.Table.Pools()...)}
	stats := in.Table.Stats()
	st := Status{
		Now: now, Build: s.Build, PID: os.Getpid(), Started: s.started, Config: s.Config,
		Draining: s.Proxy.Draining(), Listeners: append([]string{}, s.Proxy.Listening()...), Connections: s.Proxy.Connections(),
		Overload:        append([]string{}, s.Proxy.Overload()...),
		LoginsPerSecond: s.Metrics.loginRate("", now),
		Table:           TableStatus{Users: stats.Users, Domains: stats.Domains, Generation: stats.Generation, LoadedAt: stats.LoadedAt.UTC()},
	}
	logins := s.Proxy.Logins()
	for _, b := range in.Table.Backends() {
		e.Backends = append(e.Backends, s.backend(b, logins[b.Name], now))
		st.Sessions += b.Sessions
		st.Users += b.Users
		st.Backends.add(b)
	}
	counts, made := in.Table.State().CountOverrides()
	st.Overrides = OverrideCounts{
		Admin: counts.Admin, Weight: counts.Weight, Pin: counts.Pin, Hold: counts.Hold, Made: made, File: s.OverridesFile,
	}
	if err := in.Table.State().SaveError(); err != nil {
		st.Overrides.Error = err.Error()
	}
	if last := s.History.List(); len(last) > 0 {
		st.Reload = &last[0]
	}
	st.Older = s.Site.Older()
	st.Missing = s.missing(in)
	st.Ready = len(st.Missing) == 0
	e.Status = st
	return e
}

func (s *Server) backend(b route.BackendStatus, load proxy.LoginLoad, now time.Time) Backend {
	b.HealthSince = b.HealthSince.UTC()
	return Backend{
		BackendStatus: b, LoginsPerSecond: s.Metrics.loginRate(b.Name, now),
		LoginsInFlight: load.InFlight, LoginsWaiting: load.Waiting, LoginsAtOnce: load.Room,
	}
}

func (c *BackendCounts) add(b route.BackendStatus) {
	if b.Up {
		c.Up++
	} else {
		c.Down++
	}
	switch b.Admin {
	case route.AdminDrain:
		c.Drain++
	case route.AdminMaint:
		c.Maint++
	case route.AdminReady:
	}
}

// missing returns what keeps the proxy from serving new clients.
func (s *Server) missing(in InForce) []string {
	t := in.Table
	missing := []string{}
	add := func(is bool, what string) {
		if is {
			missing = append(missing, what)
		}
	}
	up := func(b route.BackendStatus) bool { return b.Up && b.Admin != route.AdminMaint }
	add(s.Proxy.Draining(), "it is shutting down")
	add(len(s.Proxy.Listening()) == 0, "no listener is open")
	loaded := t.Stats().Generation > 0
	add(!loaded, "no routing table is loaded")
	add(loaded && !slices.ContainsFunc(t.Backends(), up), "no backend is up")
	add(in.selfSigned(), "no certificate is obtained yet, clients see a self-signed one")
	for _, lack := range s.Proxy.Overload() {
		add(lack != proxy.LackCPU, "it is overloaded: it lacks "+lack) // slow is better than not at all
	}
	return missing
}

// healthz says that the process answers.
func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	writeText(w, http.StatusOK, "ok\n")
}

// readyz says whether new clients should be sent here, and if not, why.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	missing := s.missing(s.Site.InForce())
	if len(missing) == 0 {
		text := "ready"
		if lacks := s.Proxy.Overload(); len(lacks) > 0 {
			text = "ready, but it lacks " + strings.Join(lacks, ", ")
		}
		writeText(w, http.StatusOK, strings.Join(append([]string{text}, s.troubles()...), "\n")+"\n")
		return
	}
	writeText(w, http.StatusServiceUnavailable, "not ready: "+strings.Join(missing, ", ")+"\n")
}

func writeText(w http.ResponseWriter, code int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
	_, _ = fmt.Fprint(w, text)
}

func (s *Server) overrides(c *call) (*Overrides, error) {
	limit, err := c.number("limit", 0)
	if err != nil {
		return nil, err
	}
	kind := route.OverrideKind(c.URL.Query().Get("kind"))
	switch kind {
	case "", route.OverrideAdmin, route.OverrideWeight, route.OverridePin, route.OverrideHold:
	default:
		return nil, failf(http.StatusBadRequest, "kind=%q is not admin, weight, pin or hold", kind)
	}
	out := &Overrides{Now: time.Now().UTC(), Overrides: []Override{}}
	stale := Staleness(s.Site.InForce().Table)
	for _, o := range s.Site.InForce().Table.State().Overrides() {
		if kind != "" && o.Kind != kind {
			continue
		}
		if out.Total++; limit == 0 || out.Total <= limit {
			out.Overrides = append(out.Overrides, Override{o, stale(o)})
		}
	}
	return out, nil
}

// Staleness says of changes whether they are about backends that the table in force
// does not have. They do no harm, but to users who are pinned there; and they
// would be in force again with a backend of that name.
func Staleness(t *route.Table) func(route.Override) bool {
	known := make(map[string]bool)
	for _, b := range t.Backends() {
		known[b.Name] = true
	}
	return func(o route.Override) bool {
		switch o.Kind {
		case route.OverrideAdmin, route.OverrideWeight:
			return !known[o.Name]
		case route.OverridePin:
			return !known[o.Value]
		case route.OverrideHold:
		}
		return false
	}
}

// route explains where a user is sent.
func (s *Server) route(c *call) (*Route, error) {
	in := s.Site.InForce()
	typed := c.PathValue("user")
	user, master := in.Names.Split(typed)
	key := in.Names.Key(user)
	p, err := in.Table.Explain(key)
	out := &Route{
		Now: time.Now().UTC(), User: user, Master: master, Key: key,
		Pool: p.Pool, Reason: p.Reason.String(), Source: p.Source, Login: cmp.Or(p.Login, user), Failover: []string{},
		Slot: p.Slot, Candidates: append([]route.Candidate{}, p.Candidates...),
	}
	unavailable, ok := errors.AsType[*route.UnavailableError](err)
	switch {
	case ok:
		out.Unavailable = unavailable.Error()
	case err != nil:
		return nil, lookupError(key, err)
	}
	if master != "" {
		out.Login += in.Names.MasterSeparator + master
	}
	if len(p.Backends) > 0 {
		out.Backend = p.Backends[0]
		out.Failover = append(out.Failover, p.Backends[1:]...)
	}
	for _, b := range in.Table.Backends() {
		if b.Name == out.Backend {
			out.Address = b.Address
		}
	}
	if p.Reason == route.ReasonPin || p.Held {
		stale := Staleness(in.Table)
		for _, o := range in.Table.State().Overrides() {
			switch {
			case o.Name != key:
			case o.Kind == route.OverridePin:
				out.Pin = &Override{o, stale(o)}
			case o.Kind == route.OverrideHold:
				out.Hold = &Override{o, false}
			}
		}
	}
	out.Sessions = s.sessionsOf(in.Table.State(), key)
	return out, nil
}

// lookupError is the error of a user who could not be found.
func lookupError(key string, err error) error {
	switch {
	case errors.Is(err, route.ErrUnknownUser):
		return failf(http.StatusNotFound, "unknown user: there is no row for %s, none for its domain, and no default", key)
	case errors.Is(err, route.ErrNotLoaded):
		return failf(http.StatusServiceUnavailable, "%s", err.Error())
	}
	return fmt.Errorf("look up %s: %w", key, err)
}

package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"

	"imapgate/proxy"
)

const (
	maxTracers   = 8               // at the same time
	traceTimeout = 5 * time.Second // for who reads slowly
	maxTrace     = 24 * time.Hour
	defaultTrace = 5 * time.Minute
)

// trace sends dialogues before login while they happen, a line of JSON for each of
// theirs. What it shows is for who may use the unix socket alone.
func (s *Server) trace(w http.ResponseWriter, r *http.Request) {
	o, limit, err := s.traceOptions(r)
	if err == nil && s.tracers.Add(1) > maxTracers {
		s.tracers.Add(-1)
		err = failf(http.StatusServiceUnavailable, "more than %d traces are watched already", maxTracers)
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer s.tracers.Add(-1)
	c := &call{Request: r, by: s.who(r)}
	s.changed(c, "trace", "", "", zap.String("user", o.User), zap.String("ip", r.URL.Query().Get("ip")), zap.Duration("for", limit))
	w.Header().Set("Content-Type", "application/x-ndjson")
	w.Header().Set("Cache-Control", "no-store")
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{})
	_ = control.SetWriteDeadline(time.Now().Add(traceTimeout))
	_ = control.Flush() // that it has begun
	ctx, cancel := context.WithTimeout(r.Context(), limit)
	defer cancel()
	out := json.NewEncoder(w)
	out.SetEscapeHTML(false)
	_ = s.Proxy.Trace(ctx, o, func(l proxy.TraceLine) error {
		_ = control.SetWriteDeadline(time.Now().Add(traceTimeout))
		if err := out.Encode(TraceLine{
			At: l.At.UTC(), Session: l.Session, IP: l.Remote.Addr().Unmap().String(), Port: int(l.Remote.Port()), User: l.User, Who: l.Who, Text: l.Text,
		}); err != nil {
			return err
		}
		return control.Flush()
	})
}

// traceOptions reads whom to trace, and for how long.
func (s *Server) traceOptions(r *http.Request) (proxy.TraceOptions, time.Duration, error) {
	if !isLocal(r) {
		return proxy.TraceOptions{}, 0, errNotLocal
	}
	c := call{Request: r}
	if err := c.checkQuery([]string{"user", "ip", "seconds"}); err != nil {
		return proxy.TraceOptions{}, 0, err
	}
	query := r.URL.Query()
	f, err := newFilter(s.Site.InForce().Names, query.Get("user"), query.Get("ip"), "", "")
	switch {
	case err != nil:
		return proxy.TraceOptions{}, 0, err
	case f.masked || (f.user == "") == !f.network.IsValid():
		return proxy.TraceOptions{}, 0, failf(http.StatusBadRequest, "say whom: user or ip, and one of them")
	}
	limit := defaultTrace
	if text := query.Get("seconds"); text != "" {
		n, err := strconv.ParseFloat(text, 64)
		limit = time.Duration(n * float64(time.Second))
		if err != nil || !(n > 0 && n <= maxTrace.Seconds()) {
			return proxy.TraceOptions{}, 0, failf(http.StatusBadRequest, "seconds=%q is not a number up to %g", text, maxTrace.Seconds())
		}
	}
	return proxy.TraceOptions{User: f.user, Network: f.network}, limit, nil
}

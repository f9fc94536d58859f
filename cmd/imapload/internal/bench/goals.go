//go:build linux

package bench

import "fmt"

// goal is something that imapgate wants to be.
type goal struct {
	text   string
	atMost bool // else at least
	limit  float64
	digits int
	unit   string
	// value returns what it is, and whether it was measured.
	value func(all samples) (float64, bool)
}

// is returns a figure of imapgate, scaled.
func is(test, key string, scale float64) func(samples) (float64, bool) {
	return func(all samples) (float64, bool) {
		v, ok := all.median(ours, test, key)
		return v * scale, ok
	}
}

// over returns imapgate's figure over that of the best of some targets, or of all
// peers.
func over(test, key string, higher bool, others ...string) func(samples) (float64, bool) {
	return func(all samples) (float64, bool) {
		f := figure{test: test, key: key, higher: higher}
		mine, measured := f.median(all, ours)
		if !measured {
			return 0, false
		}
		if len(others) == 0 {
			_, best, ok := f.best(all)
			return mine / best, ok
		}
		var best float64
		found := false
		for _, name := range others {
			if v, ok := f.median(all, name); ok && (!found || f.better(v, best)) {
				best, found = v, true
			}
		}
		return mine / best, found
	}
}

// slope returns what a session takes between the two largest numbers of sessions
// that were measured, over what one takes between the smallest and the next: 1 for a
// straight line.
func slope(all samples) (float64, bool) {
	type point struct{ sessions, bytes float64 }
	var line []point
	for _, test := range []string{"idle1000", "idle3000", "idle10000", "idle40000"} {
		sessions, ok := all.median(ours, test, "open")
		if bytes, measured := all.median(ours, test, "session_bytes"); ok && measured {
			line = append(line, point{sessions, bytes * sessions})
		}
	}
	if len(line) < 3 {
		return 0, false
	}
	rise := func(a, b point) float64 { return (b.bytes - a.bytes) / (b.sessions - a.sessions) }
	n := len(line)
	return rise(line[n-2], line[n-1]) / rise(line[0], line[1]), true
}

// twoCores returns the logins of two cores over those of one. Where there are too few
// CPUs to see that, it is what the CPU time of a login allows.
func twoCores(all samples) (float64, bool) {
	figure, higher := "per_s", true
	if _, shared := all.median(ours, "logins2", "shared_cpus"); shared {
		figure, higher = "cpu_ms", false
	}
	one, ok := all.median(ours, "logins", figure)
	two, measured := all.median(ours, "logins2", figure)
	if !ok || !measured {
		return 0, false
	}
	if higher {
		return two / one, true
	}
	return 2 * one / two, true
}

// goals are measured in ratios to others on the same machine where speed is concerned.
var goals = []goal{
	{text: "memory per idle session at 10,000", atMost: true, limit: 6, digits: 1, unit: "KiB", value: is("idle10000", "session_bytes", 1.0/1024)},
	{text: "the same over HAProxy's", atMost: true, limit: 0.35, digits: 2, unit: "×", value: over("idle10000", "session_bytes", false, "haproxy")},
	{text: "a straight line: bytes of one more session, many sessions over few", atMost: true, limit: 1.1, digits: 2, unit: "×", value: slope},
	{text: "memory per idle session at 10,000, TLS to the backend", atMost: true, limit: 11, digits: 1, unit: "KiB", value: is("idletls", "session_bytes", 1.0/1024)},
	{text: "logins/s over the best peer's", limit: 1.3, digits: 2, unit: "×", value: over("logins", "per_s", true)},
	{text: "CPU per login over the best peer's", atMost: true, limit: 1 / 1.3, digits: 2, unit: "×", value: over("logins", "cpu_ms", false)},
	{text: "resumed logins/s over the best peer's", limit: 1.2, digits: 2, unit: "×", value: over("resumed", "per_s", true)},
	{text: "CPU per resumed login over the best peer's", atMost: true, limit: 1 / 1.2, digits: 2, unit: "×", value: over("resumed", "cpu_ms", false)},
	{text: "login p99 at half load over the best peer's", atMost: true, limit: 1, digits: 2, unit: "×", value: over("half", "p99_ms", false)},
	{text: "the same at half of the best peer's logins/s", atMost: true, limit: 1, digits: 2, unit: "×", value: over("same", "p99_ms", false)},
	{text: "download over HAProxy's", limit: 1.25, digits: 2, unit: "×", value: over("download", "mib_s", true, "haproxy")},
	{text: "download over the best peer's", limit: 1.05, digits: 2, unit: "×", value: over("download", "mib_s", true)},
	{text: "its CPU per GiB over HAProxy's", atMost: true, limit: 0.8, digits: 2, unit: "×", value: over("download", "cpu_s_gib", false, "haproxy")},
	{text: "its CPU per GiB over the best peer's", atMost: true, limit: 0.95, digits: 2, unit: "×", value: over("download", "cpu_s_gib", false)},
	{text: "upload over HAProxy's", limit: 1, digits: 2, unit: "×", value: over("upload", "mib_s", true, "haproxy", "haproxy-buf64")},
	{text: "NOOP p50 with 1 connection over nginx's", atMost: true, limit: 1, digits: 2, unit: "×", value: over("ping1", "p50_ms", false, "nginx", "nginx-buf64")},
	{text: "NOOP p99 with 1 connection over nginx's", atMost: true, limit: 1, digits: 2, unit: "×", value: over("ping1", "p99_ms", false, "nginx", "nginx-buf64")},
	{text: "NOOP p50 with 50 connections over nginx's", atMost: true, limit: 1, digits: 2, unit: "×", value: over("ping50", "p50_ms", false, "nginx", "nginx-buf64")},
	{text: "NOOP p99 with 50 connections over nginx's", atMost: true, limit: 1, digits: 2, unit: "×", value: over("ping50", "p99_ms", false, "nginx", "nginx-buf64")},
	{text: "CPU of IDLE wake-ups over HAProxy's", atMost: true, limit: 1, digits: 2, unit: "×", value: over("wake", "cpu_s_10k", false, "haproxy", "haproxy-buf64")},
	{text: "memory after 32 MiB APPENDs and a minute over that before", atMost: true, limit: 1.1, digits: 2, unit: "×", value: func(all samples) (float64, bool) {
		before, _ := all.median(ours, "append", "session_bytes")
		after, ok := all.median(ours, "append", "uploaded_session_bytes")
		return after / before, ok
	}},
	{text: "login over a 20 ms line to the backend", atMost: true, limit: 1.5, digits: 1, unit: "round trips", value: is("link", "p50_ms", 1/linkMillis)},
	{text: "logins/s of 2 cores over those of 1", limit: 1.8, digits: 2, unit: "×", value: twoCores},
	{text: "login p99 while 1,000,000 rows are reloaded over that before", atMost: true, limit: 1.5, digits: 2, unit: "×", value: func(all samples) (float64, bool) {
		before, _ := all.median(ours, "reload", "before_p99_ms")
		during, ok := all.median(ours, "reload", "p99_ms")
		return during / before, ok
	}},
}

// row judges a goal.
func (g *goal) row(all samples) []string {
	sign := "≥"
	if g.atMost {
		sign = "≤"
	}
	must := fmt.Sprintf("%s %s %s", sign, grouped(g.limit, g.digits), g.unit)
	v, ok := g.value(all)
	switch {
	case !ok:
		return []string{g.text, must, "–", "not measured"}
	case g.atMost && v <= g.limit || !g.atMost && v >= g.limit:
		return []string{g.text, must, grouped(v, g.digits), "pass"}
	default:
		return []string{g.text, must, grouped(v, g.digits+1), "FAIL"}
	}
}

//go:build linux

package bench

import (
	"fmt"
	"strings"
)

// figure is a line of the table.
type figure struct {
	title  string
	test   string
	key    string  // in a sample's figures
	scale  float64 // from there to here; 0: 1
	digits int
	higher bool // is better
}

// linkMillis is one round trip of the slow line.
var linkMillis = 2 * linkDelay.Seconds() * 1000

// figures are the lines of the table.
var figures = []figure{
	{title: "bytes per idle session, 1,000", test: "idle1000", key: "session_bytes"},
	{title: "3,000", test: "idle3000", key: "session_bytes"},
	{title: "10,000", test: "idle10000", key: "session_bytes"},
	{title: "40,000", test: "idle40000", key: "session_bytes"},
	{title: "sessions there were of 10,000", test: "idle10000", key: "open", higher: true},
	{title: "10,000, TLS to the backend", test: "idletls", key: "session_bytes"},
	{title: "1,000, before APPENDs", test: "append", key: "session_bytes"},
	{title: "1,000, after 32 MiB APPENDs and a minute", test: "append", key: "uploaded_session_bytes"},
	{title: "logins/s", test: "logins", key: "per_s", higher: true},
	{title: "CPU ms per login", test: "logins", key: "cpu_ms", digits: 3},
	{title: "resumed logins/s", test: "resumed", key: "per_s", higher: true},
	{title: "CPU ms per resumed login", test: "resumed", key: "cpu_ms", digits: 3},
	{title: "login p50 at half load, ms", test: "half", key: "p50_ms", digits: 2},
	{title: "login p99 at half load, ms", test: "half", key: "p99_ms", digits: 1},
	{title: "login p50 at the same rate, ms", test: "same", key: "p50_ms", digits: 2},
	{title: "login p99 at the same rate, ms", test: "same", key: "p99_ms", digits: 1},
	{title: "download MiB/s", test: "download", key: "mib_s", higher: true},
	{title: "CPU s per GiB", test: "download", key: "cpu_s_gib", digits: 2},
	{title: "upload MiB/s", test: "upload", key: "mib_s", higher: true},
	{title: "CPU s per GiB", test: "upload", key: "cpu_s_gib", digits: 2},
	{title: "NOOP p50, 1 connection, µs", test: "ping1", key: "p50_ms", scale: 1000},
	{title: "NOOP p99", test: "ping1", key: "p99_ms", scale: 1000},
	{title: "NOOP/s, 50 connections", test: "ping50", key: "per_s", higher: true},
	{title: "NOOP p50, µs", test: "ping50", key: "p50_ms", scale: 1000},
	{title: "NOOP p99", test: "ping50", key: "p99_ms", scale: 1000},
	{title: "CPU s per 10,000 IDLE wake-ups", test: "wake", key: "cpu_s_10k", digits: 3},
	{title: "login over a 20 ms line, round trips", test: "link", key: "p50_ms", scale: 1 / linkMillis, digits: 1},
	{title: "logins/s, 2 cores", test: "logins2", key: "per_s", higher: true},
	{title: "CPU ms per login, 2 cores", test: "logins2", key: "cpu_ms", digits: 3},
	{title: "login p99 at half load, 1,000,000 rows, ms", test: "reload", key: "before_p99_ms", digits: 1},
	{title: "while they are reloaded", test: "reload", key: "p99_ms", digits: 1},
	{title: "s per reload", test: "reload", key: "reload_s", digits: 2},
}

// median returns the figure of a target.
func (f *figure) median(all samples, target string) (float64, bool) {
	v, ok := all.median(target, f.test, f.key)
	if f.scale != 0 {
		v *= f.scale
	}
	return v, ok
}

func (f *figure) format(v float64) string { return grouped(v, f.digits) }

// better says whether a is better than b.
func (f *figure) better(a, b float64) bool {
	if f.higher {
		return a > b
	}
	return a < b
}

// best returns the best of those that imapgate is compared with.
func (f *figure) best(all samples) (name string, value float64, ok bool) {
	for _, t := range targets("") {
		if !t.peer {
			continue
		}
		if v, measured := f.median(all, t.name); measured && (!ok || f.better(v, value)) {
			name, value, ok = t.name, v, true
		}
	}
	return name, value, ok
}

// summary is a sample in one line.
func (s *sample) summary() string {
	var parts []string
	for _, f := range figures {
		if v, ok := s.Figures[f.key]; ok && f.test == s.Test {
			if f.scale != 0 {
				v *= f.scale
			}
			parts = append(parts, f.title+" "+f.format(v))
		}
	}
	parts = append(parts, fmt.Sprintf("proxy %.0f %% of a CPU, load and backend %.0f %%, others %.0f %%",
		100*s.Figures["target_use"], 100*(s.Figures["load_use"]+s.Figures["backend_use"]), 100*s.otherUse()))
	if s.Errors > 0 {
		parts = append(parts, fmt.Sprintf("%d ERRORS, the first: %s", s.Errors, s.FirstError))
	}
	return strings.Join(parts, ", ")
}

// grouped writes a number with commas.
func grouped(v float64, digits int) string {
	s := fmt.Sprintf("%.*f", digits, v)
	whole, fraction, _ := strings.Cut(s, ".")
	for i := len(whole) - 3; i > 0 && whole[i-1] != '-'; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if fraction != "" {
		whole += "." + fraction
	}
	return whole
}

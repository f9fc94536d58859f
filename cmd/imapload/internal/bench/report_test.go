//go:build linux

package bench

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"imapgate/cmd/imapload/internal/load"
)

// sitting returns samples: for each target and test one per value.
func sitting(t *testing.T, values map[string][]float64) string {
	t.Helper()
	var lines strings.Builder
	for what, list := range values {
		part := strings.Fields(what)
		for round, v := range list {
			figures := map[string]float64{part[2]: v, "target_use": 0.99, "other_use": 0.02}
			if part[2] == "session_bytes" {
				figures["open"] = map[string]float64{"idle1000": 1000, "idle3000": 3000, "idle10000": 9800}[part[1]]
			}
			s := sample{Target: part[0], Test: part[1], Round: round, Tries: 1, Result: load.Result{Figures: figures}}
			if err := json.NewEncoder(&lines).Encode(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	return lines.String()
}

// TestReportComparesWithTheBestPeer shows medians, ratios, spread and goals.
func TestReportComparesWithTheBestPeer(t *testing.T) {
	in := sitting(t, map[string][]float64{
		"imapgate logins per_s": {1400, 1300, 1350}, "imapgate half p99_ms": {12, 10},
		"nginx logins per_s": {900, 1000, 1100}, "haproxy logins per_s": {800, 700, 750}, "direct logins per_s": {3000},
		"nginx half p99_ms": {20}, "dovecot half p99_ms": {10},
		"imapgate idle1000 session_bytes": {7000}, "imapgate idle3000 session_bytes": {6000}, "imapgate idle10000 session_bytes": {5600},
		"haproxy idle10000 session_bytes": {20000},
	})
	var out strings.Builder
	if err := Report(strings.NewReader(in), &out); err != nil {
		t.Fatal(err)
	}
	got := make(map[string]string)
	for line := range strings.Lines(out.String()) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		got[cells[0]] = strings.Join(cells[1:], " | ")
	}
	want := map[string]string{
		"median":                        "imapgate | nginx | haproxy | dovecot | direct | best peer | imapgate / best | imapgate spread",
		"logins/s":                      "1,350 | 1,000 | 750 | – | 3,000 | nginx | 1.35 | 7 %",
		"login p99 at half load, ms":    "11.0 | 20.0 | – | 10.0 | – | dovecot | 1.10 | 18 %",
		"logins/s over the best peer's": "≥ 1.30 × | 1.35 | pass",
		"login p99 at half load over the best peer's": "≤ 1.00 × | 1.100 | FAIL",
		"memory per idle session at 10,000":           "≤ 6.0 KiB | 5.5 | pass",
		"the same over HAProxy's":                     "≤ 0.35 × | 0.28 | pass",
		"download over HAProxy's":                     "≥ 1.25 × | – | not measured",
		// (9800×5600 − 3000×6000) / 6800 over (3000×6000 − 1000×7000) / 2000
		"a straight line: bytes of one more session, many sessions over few": "≤ 1.10 × | 0.99 | pass",
	}
	for title, row := range want {
		if got[title] != row {
			t.Errorf("%s: got %q, want %q", title, got[title], row)
		}
	}
	if t.Failed() {
		t.Log(out.String())
	}
}

// TestReportTellsWhatCannotBeTrusted shows noise, errors and failures.
func TestReportTellsWhatCannotBeTrusted(t *testing.T) {
	all := samples{
		{Target: "imapgate", Test: "logins", Tries: 4, Result: load.Result{Figures: map[string]float64{"target_use": 0.6, "load_use": 0.9, "backend_use": 0.1, "other_use": 0.3}}},
		{Target: "nginx", Test: "half", Tries: 1, Result: load.Result{Figures: map[string]float64{"other_use": 0.01}, Errors: 3, FirstError: "no"}},
		{Target: "dovecot", Test: "wake", Tries: 1, Failed: "does not listen"},
	}
	var w strings.Builder
	all.writeNoise(&w)
	want := `LOAD: imapgate logins: the proxy used 60 % of a CPU, load and backend 100 %: they were the limit
ERRORS: nginx half: 3, the first: no
FAILED: dovecot wake: does not listen
3 samples, 1 failed. Other processes used 30.0 % of a CPU (median; at most 30.0 %), other machines 0.0 % (at most 0.0 %).
1 samples were repeated since others used more than 12 %; 1 are still like that. In 1 the load was the limit, not the proxy.
`
	if diff := cmp.Diff(want, w.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestEveryFigureAndGoalHasItsTest finds names that nothing measures.
func TestEveryFigureAndGoalHasItsTest(t *testing.T) {
	names := strings.Join(TestNames(), " ") + " "
	for _, f := range figures {
		if !strings.Contains(names, f.test+" ") {
			t.Errorf("%q is of test %q, which there is not", f.title, f.test)
		}
	}
	var everything samples
	for _, target := range TargetNames() {
		for i, test := range TestNames() {
			s := sample{Target: target, Test: test, Result: load.Result{Figures: map[string]float64{"open": float64(i + 1)}}}
			for _, f := range figures {
				if f.test == test && f.key != "open" {
					s.Figures[f.key] = 1
				}
			}
			everything = append(everything, s)
		}
	}
	for _, g := range goals {
		if _, ok := g.value(everything); !ok {
			t.Errorf("%q is not measured, whatever is", g.text)
		}
	}
}

// TestGroupedWritesCommas shows numbers of all lengths.
func TestGroupedWritesCommas(t *testing.T) {
	for want, v := range map[string]float64{"7": 7, "-7": -7, "999": 999, "1,000": 1000, "-141,824": -141824, "1,234,567.5": 1234567.5, "0.012": 0.012} {
		digits := 0
		if _, fraction, ok := strings.Cut(want, "."); ok {
			digits = len(fraction)
		}
		if got := grouped(v, digits); got != want {
			t.Errorf("%s: got %q, want %q", fmt.Sprint(v), got, want)
		}
	}
}

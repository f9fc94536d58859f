//go:build linux

package bench

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Report writes the table of samples that were kept.
func Report(in io.Reader, out io.Writer) error {
	all, err := readSamples(in)
	if err != nil {
		return err
	}
	return all.report(out)
}

// report writes the figures, the goals, and what there is to know of the samples.
func (all samples) report(out io.Writer) error {
	var w strings.Builder
	w.WriteString("\n")
	names := all.targets()
	rows := [][]string{slices.Concat([]string{"median"}, names, []string{"best peer", ours + " / best", ours + " spread"})}
	for _, f := range figures {
		if row, ok := f.row(all, names); ok {
			rows = append(rows, row)
		}
	}
	writeTableOf(&w, rows)
	w.WriteString("\n")
	rows = [][]string{{"goal", "must be", "is", ""}}
	for _, g := range goals {
		rows = append(rows, g.row(all))
	}
	writeTableOf(&w, rows)
	w.WriteString("\n")
	all.writeNoise(&w)
	_, err := io.WriteString(out, w.String())
	return err
}

// row is the figure's line of the table; not ok: it was not measured.
func (f *figure) row(all samples, names []string) (row []string, ok bool) {
	row = []string{f.title}
	for _, name := range names {
		cell := "–"
		if v, measured := f.median(all, name); measured {
			cell, ok = f.format(v), true
		}
		row = append(row, cell)
	}
	peer, ratio, spread := "–", "–", "–"
	if name, best, found := f.best(all); found {
		peer = name
		if mine, measured := f.median(all, ours); measured && best != 0 {
			ratio = fmt.Sprintf("%.2f", mine/best)
		}
	}
	if v, several := all.spread(ours, f.test, f.key); several {
		spread = fmt.Sprintf("%.0f %%", 100*v)
	}
	return append(row, peer, ratio, spread), ok
}

// writeNoise says how much the samples can be trusted.
func (all samples) writeNoise(w *strings.Builder) {
	var others, steal []float64
	var repeated, noisy, limited, failed int
	for i := range all {
		s := &all[i]
		if s.Failed != "" {
			failed++
			_, _ = fmt.Fprintf(w, "FAILED: %s %s: %s\n", s.Target, s.Test, s.Failed)
			continue
		}
		if s.Errors > 0 {
			_, _ = fmt.Fprintf(w, "ERRORS: %s %s: %d, the first: %s\n", s.Target, s.Test, s.Errors, s.FirstError)
		}
		others, steal = append(others, s.otherUse()), append(steal, s.Figures["steal_use"])
		if s.Tries > 1 {
			repeated++
		}
		if s.otherUse() >= noiseLimit {
			noisy++
		}
		if s.generatorLimited() {
			limited++
			_, _ = fmt.Fprintf(w, "LOAD: %s %s: the proxy used %.0f %% of a CPU, load and backend %.0f %%: they were the limit\n",
				s.Target, s.Test, 100*s.Figures["target_use"], 100*(s.Figures["load_use"]+s.Figures["backend_use"]))
		}
	}
	if len(others) == 0 {
		return
	}
	slices.Sort(others)
	slices.Sort(steal)
	_, _ = fmt.Fprintf(w, "%d samples, %d failed. Other processes used %.1f %% of a CPU (median; at most %.1f %%), other machines %.1f %% (at most %.1f %%).\n"+
		"%d samples were repeated since others used more than %.0f %%; %d are still like that. In %d the load was the limit, not the proxy.\n",
		len(all), failed, 100*others[len(others)/2], 100*others[len(others)-1], 100*steal[len(steal)/2], 100*steal[len(steal)-1],
		repeated, 100*noiseLimit, noisy, limited)
}

// generatorLimited says whether it was the load, not the proxy, that could do no more
// in a test of how much can be done.
func (s *sample) generatorLimited() bool {
	switch s.Test {
	case "logins", "resumed", "download", "upload":
		return s.Figures["target_use"] < 0.9 && s.Figures["load_use"]+s.Figures["backend_use"] > 0.9
	default:
		return false
	}
}

// writeTableOf writes rows as Markdown that is readable as it is.
func writeTableOf(w *strings.Builder, rows [][]string) {
	widths := make([]int, len(rows[0]))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for n, row := range rows {
		for i, cell := range row {
			padding := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell))
			if i == 0 {
				_, _ = fmt.Fprintf(w, "| %s%s ", cell, padding)
			} else {
				_, _ = fmt.Fprintf(w, "| %s%s ", padding, cell)
			}
		}
		w.WriteString("|\n")
		if n > 0 {
			continue
		}
		for i, width := range widths {
			if i == 0 {
				_, _ = fmt.Fprintf(w, "|%s", strings.Repeat("-", width+2))
			} else {
				_, _ = fmt.Fprintf(w, "|%s:", strings.Repeat("-", width+1))
			}
		}
		w.WriteString("|\n")
	}
}

// describeMachine says where and with what this was measured.
func describeMachine(ctx context.Context, out io.Writer, all []target) {
	cpu := "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	_, _ = fmt.Fprintf(out, "\n%s, %d × %s, %s\n", time.Now().Format(time.DateOnly), runtime.NumCPU(), cpu, runtime.Version())
	for _, t := range all {
		path, err := t.find()
		if err != nil || t.version == "" {
			continue
		}
		version, _ := exec.CommandContext(ctx, path, t.version).CombinedOutput() //nolint:gosec // what was measured
		line, _, _ := strings.Cut(strings.TrimSpace(string(version)), "\n")
		_, _ = fmt.Fprintf(out, "%s: %s\n", t.name, line)
	}
}

//go:build linux

package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strconv"
	"time"

	"imapgate/cmd/imapload/internal/load"
	"imapgate/cmd/imapload/internal/procfs"
)

// Options is what a benchmark is told.
type Options struct {
	Self     string // the path of imapload, for what is started
	Imapgate string // the path of the imapgate that is measured
	Rounds   int
	Duration time.Duration // of a sample of logins, bulk or NOOPs, behind a quarter of it to warm up
	Targets  []string      // of TargetNames; empty: all
	Tests    []string      // of TestNames; empty: all
	Quick    bool          // shows that everything works, and measures nothing
	Samples  io.Writer
	Progress io.Writer
}

const (
	// noiseLimit is the share of a CPU that others may use during a sample; above
	// it the sample is repeated.
	noiseLimit = 0.12
	// maxTries bounds that; the quietest is kept.
	maxTries = 4
	// quietTimeout bounds the wait for others to be quiet before a sample.
	quietTimeout = time.Minute
	// peakDuration is how long logins are counted where half of what a target can do
	// is wanted, and nobody has measured all of it.
	peakDuration = 3 * time.Second
)

// run is a benchmark. Owned by Run.
type run struct {
	Options
	layout  *layout
	cpus    []int
	samples samples
}

// Run measures, and writes the table and the goals to out. It ends what it has
// started also when ctx ends.
func Run(ctx context.Context, o Options, out io.Writer) error {
	some, err := chosen(targets(o.Imapgate), o.Targets, func(t target) string { return t.name })
	if err != nil {
		return fmt.Errorf("target %w", err)
	}
	what, err := chosen(tests(o), o.Tests, func(t test) string { return t.name })
	if err != nil {
		return fmt.Errorf("test %w", err)
	}
	for _, t := range some {
		if t.name == limit {
			continue
		}
		if _, err := t.find(); err != nil {
			return err
		}
	}
	// Processes that are started here end with the thread that starts them.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	r := &run{Options: o}
	if r.cpus, err = allowedCPUs(); err != nil {
		return err
	}
	if len(r.cpus) < 2 {
		return errors.New("this needs two CPUs: one for the proxy, one for load and backend")
	}
	if r.layout, err = newLayout(ctx, o.Self); err != nil {
		return err
	}
	defer func() { _ = r.layout.remove() }()
	for round := range o.Rounds {
		for _, test := range what {
			for _, t := range some {
				if err := r.measure(ctx, t, test, round); err != nil {
					return err
				}
			}
		}
	}
	if o.Quick {
		_, _ = io.WriteString(out, "\nQUICK: everything works, and the figures mean nothing.\n")
	}
	describeMachine(ctx, out, some)
	return r.samples.report(out)
}

// shared says whether a target with that many cores leaves none for the load.
func (r *run) shared(cores int) bool { return len(r.cpus) < 2*cores }

func (r *run) targetCPUs(s setup) []int { return r.cpus[:s.cores] }

func (r *run) loadCPUs(s setup) []int {
	if r.shared(s.cores) {
		return r.cpus
	}
	return r.cpus[s.cores:]
}

// measure runs a round's test on one target. That is started for it alone: samples that
// are compared are to lie close together, since machines have slow and fast minutes.
func (r *run) measure(ctx context.Context, t target, test test, round int) error {
	if round > 0 && test.once || t.name == limit && !test.direct || test.admin && !t.admin || test.setup.backendTLS && !t.backendTLS {
		return nil
	}
	if r.layout.maxSessions() < test.sessions*9/10 {
		r.progress("%s %s: left out, since %d descriptors are too few for %d sessions", t.name, test.name, r.layout.files, test.sessions)
		return nil
	}
	in, err := r.start(ctx, t, test.setup)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	defer in.stop()
	s, err := r.sample(ctx, in, test)
	if err != nil {
		return err
	}
	s.Round = round
	return r.keep(s)
}

// sample measures until others are quiet.
func (r *run) sample(ctx context.Context, in *instance, t test) (best sample, err error) {
	var more []string
	if t.half {
		rate, err := r.halfRate(ctx, in, t.same)
		if err != nil {
			return best, err
		}
		more = []string{"--rate", strconv.FormatFloat(rate, 'f', 1, 64)}
	}
	if n := r.layout.maxSessions(); t.sessions > n {
		more = append(more, "--sessions", strconv.Itoa(n))
	}
	for try := 1; try <= maxTries; try++ {
		if err := r.awaitQuiet(ctx); err != nil {
			return best, err
		}
		s := sample{Time: time.Now(), Target: in.target.name, Test: t.name, Tries: try}
		var result *load.Result
		if t.admin {
			result, err = in.reload(ctx, t, more...)
		} else {
			result, err = in.load(ctx, t, more...)
		}
		if ctxErr := ctx.Err(); ctxErr != nil {
			return best, ctxErr
		}
		if err != nil {
			s.Failed = err.Error()
			return s, nil //nolint:nilerr // what cannot be measured is reported, and the others go on
		}
		s.Result = *result
		if r.shared(in.setup.cores) {
			s.Figures["shared_cpus"] = 1
		}
		if try == 1 || s.otherUse() < best.otherUse() {
			best = s
		}
		best.Tries = try
		// Memory cannot be taken back, and noise does not add any.
		if r.Quick || t.memory || best.otherUse() < noiseLimit {
			break
		}
	}
	return best, nil
}

// halfRate returns half of the logins a second that a target can do, or, if it is to be
// the same for all, half of what the best peer can do.
func (r *run) halfRate(ctx context.Context, in *instance, same bool) (float64, error) {
	peak, ok := r.samples.median(in.target.name, "logins", "per_s")
	if same {
		f := figure{test: "logins", key: "per_s", higher: true}
		if _, best, measured := f.best(r.samples); measured {
			peak, ok = best, true
		}
	}
	if !ok {
		for _, t := range tests(r.Options) {
			if t.name != "logins" {
				continue
			}
			var more []string
			if !r.Quick {
				more = []string{"--duration", peakDuration.String()}
			}
			result, err := in.load(ctx, t, more...)
			if err != nil {
				return 0, err
			}
			peak = result.Figures["per_s"]
		}
	}
	return max(1, peak/2), nil
}

// awaitQuiet waits until others leave the CPUs alone for a second, or for as long as
// is reasonable.
func (r *run) awaitQuiet(ctx context.Context) error {
	if r.Quick {
		return ctx.Err()
	}
	for end := time.Now().Add(quietTimeout); time.Now().Before(end); {
		before := procfs.ReadMachine()
		if err := pause(ctx, time.Second); err != nil {
			return err
		}
		if procfs.ReadMachine().Busy-before.Busy < noiseLimit {
			return nil
		}
	}
	return nil
}

// keep adds a sample to those that there are.
func (r *run) keep(s sample) error {
	r.samples = append(r.samples, s)
	if s.Failed != "" {
		r.progress("%d %s %s: FAILED: %s", s.Round+1, s.Target, s.Test, s.Failed)
	} else {
		r.progress("%d %s %s: %s", s.Round+1, s.Target, s.Test, s.summary())
	}
	if r.Samples == nil {
		return nil
	}
	return json.NewEncoder(r.Samples).Encode(s)
}

func (r *run) progress(format string, args ...any) {
	if r.Progress != nil {
		_, _ = fmt.Fprintf(r.Progress, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
	}
}

//go:build linux

package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapload/internal/bench"
)

func newBench() *cobra.Command {
	var o bench.Options
	var path string
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure imapgate beside nginx, HAProxy and Dovecot",
		Long: `Run each test on each proxy in turn, which is on the first CPU, with the same backend
and the same load on the others, as many rounds as wanted, and print medians, how
imapgate compares with the best of the others, and whether it is what it wants to be.
Samples during which other programs used more than 12 % of a CPU are repeated.

All rounds of all tests take nearly two hours: choose. With --samples every sample is kept, a
line of JSON each, and "imapload report" prints the table of what several runs have
gathered; but only figures of one sitting can be compared.

Each session of a proxy takes two descriptors, so 40,000 need "ulimit -n 86000".

Targets: ` + strings.Join(bench.TargetNames(), ", ") + `
Tests:   ` + strings.Join(bench.TestNames(), ", "),
		Example: `  imapload bench --rounds 3 --tests logins,resumed,half
  imapload bench --rounds 25 --duration 2s --tests logins,half,same
  imapload bench --targets imapgate,haproxy --tests idle1000,idle10000 --samples samples.jsonl`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if o.Self, err = os.Executable(); err != nil {
				return err
			}
			o.Progress = cmd.ErrOrStderr()
			if path != "" {
				file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644) //nolint:gosec // as asked for
				if err != nil {
					return err
				}
				defer func() {
					if closeErr := file.Close(); err == nil {
						err = closeErr
					}
				}()
				o.Samples = file
			}
			return bench.Run(cmd.Context(), o, cmd.OutOrStdout())
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.Imapgate, "imapgate", "./imapgate", "the imapgate that is measured, a `file`")
	flags.IntVar(&o.Rounds, "rounds", 5, "how often each test is run on each target")
	flags.DurationVar(&o.Duration, "duration", 6*time.Second, "how long logins, bulk and NOOPs are measured each time; on a machine with slow and fast\nminutes, many short rounds say more than few long ones")
	flags.StringSliceVar(&o.Targets, "targets", nil, "what is measured (default all)")
	flags.StringSliceVar(&o.Tests, "tests", nil, "what of it (default all)")
	flags.BoolVar(&o.Quick, "quick", false, "only show that everything works: what it prints means nothing")
	flags.StringVar(&path, "samples", "", "keep every sample, at the end of this `file`")
	return cmd
}

func newReport() *cobra.Command {
	return &cobra.Command{
		Use:     "report FILE...",
		Short:   "Print the table of samples that were kept",
		Long:    `Print the table and the goals from files that "imapload bench --samples" has written.`,
		Example: `  imapload report samples.jsonl`,
		Args:    cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, paths []string) error {
			var all []io.Reader
			for _, path := range paths {
				file, err := os.Open(path) //nolint:gosec // as asked for
				if err != nil {
					return err
				}
				defer file.Close()
				all = append(all, file)
			}
			if err := bench.Report(io.MultiReader(all...), cmd.OutOrStdout()); err != nil {
				return fmt.Errorf("%s: %w", strings.Join(paths, ", "), err)
			}
			return nil
		},
	}
}

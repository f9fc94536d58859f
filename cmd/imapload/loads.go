//go:build linux

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapload/internal/load"
)

// loadCommand adds the flags that all kinds of load have, and runs one.
func loadCommand(cmd *cobra.Command, measure func(context.Context, *load.Load) (*load.Result, error)) *cobra.Command {
	l := new(load.Load)
	var from []string
	flags := cmd.Flags()
	flags.StringVar(&l.Address, "address", "127.0.0.1:993", "the proxy, with TLS from the first byte")
	flags.StringSliceVar(&from, "source", nil, "addresses to connect from, in turn; each has some 28,000 ports")
	flags.StringVar(&l.User, "user", "user%d@example.org", "the user `name`; %d stands for a counter")
	flags.Int64Var(&l.Users, "users", 100_000, "where the counter begins anew")
	flags.StringVar(&l.Password, "password", "secret", "the password of all of them")
	flags.DurationVar(&l.Timeout, "timeout", 20*time.Second, "of a login, and of each command")
	flags.IntSliceVar(&l.TargetPIDs, "target-pid", nil, "processes of the proxy, whose children are counted too")
	flags.IntSliceVar(&l.BackendPIDs, "backend-pid", nil, "processes of the backend")
	cmd.Args = cobra.NoArgs
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		for _, s := range from {
			address, err := netip.ParseAddr(s)
			if err != nil {
				return fmt.Errorf("--source: %w", err)
			}
			l.Sources = append(l.Sources, address)
		}
		result, err := measure(cmd.Context(), l)
		if err != nil {
			return err
		}
		return json.NewEncoder(cmd.OutOrStdout()).Encode(result)
	}
	return cmd
}

func newLogins() *cobra.Command {
	var kind load.Logins
	cmd := loadCommand(&cobra.Command{
		Use:   "logins",
		Short: "Log in and out, as often as can be or at a rate",
		Long: `Connect, log in and log out. Figures: logins a second, the proxy's CPU time for one,
and percentiles of the time from the connection to the OK. With --rate logins begin
at random moments, as many a second, whether those before are done or not.`,
		Example: `  imapload logins --workers 128 --duration 10s
  imapload logins --resume
  imapload logins --rate 500 --workers 200`,
	}, func(ctx context.Context, l *load.Load) (*load.Result, error) { return l.Logins(ctx, kind) })
	flags := cmd.Flags()
	flags.IntVar(&kind.Workers, "workers", 128, "how many log in at the same time")
	flags.Float64Var(&kind.Rate, "rate", 0, "logins a second; 0: as many as can be")
	flags.BoolVar(&kind.Resume, "resume", false, "resume TLS sessions")
	durations(cmd, &kind.WarmUp, &kind.Duration)
	return cmd
}

func newIdle() *cobra.Command {
	var kind load.Idle
	cmd := loadCommand(&cobra.Command{
		Use:   "idle",
		Short: "Open idle sessions, and tell what memory each takes",
		Long: `Open sessions that idle. Figures: bytes for each, from the proportional set size of
the proxy's processes before and after. With --uploaders some of the sessions then
send a mail, and memory is read again after a silence.`,
		Example: `  imapload idle --sessions 10000 --source 127.0.0.2,127.0.0.3 --target-pid $(pidof imapgate)`,
	}, func(ctx context.Context, l *load.Load) (*load.Result, error) { return l.Idle(ctx, kind) })
	flags := cmd.Flags()
	flags.IntVar(&kind.Sessions, "sessions", 5000, "how many")
	flags.IntVar(&kind.Workers, "workers", 32, "how many are opened at the same time")
	flags.DurationVar(&kind.Settle, "settle", 5*time.Second, "from the last login until memory is read")
	flags.IntVar(&kind.Uploaders, "uploaders", 0, "how many of them send a mail")
	flags.Int64Var(&kind.UploadSize, "upload-size", 32<<20, "of that mail, in bytes")
	flags.DurationVar(&kind.Silence, "silence", time.Minute, "from the last mail until memory is read again")
	return cmd
}

func newDownload() *cobra.Command {
	return bulkCommand("download", "Fetch large mails",
		`Fetch one large mail after the other. Figures: MiB a second, and the proxy's CPU time
for a GiB. After one mail what arrives is thrown away undecrypted, so that this
program is not the limit.`, (*load.Load).Download)
}

func newUpload() *cobra.Command {
	return bulkCommand("upload", "Append large mails",
		`Append one large mail after the other. Figures: MiB a second, and the proxy's CPU time
for a GiB.`, (*load.Load).Upload)
}

func bulkCommand(name, short, long string, measure func(*load.Load, context.Context, load.Bulk) (*load.Result, error)) *cobra.Command {
	var kind load.Bulk
	cmd := loadCommand(&cobra.Command{
		Use: name, Short: short, Long: long,
		Example: "  imapload " + name + " --connections 4 --size 16777216",
	}, func(ctx context.Context, l *load.Load) (*load.Result, error) { return measure(l, ctx, kind) })
	cmd.Flags().IntVar(&kind.Connections, "connections", 4, "how many at the same time")
	cmd.Flags().Int64Var(&kind.Size, "size", 16<<20, "of a mail, in bytes")
	durations(cmd, &kind.WarmUp, &kind.Duration)
	return cmd
}

func newPing() *cobra.Command {
	var kind load.Ping
	cmd := loadCommand(&cobra.Command{
		Use:   "ping",
		Short: "Send NOOPs, each when the last one is answered",
		Long: `Send NOOPs, on each connection one as soon as the last one is answered. Figures:
percentiles of the round trip, and how many there were a second.`,
		Example: `  imapload ping --connections 50`,
	}, func(ctx context.Context, l *load.Load) (*load.Result, error) { return l.Ping(ctx, kind) })
	cmd.Flags().IntVar(&kind.Connections, "connections", 1, "how many at the same time")
	durations(cmd, &kind.WarmUp, &kind.Duration)
	return cmd
}

func newWake() *cobra.Command {
	var kind load.Wake
	cmd := loadCommand(&cobra.Command{
		Use:   "wake",
		Short: "Let mail arrive for idle sessions",
		Long: `Open sessions that idle, and let mail arrive for one after the other. Figures: the
proxy's CPU time for 10,000 arrivals, and the share of a CPU that it uses when
nothing happens. The backend is "imapload backend" with --control.`,
		Example: `  imapload wake --sessions 10000 --control 127.0.0.1:10144 --target-pid $(pidof imapgate)`,
	}, func(ctx context.Context, l *load.Load) (*load.Result, error) { return l.Wake(ctx, kind) })
	flags := cmd.Flags()
	flags.IntVar(&kind.Sessions, "sessions", 5000, "how many")
	flags.IntVar(&kind.Workers, "workers", 32, "how many are opened at the same time")
	flags.DurationVar(&kind.Settle, "settle", 2*time.Second, "from the last login on")
	flags.DurationVar(&kind.Rest, "rest", 3*time.Second, "how long nothing happens")
	flags.Float64Var(&kind.Rate, "rate", 1000, "arrivals a second")
	flags.DurationVar(&kind.Duration, "duration", 10*time.Second, "how long mail arrives")
	flags.StringVar(&kind.Control, "control", "127.0.0.1:10144", "the control port of the backend")
	return cmd
}

// durations adds the flags of what lasts.
func durations(cmd *cobra.Command, warmUp, duration *time.Duration) {
	cmd.Flags().DurationVar(warmUp, "warm-up", time.Second, "how long there is load before it is measured")
	cmd.Flags().DurationVar(duration, "duration", 10*time.Second, "how long it is measured")
}

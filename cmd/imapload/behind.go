//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapload/internal/fake"
)

// backendOptions is what a backend is told.
type backendOptions struct {
	listen, tls []string
	cert, key   string
	control     string
	delay       time.Duration
}

func newBackend() *cobra.Command {
	var o backendOptions
	cmd := &cobra.Command{
		Use:   "backend",
		Short: "Run an IMAP backend that costs next to nothing",
		Long: `Run an IMAP backend for any user with any password, with one message in it, whose
size SELECT BODY-<n> sets. With --delay it stands behind a slow line: every byte
takes that long in each direction, and a connection as many trips as on a real one.`,
		Example: `  imapload backend --listen 127.0.0.1:10143
  imapload backend --listen 127.0.0.1:10143 --delay 10ms
  imapload backend --tls-listen 127.0.0.1:10993 --cert cert.pem --key key.pem`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runBackend(cmd.Context(), o) },
	}
	flags := cmd.Flags()
	flags.StringSliceVar(&o.listen, "listen", nil, "IPv4 addresses for clear text")
	flags.StringSliceVar(&o.tls, "tls-listen", nil, "addresses for TLS")
	flags.StringVar(&o.cert, "cert", "", "the certificate of those, a PEM `file`")
	flags.StringVar(&o.key, "key", "", "its key, a PEM `file`")
	flags.StringVar(&o.control, "control", "", "the address where \"imapload wake\" asks for mail")
	flags.DurationVar(&o.delay, "delay", 0, "what the line takes in each direction")
	return cmd
}

// runBackend serves until ctx ends, or something fails.
func runBackend(ctx context.Context, o backendOptions) error {
	if len(o.listen)+len(o.tls) == 0 {
		return errors.New("--listen or --tls-listen is missing")
	}
	var tasks []func(context.Context) error
	// Behind a line the backend itself listens elsewhere.
	line := func(address, behind string) error {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
		if err == nil {
			tasks = append(tasks, func(ctx context.Context) error { return fake.ServeLink(ctx, listener, behind, o.delay) })
		}
		return err
	}
	plain := o.listen
	if o.delay > 0 {
		plain = make([]string, len(o.listen))
		for i := range plain {
			plain[i] = "127.0.0.1:0"
		}
	}
	b, err := fake.Open(plain...)
	if err != nil {
		return err
	}
	tasks = append(tasks, b.Run)
	if o.delay > 0 {
		for i, address := range o.listen {
			if err := line(address, b.Addresses()[i].String()); err != nil {
				return err
			}
		}
	}
	for _, address := range o.tls {
		cert, err := tls.LoadX509KeyPair(o.cert, o.key)
		if err != nil {
			return fmt.Errorf("--cert, --key: %w", err)
		}
		conf := &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}
		own := address
		if o.delay > 0 {
			own = "127.0.0.1:0"
		}
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", own)
		if err != nil {
			return err
		}
		tasks = append(tasks, func(ctx context.Context) error { return fake.ServeTLS(ctx, listener, conf) })
		if o.delay > 0 {
			if err := line(address, listener.Addr().String()); err != nil {
				return err
			}
		}
	}
	if o.control != "" {
		listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.control)
		if err != nil {
			return err
		}
		tasks = append(tasks, func(ctx context.Context) error { return fake.ServeControl(ctx, listener, b) })
	}
	return together(ctx, tasks)
}

// together runs tasks until ctx ends or one of them fails, and waits for all.
func together(ctx context.Context, tasks []func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var group sync.WaitGroup
	errs := make([]error, len(tasks))
	for i, task := range tasks {
		group.Go(func() {
			if errs[i] = task(ctx); errs[i] != nil {
				cancel()
			}
		})
	}
	group.Wait()
	return errors.Join(errs...)
}

func newAuthHTTP() *cobra.Command {
	var listen string
	var backends []string
	cmd := &cobra.Command{
		Use:   "authhttp",
		Short: "Answer nginx's questions about logins",
		Long: `Answer the auth_http requests of nginx's mail module: every login is fine, and lives
on the next of the backends.`,
		Example: `  imapload authhttp --listen 127.0.0.1:9000 --backends 127.0.0.1:10143`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(backends) == 0 {
				return errors.New("--backends is missing")
			}
			listener, err := new(net.ListenConfig).Listen(cmd.Context(), "tcp", listen)
			if err != nil {
				return err
			}
			return fake.ServeAuthHTTP(cmd.Context(), listener, backends)
		},
	}
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:9000", "the `address`")
	cmd.Flags().StringSliceVar(&backends, "backends", nil, "addresses of backends")
	return cmd
}

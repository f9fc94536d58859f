package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/config"
)

func newCheck() *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check a configuration",
		Long: `Do everything that a start or a reload does with the configuration, but for
opening listeners: read it, the routing tables, the certificates and the keys.

All mistakes are printed at once, each with file, line, column and a hint, and
the exit code is 2. A good configuration is summed up in a few lines. Settings
that give up protection are named, and do no harm to the exit code.`,
		Example: `  imapgate check
  imapgate check -c imapgate.yaml && systemctl reload imapgate`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			l, err := load(cmd.Context(), path, noHandshakes, nil, false)
			if err != nil {
				return err
			}
			l.conf.Warnings.Print(cmd.ErrOrStderr(), "imapgate: warning: ")
			return summary(cmd.OutOrStdout(), path, l)
		},
	}
	configFlag(cmd, &path)
	return cmd
}

// noHandshakes is the source of certificates where nobody will connect.
func noHandshakes(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	return nil, errors.New("nothing is served")
}

// summary says in a few lines what a configuration amounts to.
func summary(w io.Writer, path string, l *loaded) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(name string, values []string) {
		_, _ = fmt.Fprintf(tw, "%s\t%s\n", name, strings.Join(values, ", "))
	}
	_, _ = fmt.Fprintf(tw, "%s is good\n", path)
	var listeners []string
	for i := range l.conf.Listen {
		listeners = append(listeners, l.conf.Listen[i].Address.V+" ("+l.conf.Listen[i].TLS.V+")")
	}
	row("listeners", listeners)
	if l.conf.Certificates != nil {
		var certs []string
		for _, info := range l.conf.Certificates.Info() {
			certs = append(certs, fmt.Sprintf("%s (%s, until %s)", strings.Join(info.Names, " "), info.KeyType, info.NotAfter.Format(time.DateOnly)))
		}
		row("certificates", certs)
	}
	if a := l.conf.ACME; a != nil {
		wanted := slices.Clone(a.Domains)
		for _, label := range a.Labels {
			wanted = append(wanted, strings.TrimPrefix(label+".DOMAIN", "@.")+" on demand")
		}
		row("acme", []string{strings.Join(wanted, " "), string(a.Challenge), a.Directory})
	}
	row("backends", names(l.conf.Backends))
	if len(l.conf.Pools) > 0 {
		row("pools", names(l.conf.Pools))
	}
	s := l.routing.Table.Stats()
	row("table", []string{plural(s.Users, "user"), plural(s.Domains, "domain"), "everybody else: " + everybodyElse(l.routing)})
	return tw.Flush()
}

func names[T any](entries []config.Entry[T]) []string {
	var list []string
	for i := range entries {
		list = append(list, entries[i].Name.V)
	}
	return list
}

func plural(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

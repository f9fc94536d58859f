package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
)

func newCert() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Show and renew certificates",
		Long: `Show the certificates that the running imapgate serves its clients with, and renew
those that it obtains from a CA. Files are read again by themselves when they change,
and certificates from a CA are renewed in time by themselves.`,
		Example: `  imapgate cert list
  imapgate cert renew imap.example.org`,
		Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCertList(), newCertRenew())
	return cmd
}

// soon is when a certificate that expires is worth a look.
const soon = 14 * 24 * time.Hour

func newCertList() *cobra.Command {
	var ask asking
	return ask.command(&cobra.Command{
		Use:   "list",
		Short: "List the certificates that clients see",
		Long: `List the certificates that the running imapgate serves, or is to serve, with their
names, the type of their keys, when they expire, and where they come from: a file, a
CA (acme), a CA since a client asked for the name (on-demand), or nowhere, while
there is no other one (self-signed).

Below it stands what is wrong: one that is yet to be obtained and why, one that has
expired, or files that are newer and cannot be used. The last table says which
certificate a client gets by the name that it asks for (SNI).`,
		Example: `  imapgate cert list
  imapgate cert list -o json | jq -r '.certificates[].not_after'`,
		Args: arguments(),
	}, func(cmd *cobra.Command, c *admin.Client, _ []string) error {
		var answer admin.Certificates
		if err := c.Get(cmd.Context(), "/v1/certificates", nil, &answer); err != nil {
			return err
		}
		return ask.print(cmd, answer, func(p *printer) { printCertificates(p, &answer) })
	})
}

func printCertificates(p *printer, answer *admin.Certificates) {
	if len(answer.Certificates) == 0 {
		p.printf("no certificates\n")
		return
	}
	rows := [][]cell{header("NAME", "KEY", "EXPIRES", ">IN", "FROM")}
	for i := range answer.Certificates {
		cert := &answer.Certificates[i]
		rows = append(rows, append(append([]cell{text(certName(cert)), text(or(cert.KeyType, "-"))}, expiry(answer.Now, cert)...), text(certSource(cert))))
	}
	p.table(rows...)
	for _, cert := range answer.Certificates {
		if cert.Problem == "" {
			continue
		}
		again := ""
		if when := in(answer.Now, cert.Next); when != "" {
			again = " (next attempt " + when + ")"
		}
		p.printf("  %s\n", p.paint(visible(cert.Problem+again), red))
	}
	p.printf("\n")
	printServed(p, answer.Certificates)
}

// expiry says until when a certificate is good.
func expiry(now time.Time, cert *admin.Certificate) []cell {
	if cert.NotAfter.IsZero() {
		return []cell{text("-"), {text: "-", right: true}}
	}
	left := cert.NotAfter.Sub(now)
	expires, within := text(cert.NotAfter.UTC().Format(time.DateOnly)), cell{text: age(left), right: true}
	switch {
	case left <= 0:
		expires.colour, within = red, cell{text: "expired", colour: red}
	case left < soon:
		expires.colour = yellow
	}
	return []cell{expires, within}
}

func certName(cert *admin.Certificate) string {
	if len(cert.Names) == 0 {
		return "-"
	}
	if more := len(cert.Names) - 1; more > 0 {
		return fmt.Sprintf("%s +%d", cert.Names[0], more)
	}
	return cert.Names[0]
}

func certSource(cert *admin.Certificate) string { return or(cert.File, cert.Source) }

// maxServed is how many names are listed.
const maxServed = 50

// printServed says what a client gets, by what it asks for.
func printServed(p *printer, certs []admin.Certificate) {
	rows := [][]cell{header("CLIENT ASKS FOR", "GETS")}
	add := func(name string, cert *admin.Certificate) {
		gets := certSource(cert)
		if n := certName(cert); n != name && n != "-" {
			gets = n + ", " + gets
		}
		rows = append(rows, []cell{text(name), text(gets)})
	}
	for i := range certs {
		for _, name := range certs[i].Serves {
			add(name, &certs[i])
		}
	}
	more := len(rows) - 1 - maxServed
	if more > 0 {
		rows = rows[:1+maxServed]
	}
	for i := range certs {
		if certs[i].Default {
			add("nothing, or else", &certs[i])
		}
	}
	p.table(rows...)
	if more > 0 {
		p.printf("and %s more: see cert list -o json\n", thousands(more))
	}
}

func newCertRenew() *cobra.Command {
	var ask asking
	var request admin.RenewRequest
	cmd := ask.command(&cobra.Command{
		Use:   "renew [NAME]",
		Short: "Order a new certificate now",
		Long: `Order a new certificate for NAME from the CA, or for all names of tls.acme.domains,
whatever there is, and wait until it is served. No session is lost, and the old one is
served until then. This is for keys that became known, for a CA that has revoked a
certificate, or after something was mended: failed orders are tried again by
themselves, but more and more rarely. CAs have limits; do not use it in a loop.

It is for certificates that imapgate obtains itself. Those from files are read again
by themselves when somebody renews the files.`,
		Example: `  imapgate cert renew imap.example.org
  imapgate cert renew --why "key was in a backup that got lost"`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usageError("unexpected argument %q; see %q", args[1], cmd.CommandPath()+" -h")
			}
			return nil
		},
		ValidArgsFunction: ask.complete(renewableNames),
	}, func(cmd *cobra.Command, c *admin.Client, names []string) error {
		if len(names) == 0 {
			var err error
			if names, err = renewable(cmd.Context(), c); err != nil {
				return err
			}
			if len(names) == 0 {
				return &exitError{exitNotFound, errors.New("no certificate is obtained from a CA: there are no tls.acme.domains")}
			}
		}
		renewed := []admin.Certificate{}
		var failed []error
		for _, name := range names {
			var cert admin.Certificate
			if err := c.Post(cmd.Context(), admin.CertificatePath(name, "renew"), request, &cert); err != nil {
				failed = append(failed, err)
				continue
			}
			renewed = append(renewed, cert)
		}
		err := ask.print(cmd, renewed, func(p *printer) {
			for i := range renewed {
				p.printf("%s: renewed, until %s\n", visible(certName(&renewed[i])), renewed[i].NotAfter.UTC().Format(time.RFC3339))
			}
		})
		return errors.Join(append(failed, err)...)
	})
	cmd.Flags().StringVar(&request.Why, "why", "", "the `reason`, for the log")
	return cmd
}

// renewable returns the names that certificates are obtained for.
func renewable(ctx context.Context, c *admin.Client) ([]string, error) {
	var answer admin.Certificates
	if err := c.Get(ctx, "/v1/certificates", nil, &answer); err != nil {
		return nil, err
	}
	var names []string
	for _, cert := range answer.Certificates {
		if cert.Source == admin.SourceACME && len(cert.Names) > 0 {
			names = append(names, cert.Names[0])
		}
	}
	return names, nil
}

// renewableNames completes one of them.
func renewableNames(ctx context.Context, c *admin.Client, typed string) []string {
	names, err := renewable(ctx, c)
	if err != nil {
		return nil
	}
	return slices.DeleteFunc(names, func(n string) bool { return !strings.HasPrefix(n, typed) })
}

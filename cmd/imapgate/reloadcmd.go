package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"imapgate/cmd/imapgate/internal/admin"
)

func newReload() *cobra.Command {
	var ask asking
	var in admin.ReloadRequest
	cmd := ask.command(&cobra.Command{
		Use:   "reload",
		Short: "Read the configuration and all that it names again",
		Long: `Make the running imapgate read its configuration again, and the tables, certificates
and keys that it names, as SIGHUP does, and say what came of it. No session is lost.

A mistake anywhere leaves everything as it was. All mistakes are printed, and the
exit code is 2. A table that has lost more than route.max_shrink percent of its rows
is a mistake too, unless --force says that it is meant.`,
		Example: `  imapgate check && imapgate reload
  imapgate reload --force`,
		Args: arguments(),
	}, func(cmd *cobra.Command, c *admin.Client, _ []string) error {
		var out admin.Reload
		if err := c.Post(cmd.Context(), "/v1/reload", in, &out); err != nil {
			return err
		}
		return ask.print(cmd, out, func(p *printer) {
			took := seconds(out.TookSeconds).Round(time.Millisecond)
			p.printf("reloaded in %s; the table has %s\n", took, count(out.Rows, "row"))
		})
	})
	cmd.Flags().BoolVar(&in.Force, "force", false, "accept tables that have lost most of their rows")
	return cmd
}

func newCert() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "cert",
		Short: "Show certificates",
		Long: `Show the certificates that the running imapgate serves its clients with. They are
read again by themselves when their files change.`,
		Example: `  imapgate cert list`,
		Args:    unknownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newCertList())
	return cmd
}

// soon is when a certificate that expires is worth a look.
const soon = 14 * 24 * time.Hour

func newCertList() *cobra.Command {
	var ask asking
	return ask.command(&cobra.Command{
		Use:   "list",
		Short: "List the certificates that clients see",
		Long: `List the certificates that the running imapgate serves, with their names, the type
of their keys, and when they expire. The first is for clients that ask for no name,
or for one that no certificate has. Below the table stands what is wrong: one that
has expired, or files that are newer and cannot be used.`,
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
	rows := [][]cell{header("NAME", "KEY", "EXPIRES", ">IN", "FILE")}
	for i := range answer.Certificates {
		cert := &answer.Certificates[i]
		left := cert.NotAfter.Sub(answer.Now)
		expires := cell{text: cert.NotAfter.UTC().Format(time.DateOnly)}
		within := cell{text: age(left), right: true}
		switch {
		case left <= 0:
			expires.colour, within = red, cell{text: "expired", colour: red}
		case left < soon:
			expires.colour = yellow
		}
		name := "-"
		if len(cert.Names) > 0 {
			name = cert.Names[0]
			if more := len(cert.Names) - 1; more > 0 {
				name += fmt.Sprintf(" +%d", more)
			}
		}
		rows = append(rows, []cell{text(name), text(cert.KeyType), expires, within, text(cert.File)})
	}
	p.table(rows...)
	for _, cert := range answer.Certificates {
		if cert.Problem != "" {
			p.printf("  %s\n", p.paint(visible(cert.Problem), red))
		}
	}
}

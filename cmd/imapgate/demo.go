package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"imapgate/cmd/imapgate/internal/config"
)

// demoPassword is that of all users of the demo.
const demoPassword = "imapgate"

// demoPorts are where the demo listens on 127.0.0.1; 0 lets the system choose.
type demoPorts struct{ tls, startTLS, admin int }

func newDemo() *cobra.Command {
	var ports demoPorts
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Try it: a proxy, two servers and some mail, in memory",
		Long: `Run a proxy with two IMAP servers behind it, with mail in them, all in this
process and in memory, with a certificate made for the occasion. It prints what to
type to log in. Nothing is installed, nothing is kept, and nothing but this machine
can reach it.

The servers are called mail1 and mail2. alice@example.org lives on mail1 and
bob@example.org on mail2, and their mail says so. The password is "imapgate".`,
		Example: `  imapgate demo
  imapgate demo --tls-port 2993 --starttls-port 2143`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, p := range []int{ports.tls, ports.startTLS, ports.admin} {
				if p < 0 || p > 65535 {
					return usageError("%d is no port", p)
				}
			}
			return demo(cmd.Context(), ports, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().IntVar(&ports.tls, "tls-port", 1993, "`port` for TLS from the first byte")
	cmd.Flags().IntVar(&ports.startTLS, "starttls-port", 1143, "`port` for STARTTLS")
	cmd.Flags().IntVar(&ports.admin, "admin-port", 9143, "`port` of the web page")
	return cmd
}

// demo runs the demo until a signal comes or ctx ends.
func demo(ctx context.Context, ports demoPorts, stdout, stderr io.Writer) error {
	dir, err := os.MkdirTemp("", "imapgate-demo-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	cert, err := demoCertificate(dir)
	if err != nil {
		return fmt.Errorf("make a certificate: %w", err)
	}
	backends, err := startDemoBackends(ctx, cert)
	if err != nil {
		return fmt.Errorf("start the servers: %w", err)
	}
	defer backends.close()
	path, err := writeDemoConfig(dir, ports, backends)
	if err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	err = serveFile(ctx, path, stderr, func(a *app) {
		backends.logTo(a.log.Named("demo"))
		_, _ = io.WriteString(stdout, demoHelp(a, backends))
	})
	return demoError(err)
}

// writeDemoConfig writes the configuration and the table, as an operator would.
func writeDemoConfig(dir string, ports demoPorts, backends *demoBackends) (path string, err error) {
	conf := fmt.Sprintf(`# What imapgate demo runs with.
listen:
  - {address: "127.0.0.1:%d", tls: implicit}
  - {address: "127.0.0.1:%d", tls: starttls}
tls:
  certificates: [{cert: cert.pem, key: key.pem}]
backends:
  mail1: {address: "%s", tls: implicit, tls_name: localhost, ca: cert.pem}
  mail2: {address: "%s", tls: starttls, tls_name: localhost, ca: cert.pem}
route:
  tables: [users.map]
login: {default_domain: example.org}
admin: {socket: admin.sock, http: "127.0.0.1:%d"}
state_dir: .
close_spread: 1s
log: {format: console}
`, ports.tls, ports.startTLS, backends.address("mail1"), backends.address("mail2"), ports.admin)
	table := `# user               target  options
alice@example.org    mail1   login=alice@example.org
bob@example.org      mail2   login=bob@example.org
`
	path = filepath.Join(dir, "imapgate.yaml")
	err = errors.Join(
		os.WriteFile(path, []byte(conf), 0o600),
		os.WriteFile(filepath.Join(dir, "users.map"), []byte(table), 0o600),
	)
	return path, err
}

// demoHelp says what to type.
func demoHelp(a *app, backends *demoBackends) string {
	address := func(mode string) string {
		for _, s := range a.sockets {
			if s.conf.Serve.TLS.String() == mode {
				return s.tcp.Addr().String()
			}
		}
		return ""
	}
	return strings.NewReplacer(
		"TLS_ADDRESS", address("implicit"), "STARTTLS_ADDRESS", address("starttls"),
		"MAIL1_ADDRESS", backends.address("mail1"), "MAIL2_ADDRESS", backends.address("mail2"),
		"CONFIG", a.path, "ADMIN_ADDRESS", a.admin.address(),
	).Replace(`imapgate demo: a proxy with two IMAP servers behind it, all in memory.

  clients connect to  TLS_ADDRESS (TLS) and STARTTLS_ADDRESS (STARTTLS)
  alice@example.org   lives on mail1, MAIL1_ADDRESS
  bob@example.org     lives on mail2, MAIL2_ADDRESS
  password            imapgate, for both

Read mail (-k because nobody has signed the certificate):

  curl -k --user alice@example.org:imapgate 'imaps://TLS_ADDRESS/INBOX;MAILINDEX=1'
  curl -k --user bob@example.org:imapgate --ssl-reqd 'imap://STARTTLS_ADDRESS/INBOX;MAILINDEX=1'
  curl -k --user alice@example.org:imapgate imaps://TLS_ADDRESS/INBOX -X 'FETCH 1:* ENVELOPE'

Speak IMAP yourself:

  openssl s_client -quiet -crlf -connect TLS_ADDRESS
  openssl s_client -quiet -crlf -connect STARTTLS_ADDRESS -starttls imap

  a LOGIN alice@example.org imapgate
  b SELECT INBOX
  c FETCH 1:* ENVELOPE
  d LOGOUT

Watch and change it, in a browser at http://ADMIN_ADDRESS or here:

  imapgate status -c CONFIG
  imapgate who -c CONFIG
  imapgate drain -c CONFIG mail2 --why "to see what happens"
  imapgate lookup -c CONFIG bob@example.org --explain

Ctrl-C ends it. The log follows.

`)
}

// demoError makes "port in use" name the flag that helps.
func demoError(err error) error {
	var mistakes config.Errors
	if !errors.As(err, &mistakes) {
		return err
	}
	var lines []string
	for _, m := range mistakes {
		lines = append(lines, fmt.Sprintf("%s: %v", m.Msg, m.Err))
	}
	return &exitError{exitFailed, fmt.Errorf("%s (choose other ports with --tls-port, --starttls-port and --admin-port)", strings.Join(slices.Compact(lines), "; "))}
}

// demoBackends are the servers of the demo.
type demoBackends struct {
	list []*demoBackend
}

func (d *demoBackends) address(name string) string {
	for _, b := range d.list {
		if b.name == name {
			return b.listener.Addr().String()
		}
	}
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(0))
}

func (d *demoBackends) close() {
	for _, b := range d.list {
		b.close()
	}
}

func (d *demoBackends) logTo(log *zap.Logger) {
	for _, b := range d.list {
		b.log.Store(log.With(zap.String("backend", b.name)))
	}
}

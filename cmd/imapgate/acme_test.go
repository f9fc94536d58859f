package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"imapgate/proxy/proxytest"
	"imapgate/tlsconf/acmetest"
)

// acmePlant is a plant that gets its certificates from a CA.
type acmePlant struct {
	*plant
	ca        *acmetest.CA
	zone      *acmetest.Zone
	challenge string // the address where the CA asks over HTTP
}

func newACMEPlant(t *testing.T) *acmePlant {
	t.Helper()
	zone := acmetest.NewZone(t, "example.org")
	port := proxytest.FreePort(t)
	p := &acmePlant{
		plant: newAdminPlant(t, ""), zone: zone, challenge: fmt.Sprintf("127.0.0.1:%d", port),
		ca: acmetest.NewCA(t, acmetest.Options{Zone: zone, HTTPPort: port, TLSPort: proxytest.FreePort(t)}),
	}
	p.configure(t, "domains: [imap.example.org]")
	return p
}

// configure writes a configuration whose certificates all come from the CA.
func (p *acmePlant) configure(t *testing.T, more string) {
	t.Helper()
	p.certificates = fmt.Sprintf("acme: {%s, email: postmaster@example.org, directory: %q, ca: %q, http_address: %q}", more, p.ca.Directory, p.ca.RootFile, p.challenge)
	p.writeConfig(t)
}

// share gives the plant the CA and the storage of another one.
func (p *plant) share(t *testing.T, with *acmePlant, challenge, domain string) *acmePlant {
	t.Helper()
	other := &acmePlant{plant: p, ca: with.ca, zone: with.zone, challenge: challenge}
	other.configure(t, fmt.Sprintf("storage: %q, domains: [%s]", with.dir+"/acme", domain))
	return other
}

// trusting connects as a client that asks for a name and trusts the CA alone, and
// reads the greeting.
func (p *acmePlant) trusting(ctx context.Context, roots *x509.CertPool, name string) (*client, *x509.Certificate, error) {
	tcp, err := (&net.Dialer{Timeout: patience}).DialContext(ctx, "tcp", p.listen[0])
	if err != nil {
		return nil, nil, err
	}
	nc := tls.Client(tcp, &tls.Config{ServerName: name, RootCAs: roots, MinVersion: tls.VersionTLS12})
	if err := nc.HandshakeContext(ctx); err != nil {
		_ = tcp.Close()
		return nil, nil, err
	}
	c := &client{Conn: nc, in: bufio.NewReader(nc)}
	if err := nc.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, nil, err
	}
	if line, err := c.in.ReadString('\n'); err != nil || !strings.HasPrefix(line, "* OK ") {
		return nil, nil, fmt.Errorf("greeting %q: %w", line, err)
	}
	return c, nc.ConnectionState().PeerCertificates[0], nil
}

// tryLogin logs alice in, and says what went wrong.
func (c *client) tryLogin() error {
	if _, err := c.Write([]byte("t LOGIN alice@example.org " + demoPassword + "\r\n")); err != nil {
		return err
	}
	for {
		line, err := c.in.ReadString('\n')
		switch {
		case err != nil:
			return err
		case strings.HasPrefix(line, "t OK"):
			return nil
		case strings.HasPrefix(line, "t "):
			return fmt.Errorf("login: %s", line)
		}
	}
}

// trustedLogin logs alice in over a connection that trusts the CA.
func (p *acmePlant) trustedLogin(t *testing.T, name string) (*client, *x509.Certificate) {
	t.Helper()
	c, cert, err := p.trusting(t.Context(), p.ca.Issuers(t), name)
	if err == nil {
		t.Cleanup(func() { c.Close() })
		err = c.tryLogin()
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return c, cert
}

// obtained waits until a name has a certificate.
func (p *process) obtained(t *testing.T, name string) {
	t.Helper()
	if got := p.waitLine(t, "certificate obtained"); got["name"] != name {
		t.Fatalf("a certificate of %s is obtained, want one of %s", got["name"], name)
	}
}

func TestACMEFromTheFirstStartOn(t *testing.T) {
	p := newACMEPlant(t)
	api := proxytest.FreeAddress(t)
	p.tail = strings.Replace(p.tail, "admin.sock", "admin.sock, http: \""+api+"\"", 1)
	p.configure(t, "domains: [imap.example.org]")
	if out := p.ask(t, "check"); !strings.Contains(out, "acme       imap.example.org, http-01, https://localhost:") || p.ca.Orders() > 0 {
		t.Errorf("check ordered %d certificates, and printed\n%s", p.ca.Orders(), out)
	}

	// While the CA is down, the proxy serves what it has, and says what is missing.
	p.ca.SetDown(true)
	proc := p.serving(t)
	proc.waitLine(t, "certificate not obtained")
	c, err := connect(t, p.listen[0], 0) // as a client that trusts everybody
	if err != nil {
		t.Fatal(err)
	}
	if err := c.tryLogin(); err != nil {
		t.Error(err)
	}
	const missing = "no certificate is obtained yet, clients see a self-signed one"
	if code, body := fetch(t, api, "/readyz", ""); code != http.StatusServiceUnavailable || !strings.Contains(body, missing) {
		t.Errorf("readyz: %d %s", code, body)
	}
	if _, body := fetch(t, api, "/metrics", ""); !strings.Contains(body, "imapgate_cert_problem{name=\"imap.example.org\"} 1\n") || strings.Contains(body, "cert_expiry_timestamp_seconds{") {
		t.Error("the metrics do not say that the certificate is missing")
	}
	if out := p.ask(t, "cert", "list"); !strings.Contains(out, ": it is tried again by itself (next attempt in ") || !strings.Contains(out, "nothing, or else  self-signed") {
		t.Errorf("cert list:\n%s", out)
	}

	p.ca.SetDown(false)
	if out := p.ask(t, "cert", "renew"); !strings.HasPrefix(out, "imap.example.org: renewed, until ") {
		t.Errorf("cert renew: %s", out)
	}
	proc.obtained(t, "imap.example.org")
	session, first := p.trustedLogin(t, "imap.example.org")
	if code, body := fetch(t, api, "/readyz", ""); code != http.StatusOK || body != "ready\n" {
		t.Errorf("readyz: %d %s", code, body)
	}
	if _, body := fetch(t, api, "/metrics", ""); !strings.Contains(body, "imapgate_cert_problem{name=\"imap.example.org\"} 0\n") ||
		!strings.Contains(body, "imapgate_cert_expiry_timestamp_seconds{name=\"imap.example.org\"} ") {
		t.Error("the metrics do not have the certificate")
	}

	// Settings change, and what is wrong with one name is no trouble for the others.
	p.zone.Forget("gone.example.org")
	p.configure(t, "domains: [imap.example.org, mail.example.org, gone.example.org]")
	p.ask(t, "reload")
	p.trustedLogin(t, "imap.example.org")
	outcome := make(map[any]any)
	for range 2 {
		line := proc.waitLine(t, "certificate obtained", "certificate not obtained")
		outcome[line["name"]] = line["msg"]
	}
	if outcome["mail.example.org"] != "certificate obtained" || outcome["gone.example.org"] != "certificate not obtained" {
		t.Errorf("logged: %v", outcome)
	}
	p.trustedLogin(t, "mail.example.org")
	if code, body := fetch(t, api, "/readyz", ""); code != http.StatusOK || !strings.HasPrefix(body, "ready\ncertificate of gone.example.org: the CA says ") {
		t.Errorf("readyz: %d %s", code, body)
	}
	if reply := session.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
		t.Errorf("the session from before: %s", reply)
	}

	// A restart asks for nothing that is there.
	proc.signal(t, syscall.SIGTERM)
	if code := proc.waitExit(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	p.configure(t, "domains: [imap.example.org]")
	orders := p.ca.Orders()
	p.serving(t)
	if _, cert := p.trustedLogin(t, "imap.example.org"); !cert.Equal(first) || p.ca.Orders() != orders {
		t.Errorf("after a restart there is another certificate, and %d more orders", p.ca.Orders()-orders)
	}
}

// TestACMERenewalsUnderLoad renews again and again while many sessions idle and
// clients come and go.
func TestACMERenewalsUnderLoad(t *testing.T) {
	const idle, perSecond, renewals = 500, 50, 5
	p := newACMEPlant(t)
	proc := p.serving(t)
	proc.obtained(t, "imap.example.org")
	go func() { // ends with the process
		for range proc.lines { // nobody else reads them
		}
	}()
	roots := p.ca.Issuers(t)
	sessions := make([]*client, idle)
	for i := range sessions {
		sessions[i], _ = p.trustedLogin(t, "imap.example.org")
	}

	var serials sync.Map
	var wg sync.WaitGroup
	var logins, failed atomic.Int32
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	wg.Go(func() {
		tick := time.NewTicker(time.Second / perSecond)
		defer tick.Stop()
		for ctx.Err() == nil {
			<-tick.C
			wg.Go(func() {
				logins.Add(1)
				c, cert, err := p.trusting(t.Context(), roots, "imap.example.org")
				if err == nil {
					serials.Store(cert.SerialNumber.String(), true)
					err = c.tryLogin()
					c.Close()
				}
				if err != nil {
					failed.Add(1)
					t.Errorf("a login during renewals: %v", err)
				}
			})
		}
	})
	for range renewals {
		p.ask(t, "cert", "renew", "imap.example.org")
	}
	stop()
	wg.Wait()
	for i, s := range sessions {
		if reply := s.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
			t.Fatalf("session %d: %s", i, reply)
		}
	}
	different := 0
	serials.Range(func(any, any) bool { different++; return true })
	if different < renewals {
		t.Errorf("clients saw %d certificates during %d renewals", different, renewals)
	}
	t.Logf("%d idle sessions lived through %d renewals, %d logins, %d of them failed", idle, renewals, logins.Load(), failed.Load())
}

// TestProxiesThatShareTheirStorage has one proxy order a certificate, and the CA ask
// another one.
func TestProxiesThatShareTheirStorage(t *testing.T) {
	asked := newACMEPlant(t)
	asked.configure(t, "domains: [other.example.org]")
	asked.serving(t).obtained(t, "other.example.org")

	orders := newPlant(t).share(t, asked, proxytest.FreeAddress(t), "imap.example.org")
	orders.serving(t).obtained(t, "imap.example.org")
	_, cert := orders.trustedLogin(t, "imap.example.org")
	if n := asked.ca.Orders(); n != 2 {
		t.Errorf("%d orders for two names", n)
	}

	third := newPlant(t).share(t, asked, proxytest.FreeAddress(t), "imap.example.org")
	third.serving(t)
	if _, same := third.trustedLogin(t, "imap.example.org"); !same.Equal(cert) || asked.ca.Orders() != 2 {
		t.Errorf("a third proxy ordered a certificate of its own; %d orders", asked.ca.Orders())
	}
}

func TestCertificatesOnDemandFollowTheTable(t *testing.T) {
	p := newACMEPlant(t)
	p.configure(t, "domains: [proxy.example.org], on_demand: [imap]")
	p.writeTable(t, "@customer.example.org mail1\nalice@example.org mail1\nalice@imap.stranger.example.org mail1\n")
	proc := p.serving(t)
	proc.obtained(t, "proxy.example.org")
	p.trustedLogin(t, "imap.customer.example.org")
	for _, refused := range []string{"mail.customer.example.org", "customer.example.org", "imap.stranger.example.org", "imap.example.org"} {
		if _, cert, err := p.trusting(t.Context(), p.ca.Issuers(t), refused); err == nil {
			t.Errorf("%s has a certificate of %v", refused, cert.DNSNames)
		}
	}
	if n := p.ca.Orders(); n != 2 {
		t.Errorf("%d orders for two names", n)
	}
	if out := p.ask(t, "cert", "list"); !strings.Contains(out, "imap.customer.example.org  on-demand\nnothing, or else           proxy.example.org, acme\n") {
		t.Errorf("cert list:\n%s", out)
	}
}

func TestAPortThatTheCANeedsIsOneClearLine(t *testing.T) {
	p := newACMEPlant(t)
	l, err := net.Listen("tcp", p.challenge)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	proc := p.serving(t)
	if _, err := connect(t, p.listen[0], 0); err != nil {
		t.Errorf("without port 80 nobody is served: %v", err)
	}
	proc.signal(t, syscall.SIGTERM)
	proc.waitExit(t)
	var lines []string
	for _, line := range proc.seen {
		if strings.Contains(line, `"level":"error"`) || strings.Contains(line, `"level":"warn"`) {
			lines = append(lines, line)
		}
	}
	if len(lines) != 1 || !strings.Contains(lines[0], "tls.acme.http_address "+p.challenge+" cannot be listened on, another program has it (see ss -ltnp)") {
		t.Errorf("logged:\n%s", strings.Join(lines, "\n"))
	}
}

func TestAnUpgradeGoesOnWithCertificatesFromTheCA(t *testing.T) {
	p, i := newACMEPlant(t), install(t)
	p.plant = i.plant
	p.configure(t, "domains: [imap.example.org]")
	proc := i.serving(t)
	proc.obtained(t, "imap.example.org")
	session, before := p.trustedLogin(t, "imap.example.org")

	i.upgrade(t)
	if _, after := p.trustedLogin(t, "imap.example.org"); !after.Equal(before) {
		t.Error("the new process has another certificate")
	}
	proc.waitLine(t, "a new process serves, the sessions here live on")
	if out := p.ask(t, "cert", "renew"); !strings.HasPrefix(out, "imap.example.org: renewed, until ") {
		t.Errorf("cert renew: %s", out)
	}
	if reply := session.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
		t.Errorf("the session: %s", reply)
	}
	if proc.logged(`"level":"error"`) {
		t.Error("an error is logged")
	}
}

package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"imapgate/proxy/proxytest"
)

// plant is a directory with a configuration for two servers in memory, which a
// test changes while imapgate runs.
type plant struct {
	dir          string
	listen       []string // entries of listen
	tls          string   // more keys of tls
	certificates string   // keys of tls, in the place of a certificate for localhost
	backends     *demoBackends
	extra        string // more backends
	tail         string // more sections
}

func newPlant(t *testing.T) *plant {
	t.Helper()
	dir := t.TempDir()
	ca := proxytest.NewCA(t)
	cert := ca.Issue(t, proxytest.CertOptions{})
	proxytest.WritePair(t, dir, "cert", cert)
	if err := os.Rename(ca.WritePEM(t, dir), filepath.Join(dir, "authority.pem")); err != nil {
		t.Fatal(err)
	}
	backends, err := startDemoBackends(t.Context(), cert)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(backends.close)
	p := &plant{dir: dir, backends: backends, listen: []string{proxytest.FreeAddress(t)}, tail: "close_spread: 1ms\n"}
	p.writeTable(t, "alice@example.org mail1\n")
	p.writeConfig(t)
	return p
}

func (p *plant) path() string { return filepath.Join(p.dir, "imapgate.yaml") }

func (p *plant) writeConfig(t *testing.T) {
	t.Helper()
	var b strings.Builder
	b.WriteString("listen:\n")
	for _, address := range p.listen {
		fmt.Fprintf(&b, "  - {address: %q, tls: implicit}\n", address)
	}
	certificates := p.certificates
	if certificates == "" {
		certificates = "certificates: [{cert: cert.pem, key: cert.key}]"
	}
	fmt.Fprintf(&b, `tls: {%s%s}
backends:
  mail1: {address: %q, tls: implicit, tls_name: localhost, ca: authority.pem}
  mail2: {address: %q, tls: starttls, tls_name: localhost, ca: authority.pem}
%sroute: {tables: [users.map]}
limits: {sessions_per_user: 0, sessions_per_user_and_address: 0}
log: {format: json}
%s`, certificates, p.tls, p.backends.address("mail1"), p.backends.address("mail2"), p.extra, p.tail)
	writeFiles(t, p.dir, map[string]string{"imapgate.yaml": b.String()})
}

// writeTable replaces the table as operators should: beside it, then renamed.
func (p *plant) writeTable(t *testing.T, rows string) {
	t.Helper()
	writeFiles(t, p.dir, map[string]string{"users.new": rows})
	if err := os.Rename(filepath.Join(p.dir, "users.new"), filepath.Join(p.dir, "users.map")); err != nil {
		t.Fatal(err)
	}
}

// serving starts imapgate and waits until it listens.
func (p *plant) serving(t *testing.T) *process {
	t.Helper()
	proc := startProcess(t, "serve", "-c", p.path())
	for range p.listen {
		proc.waitLine(t, "listening")
	}
	return proc
}

func TestSIGHUPReloadsListenersBackendsAndTables(t *testing.T) {
	p := newPlant(t)
	proc := p.serving(t)
	first := p.listen[0]
	old := login(t, first, "alice@example.org")

	p.listen = []string{proxytest.FreeAddress(t)}
	p.writeTable(t, "alice@example.org mail1\nbob@example.org mail2\n")
	p.writeConfig(t)
	proc.signal(t, syscall.SIGHUP)
	proc.waitLine(t, "configuration reloaded")

	login(t, p.listen[0], "alice@example.org")
	login(t, p.listen[0], "bob@example.org")
	if _, err := connect(t, first, 0); err == nil {
		t.Error("the listener that was removed still accepts")
	}
	if reply := old.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
		t.Errorf("the session of the removed listener: %s", reply)
	}
	proc.signal(t, syscall.SIGTERM)
	if code := proc.waitExit(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

func TestSIGHUPWithMistakesChangesNothing(t *testing.T) {
	p := newPlant(t)
	proc := p.serving(t)
	good, err := os.ReadFile(p.path())
	if err != nil {
		t.Fatal(err)
	}
	old := login(t, p.listen[0], "alice@example.org")

	bad := strings.NewReplacer("tls: implicit, tls_name", "tls: implicid, tls_name", "log: {format", "log: {fromat").Replace(string(good))
	writeFiles(t, p.dir, map[string]string{"imapgate.yaml": bad})
	proc.signal(t, syscall.SIGHUP)
	if rejected := proc.waitLine(t, "configuration rejected, the old one stays in force"); rejected["errors"] != 2.0 {
		t.Errorf("errors: %v", rejected["errors"])
	}
	for _, want := range []string{`imapgate.yaml:5:`, `did you mean \"implicit\"?`, `did you mean \"format\"?`} {
		if !proc.logged(want) {
			t.Errorf("not logged: %s", want)
		}
	}

	// Good again, but for its table, its key, and a port that is taken.
	writeFiles(t, p.dir, map[string]string{"imapgate.yaml": string(good)})
	p.writeTable(t, "alice@example.org nowhere\n")
	proc.signal(t, syscall.SIGHUP)
	proc.waitLine(t, "configuration rejected, the old one stays in force")
	p.writeTable(t, "alice@example.org mail1\n")
	taken := p.backends.address("mail1")
	writeFiles(t, p.dir, map[string]string{"imapgate.yaml": strings.Replace(string(good), "listen:\n", "listen:\n  - {address: \""+taken+"\", tls: implicit}\n", 1)})
	proc.signal(t, syscall.SIGHUP)
	if refused := proc.waitLine(t, "configuration error"); !strings.Contains(fmt.Sprint(refused["error"]), "cannot listen on "+taken+": address already in use") {
		t.Errorf("error: %v", refused["error"])
	}
	proc.waitLine(t, "configuration rejected, the old one stays in force")

	if reply := old.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
		t.Errorf("the session: %s", reply)
	}
	login(t, p.listen[0], "alice@example.org")
}

func TestSIGHUPKeepsAListenerWhoseTLSChanges(t *testing.T) {
	p := newPlant(t)
	proc := p.serving(t)
	c, err := connect(t, p.listen[0], tls.VersionTLS12)
	if err != nil {
		t.Fatal(err)
	}

	p.tls = ", min_version: 1.3"
	p.writeConfig(t)
	proc.signal(t, syscall.SIGHUP)
	proc.waitLine(t, "listening")
	proc.waitLine(t, "configuration reloaded")

	if _, err := connect(t, p.listen[0], tls.VersionTLS12); err == nil {
		t.Error("TLS 1.2 is still accepted")
	}
	login(t, p.listen[0], "alice@example.org")
	if reply := c.do(t, "LOGIN alice@example.org "+demoPassword); !strings.HasPrefix(reply, "t OK") {
		t.Errorf("the connection from before: %s", reply)
	}
}

func TestCertificatesAndTablesAreReadAgainWhenTheyChange(t *testing.T) {
	p := newPlant(t)
	proc := p.serving(t)
	p.writeTable(t, "alice@example.org mail1\nbob@example.org mail2\n")
	if reloaded := proc.waitLine(t, "table reloaded"); reloaded["rows"] != 2.0 {
		t.Errorf("rows: %v", reloaded["rows"])
	}
	login(t, p.listen[0], "bob@example.org")

	// The certificate changes, its file names too, and SIGHUP tells.
	ca := proxytest.NewCA(t)
	proxytest.WritePair(t, p.dir, "other", ca.Issue(t, proxytest.CertOptions{Hosts: []string{"other.example.org"}}))
	p.tls = "" // a listener that stays open must serve the new one
	p.writeConfig(t)
	text, err := os.ReadFile(p.path())
	if err != nil {
		t.Fatal(err)
	}
	writeFiles(t, p.dir, map[string]string{"imapgate.yaml": strings.NewReplacer("cert: cert.pem", "cert: other.pem", "key: cert.key", "key: other.key").Replace(string(text))})
	proc.signal(t, syscall.SIGHUP)
	proc.waitLine(t, "configuration reloaded")
	if name := certificateName(t, p.listen[0]); name != "other.example.org" {
		t.Errorf("the certificate is for %s", name)
	}

	// Its files change.
	proxytest.WritePair(t, p.dir, "other", ca.Issue(t, proxytest.CertOptions{Hosts: []string{"third.example.org"}}))
	for certificateName(t, p.listen[0]) != "third.example.org" {
		proc.waitLine(t, "certificates reloaded")
	}
}

func certificateName(t *testing.T, address string) string {
	t.Helper()
	c, err := connect(t, address, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	conn, ok := c.Conn.(*tls.Conn)
	if !ok {
		t.Fatal("no TLS")
	}
	return conn.ConnectionState().PeerCertificates[0].DNSNames[0]
}

func TestSIGTERMSaysByeToEverybody(t *testing.T) {
	p := newPlant(t)
	proc := p.serving(t)
	waiting, err := connect(t, p.listen[0], 0)
	if err != nil {
		t.Fatal(err)
	}
	session := login(t, p.listen[0], "alice@example.org")
	proc.signal(t, syscall.SIGTERM)
	waiting.expect(t, "* BYE ")
	session.expect(t, "* BYE ")
	if code := proc.waitExit(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if !proc.logged(`"shut down"`) {
		t.Error("the end is not logged")
	}
}

func TestASecondSignalEndsAtOnce(t *testing.T) {
	p := newPlant(t)
	stuck := startStuckBackend(t)
	p.extra = fmt.Sprintf("  stuck: {address: %q, tls: none}\n", stuck.Addr())
	p.writeTable(t, "carol@example.org stuck\n")
	p.writeConfig(t)
	proc := p.serving(t)
	c := login(t, p.listen[0], "carol@example.org")
	c.expect(t, "* 1 FETCH ") // its literal never ends, and so no boundary comes
	proc.signal(t, syscall.SIGTERM)
	proc.waitLine(t, "shutting down")

	exited := make(chan struct{})
	go func() {
		// The first moments count as the same signal.
		tick := time.NewTicker(sameSignal)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				_ = proc.cmd.Process.Signal(syscall.SIGTERM)
			case <-exited:
				return
			}
		}
	}()
	code := proc.waitExit(t)
	close(exited)
	if code != exitFailed || !proc.logged("imapgate: ended at once by a second signal (terminated)") {
		t.Errorf("exit code %d", code)
	}
}

// startStuckBackend is a server that logs everybody in and then begins a
// response that it does not end.
func startStuckBackend(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			c := &client{Conn: conn}
			go c.stick()
		}
	}()
	return l
}

// stick plays the stuck backend on one connection.
func (c *client) stick() {
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(patience))
	const caps = "IMAP4rev1 SASL-IR AUTH=PLAIN"
	fmt.Fprintf(c, "* OK [CAPABILITY %s] ready\r\n", caps)
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		if err != nil {
			return
		}
		tag, rest, _ := strings.Cut(string(buf[:n]), " ")
		if strings.HasPrefix(rest, "AUTHENTICATE") {
			fmt.Fprintf(c, "%s OK [CAPABILITY %s] in\r\n* 1 FETCH (BODY[] {1000}\r\nx", tag, caps)
			continue
		}
		fmt.Fprintf(c, "%s OK done\r\n", tag)
	}
}

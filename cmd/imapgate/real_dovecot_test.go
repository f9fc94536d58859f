package main_test

import (
	"bufio"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"text/template"
	"time"

	"imapgate/proxy/proxytest"
)

// realAccount is a user of a Dovecot.
type realAccount struct {
	Name     string
	Password string
	Hash     string // what the password file holds; empty: the password itself
}

func (a realAccount) line() string {
	hash := a.Hash
	if hash == "" {
		// In base64, since the file's fields end at a colon.
		hash = "{PLAIN.b64}" + base64.StdEncoding.EncodeToString([]byte(a.Password))
	}
	// Dovecot escapes the name that it looks for.
	name := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `'`, `\'`).Replace(a.Name)
	return name + ":" + hash + "\n"
}

// realDovecotConfig is what differs between Dovecots.
type realDovecotConfig struct {
	CA         *realCA       // of its certificate
	Accounts   []realAccount // its users
	Masters    []realAccount // its master users
	Mechanisms string        // default: plain login
	OAuth      string        // URL of the introspection endpoint
	Extra      string        // more configuration
	Group      bool          // its processes are a process group, that Signal reaches
}

// realDovecot is one running Dovecot with four listeners and a store of its own.
type realDovecot struct {
	IMAP     string // address: clear text, then STARTTLS
	IMAPS    string // address: implicit TLS
	HAProxy  string // address: PROXY header, then as IMAP
	HAProxyS string // address: PROXY header, then as IMAPS

	dir  string
	log  string
	pair realPair // its certificate
	cmd  *exec.Cmd

	group bool // see realDovecotConfig
}

var realDovecotTemplate = template.Must(template.New("dovecot.conf").Parse(`
base_dir = {{.Dir}}/run
state_dir = {{.Dir}}/run
log_path = {{.Dir}}/log
auth_verbose = yes
imap_id_log = *
login_log_format_elements = user=<%u> method=%m rip=%r lip=%l mpid=%e %c session=<%{session}> local_name=<%{local_name}>
protocols = imap
# Without an inotify instance left, it looks for new mail only now and then.
mailbox_idle_check_interval = 2 secs
listen = 127.0.0.1
login_trusted_networks = 127.0.0.0/8
haproxy_trusted_networks = 127.0.0.0/8
ssl = yes
ssl_cert = <{{.Pair.Cert}}
ssl_key = <{{.Pair.Key}}
auth_mechanisms = {{.Mechanisms}}
auth_username_chars =
auth_failure_delay = 0
first_valid_uid = {{if .Root}}1{{else}}0{{end}}
mail_location = maildir:~/Maildir
passdb {
  driver = passwd-file
  master = yes
  args = {{.Dir}}/masters
}
passdb {
  driver = passwd-file
  mechanisms = plain login scram-sha-1 scram-sha-256
  args = {{.Dir}}/users
}
{{- if .OAuth}}
passdb {
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {{.Dir}}/oauth2
}
{{- end}}
userdb {
  driver = static
  args = uid={{.UID}} gid={{.GID}} home={{.Dir}}/mail/%u allow_all_users=yes
}
{{- if not .Root}}
default_internal_user = {{.User}}
default_internal_group = {{.Group}}
default_login_user = {{.User}}
service auth {
  user = {{.User}}
}
service auth-worker {
  user = {{.User}}
}
service imap-login {
  chroot =
}
service imap-urlauth-login {
  chroot =
}
service anvil {
  chroot =
}
service stats {
  chroot =
}
{{- end}}
service imap-login {
  inet_listener imap {
    port = {{index .Ports 0}}
  }
  inet_listener imaps {
    port = {{index .Ports 1}}
    ssl = yes
  }
  inet_listener haproxy {
    port = {{index .Ports 2}}
    haproxy = yes
  }
  inet_listener haproxys {
    port = {{index .Ports 3}}
    haproxy = yes
    ssl = yes
  }
}
# Without the penalty: its growing delays are per address, and all of these are one.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
protocol imap {
  mail_plugins = $mail_plugins imap_zlib
  mail_max_userip_connections = 0
}
{{.Extra}}
`))

const realOAuthConf = `introspection_mode = auth
introspection_url = %s
username_attribute = email
active_attribute = active
active_value = true
`

// startRealDovecot starts a Dovecot and ends it with the test.
func startRealDovecot(t *testing.T, cfg realDovecotConfig) *realDovecot {
	t.Helper()
	binary := realTool(t, "dovecot")
	if cfg.Mechanisms == "" {
		cfg.Mechanisms = "plain login"
	}
	// Not t.TempDir: the path of a unix socket has 107 octets at most.
	dir, err := os.MkdirTemp("", "dovecot") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	d := &realDovecot{dir: dir, log: filepath.Join(dir, "log"), pair: cfg.CA.Server(t, filepath.Base(dir)), group: cfg.Group}

	owner, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	uid, gid := owner.Uid, owner.Gid
	group, err := user.LookupGroupId(gid)
	if err != nil {
		t.Fatal(err)
	}
	root := os.Geteuid() == 0
	if root {
		// Dovecot serves no mail as root: any unprivileged owner will do.
		uid, gid = "65534", "65534"
	}
	mail := filepath.Join(dir, "mail")
	if err := errors.Join(os.Chmod(dir, 0o755), os.Mkdir(mail, 0o755), os.Chmod(mail, 0o777)); err != nil {
		t.Fatal(err)
	}
	ports := []int{proxytest.FreePort(t), proxytest.FreePort(t), proxytest.FreePort(t), proxytest.FreePort(t)}
	d.IMAP, d.IMAPS = realAddr(ports[0]), realAddr(ports[1])
	d.HAProxy, d.HAProxyS = realAddr(ports[2]), realAddr(ports[3])

	var conf strings.Builder
	err = realDovecotTemplate.Execute(&conf, map[string]any{
		"Dir": dir, "Pair": d.pair, "Mechanisms": cfg.Mechanisms, "OAuth": cfg.OAuth,
		"Root": root, "User": owner.Username, "Group": group.Name, "UID": uid, "GID": gid, "Ports": ports, "Extra": cfg.Extra,
	})
	if err != nil {
		t.Fatal(err)
	}
	d.write(t, "conf", conf.String())
	d.write(t, "oauth2", fmt.Sprintf(realOAuthConf, cfg.OAuth))
	d.writeAccounts(t, "users", cfg.Accounts)
	d.writeAccounts(t, "masters", cfg.Masters)

	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s:\n%s", d.log, realTail(d.log))
		}
	})
	t.Cleanup(func() { d.Stop(t) })
	d.start(t, binary)
	return d
}

func (d *realDovecot) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(d.dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (d *realDovecot) writeAccounts(t *testing.T, name string, accounts []realAccount) {
	t.Helper()
	var text strings.Builder
	for _, a := range accounts {
		text.WriteString(a.line())
	}
	d.write(t, name, text.String())
}

// Start starts a Dovecot that was stopped, at the same addresses.
func (d *realDovecot) Start(t *testing.T) {
	t.Helper()
	d.start(t, realTool(t, "dovecot"))
}

func (d *realDovecot) start(t *testing.T, binary string) {
	t.Helper()
	out, err := os.Create(filepath.Join(d.dir, "out"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	d.cmd = exec.Command(binary, "-F", "-c", filepath.Join(d.dir, "conf"))
	d.cmd.Stdout, d.cmd.Stderr = out, out
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: d.group}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for _, addr := range []string{d.IMAP, d.IMAPS} {
		if !realListening(t, addr) {
			t.Fatalf("dovecot does not listen on %s:\n%s\n%s", addr, realTail(out.Name()), realTail(d.log))
		}
	}
	// Its first greeting tells that the authentication process answers.
	conn, err := net.DialTimeout("tcp", d.IMAP, realPatience)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.SetDeadline(time.Now().Add(realPatience)); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); err != nil || !strings.HasPrefix(line, "* OK") {
		t.Fatalf("dovecot's greeting: %q, %v\n%s", line, err, realTail(d.log))
	}
}

// Stop ends the Dovecot and waits until it is gone.
func (d *realDovecot) Stop(t *testing.T) {
	t.Helper()
	if d.cmd == nil {
		return
	}
	if err := realTerminate(d.cmd); err != nil {
		t.Errorf("dovecot: %v", err)
	}
	d.cmd = nil
}

// Signal sends a signal to all processes of a Dovecot that is a group.
func (d *realDovecot) Signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(-d.cmd.Process.Pid, s); err != nil {
		t.Errorf("signal dovecot: %v", err)
	}
}

// Kill ends all processes of a Dovecot that is a group, without a chance to
// clean up.
func (d *realDovecot) Kill(t *testing.T) {
	t.Helper()
	d.Signal(t, syscall.SIGKILL)
	_ = d.cmd.Wait() // it says that it was killed
	d.cmd = nil
}

// WaitLog waits for a line of Dovecot's log that pattern matches, and returns
// the pattern's submatches.
func (d *realDovecot) WaitLog(t *testing.T, pattern string) []string {
	t.Helper()
	return realWaitLog(t, d.log, pattern)
}

// Log returns what Dovecot has logged so far.
func (d *realDovecot) Log(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(d.log)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

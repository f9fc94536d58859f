package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"imapgate/proxy/proxytest"
)

// manager is a service manager, as far as it is told things. See sd_notify(3).
type manager struct{ *net.UnixConn }

func newManager(t *testing.T) *manager {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return &manager{c}
}

// expect reads messages up to one that begins with prefix, which is all that is
// told but keep-alives.
func (m *manager) expect(t *testing.T, prefix string) string {
	t.Helper()
	buf := make([]byte, 4096)
	_ = m.SetReadDeadline(time.Now().Add(patience))
	for {
		n, err := m.Read(buf)
		if err != nil {
			t.Fatalf("%s: %v", prefix, err)
		}
		switch got := string(buf[:n]); {
		case strings.HasPrefix(got, prefix):
			return got
		case got != "WATCHDOG=1":
			t.Fatalf("told %q, want %q", got, prefix)
		}
	}
}

func TestTheServiceManagerIsTold(t *testing.T) {
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	p := newPlant(t)
	proc := p.serving(t)
	m.expect(t, "READY=1")
	m.expect(t, "WATCHDOG=1")
	proc.signal(t, syscall.SIGHUP)
	if told := m.expect(t, "RELOADING=1"); !strings.HasPrefix(told, "RELOADING=1\nMONOTONIC_USEC=") {
		t.Errorf("told %q", told)
	}
	m.expect(t, "READY=1")
	p.writeTable(t, "alice@example.org nowhere\n")
	proc.signal(t, syscall.SIGHUP)
	m.expect(t, "RELOADING=1")
	m.expect(t, "READY=1") // a reload that is refused is over too
	proc.signal(t, syscall.SIGTERM)
	m.expect(t, "STOPPING=1")
	if code := proc.waitExit(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// TestSocketsOfTheServiceManagerAreTaken starts imapgate with the sockets that a
// service manager has opened. A shell in between learns the process ID, which has
// to be in the environment.
func TestSocketsOfTheServiceManagerAreTaken(t *testing.T) {
	p := newAdminPlant(t, "")
	p.listen = []string{proxytest.FreeAddress(t), proxytest.FreeAddress(t)}
	p.writeConfig(t)
	var files []*os.File
	for _, address := range []string{p.listen[0], proxytest.FreeAddress(t)} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		f, err := duplicate(l)
		if err != nil {
			t.Fatal(err)
		}
		_ = l.Close()
		files = append(files, f)
	}
	socket, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(p.dir, "admin.sock"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	socket.SetUnlinkOnClose(false)
	f, err := socket.File()
	if err != nil {
		t.Fatal(err)
	}
	_ = socket.Close()
	files = append(files, f)

	cmd := exec.Command("/bin/sh", "-c", `LISTEN_PID=$$ exec "$0" "$@"`, os.Args[0], "serve", "-c", p.path())
	cmd.Env = append(os.Environ(), fmt.Sprintf("LISTEN_FDS=%d", len(files)))
	cmd.ExtraFiles = files
	proc := startCommand(t, cmd)
	for _, f := range files {
		_ = f.Close()
	}
	proc.waitLine(t, "a socket that was handed over is closed: the configuration has no such listener")
	proc.waitLine(t, "listening")
	proc.waitLine(t, "listening")
	login(t, p.listen[0], "alice@example.org")
	login(t, p.listen[1], "alice@example.org")
	if !strings.Contains(p.ask(t, "status"), "2 of 1 user") {
		t.Error("the API does not know of the sessions")
	}
	proc.signal(t, syscall.SIGTERM)
	if code := proc.waitExit(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "admin.sock")); err != nil {
		t.Errorf("the service manager's socket: %v", err) // it is its own to remove
	}
}

func TestSIGTERMSaysNotReadyBeforeItStopsAccepting(t *testing.T) {
	address := proxytest.FreeAddress(t)
	p := newAdminPlant(t, fmt.Sprintf(", http: %q", address))
	p.tail += "shutdown: {timeout: 2h, drain_delay: 1h}\n"
	p.writeConfig(t)
	proc := p.serving(t)
	proc.signal(t, syscall.SIGTERM)
	proc.waitLine(t, "not ready any more, still accepting")
	if code, body := fetch(t, address, "/readyz", ""); code != http.StatusServiceUnavailable {
		t.Errorf("readyz: %d %s", code, body)
	}
	session := login(t, p.listen[0], "alice@example.org")
	if reply := session.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
		t.Errorf("the session: %s", reply)
	}
	tick := time.NewTicker(sameSignal) // the first moments count as the same signal
	defer tick.Stop()
	exited := make(chan int)
	go func() { exited <- proc.waitExit(t) }()
	for {
		select {
		case <-tick.C:
			_ = proc.cmd.Process.Signal(syscall.SIGTERM)
		case code := <-exited:
			if code != exitFailed {
				t.Errorf("exit code %d", code)
			}
			return
		}
	}
}

func TestSIGTERMEndsSessionsOneByOne(t *testing.T) {
	p := newAdminPlant(t, "")
	p.tail = strings.Replace(p.tail, "close_spread: 1ms", "close_spread: 1h", 1) + "shutdown: {timeout: 2h}\n"
	p.writeConfig(t)
	proc := p.serving(t)
	first := login(t, p.listen[0], "alice@example.org")
	second := login(t, p.listen[0], "alice@example.org")
	proc.signal(t, syscall.SIGTERM)
	first.expect(t, "* BYE [UNAVAILABLE] ")
	if reply := second.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") { // its turn comes in half an hour
		t.Errorf("the second session: %s", reply)
	}
	_ = second.Close()
	if code := proc.waitExit(t); code != exitOK { // nobody is left to wait for
		t.Errorf("exit code %d", code)
	}
}

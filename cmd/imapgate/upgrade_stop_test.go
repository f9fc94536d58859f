package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// ready are the words of a program of the shell's with which it says that it is ready.
const ready = `echo '{"ready":{"version":"shell"}}' >&3` + "\n"

// TestAReloadDuringAnUpgradeIsRefused has a new program that hangs. A reload here would
// be lost once the new process serves, which has read the files before.
func TestAReloadDuringAnUpgradeIsRefused(t *testing.T) {
	p := install(t)
	proc := p.serving(t)
	dir := t.TempDir()
	p.script(t, "cd "+dir+"\nwhile [ ! -e enough ]; do sleep 0.1; done")
	proc.signal(t, syscall.SIGUSR2)
	proc.waitLine(t, "upgrade: starting a new process")
	for _, args := range [][]string{{"reload"}, {"upgrade", "--if-changed"}} {
		code, _, stderr := command(t, append(args, "-c", p.path())...)
		if code != exitFailed || !strings.Contains(stderr, "an upgrade is under way") {
			t.Errorf("%s: exit code %d: %s", args, code, stderr)
		}
	}
	proc.signal(t, syscall.SIGHUP)
	for by := any(nil); by != sigHUP; {
		by = proc.waitLine(t, "not reloaded")["by"]
	}
	if s := p.status(t); s.Reload == nil || s.Reload.OK || s.Reload.By != sigHUP {
		t.Errorf("the last reload: %+v", s.Reload)
	}
	writeFiles(t, dir, map[string]string{"enough": ""})
	proc.waitLine(t, "not upgraded, this process serves on")
	p.ask(t, "reload")
}

// refuses says that nobody listens at an address, not even a process that does not accept.
func refuses(t *testing.T, address string) {
	t.Helper()
	if conn, err := net.DialTimeout("tcp", address, patience); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("somebody still listens: %v", err)
		if err == nil {
			_ = conn.Close()
		}
	}
}

// TestSIGTERMStopsANewProcessThatIsNotReady has a new program that hangs, and has started
// another one that outlives it and keeps its standard error.
func TestSIGTERMStopsANewProcessThatIsNotReady(t *testing.T) {
	p := install(t)
	proc := p.serving(t)
	session := login(t, p.listen[0], "alice@example.org")
	started := filepath.Join(t.TempDir(), "started")
	p.script(t, "sleep 60 3<&- 4<&- 5<&- 6<&- 7<&- &\ntouch "+started+"\nwait")
	proc.signal(t, syscall.SIGUSR2)
	await(t, started)
	proc.signal(t, syscall.SIGTERM)
	session.expect(t, "* BYE [UNAVAILABLE] ")
	if code := proc.waitExit(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	refuses(t, p.listen[0])
}

// TestSIGTERMAsTheNewProcessBecomesReady holds up the old process, which tells a service
// manager that does not listen that it is alive, until both have come.
func TestSIGTERMAsTheNewProcessBecomesReady(t *testing.T) {
	m := newManager(t)
	t.Setenv("WATCHDOG_USEC", "2000")
	p := install(t)
	p.extra = "  dead: {address: \"127.0.0.1:1\", tls: none, warm: 0}\n"
	p.tail += "health: {interval: 1h, rise: 1, fall: 1}\n"
	p.writeConfig(t)
	proc := p.serving(t)
	m.expect(t, "READY=1")
	listening := make(chan struct{})
	var deaf atomic.Bool
	go func() {
		defer close(listening)
		for buf := make([]byte, 4096); !deaf.Load(); {
			_, _ = m.Read(buf)
		}
	}()
	session := login(t, p.listen[0], "alice@example.org")
	start := filepath.Join(t.TempDir(), "start")
	p.script(t, "while [ ! -e "+start+" ]; do sleep 0.1; done\nexec "+os.Args[0]+` "$@"`)
	proc.signal(t, syscall.SIGUSR2)
	proc.waitLine(t, "upgrade: starting a new process")
	deaf.Store(true)
	<-listening
	m.fill(t)
	writeFiles(t, filepath.Dir(start), map[string]string{"start": ""})
	proc.waitLine(t, "backend down") // in the new process, just before it is ready
	proc.signal(t, syscall.SIGTERM)
	<-time.After(time.Second)
	go func() {
		for buf := make([]byte, 4096); ; {
			if _, err := m.Read(buf); err != nil {
				return
			}
		}
	}()
	if pid := proc.waitLine(t, "took over from an old process")["pid"]; pid != float64(proc.cmd.Process.Pid) {
		t.Errorf("took over from %v", pid)
	}
	now := p.status(t)
	t.Cleanup(func() { _ = syscall.Kill(now.PID, syscall.SIGKILL) })
	session.expect(t, "* BYE [UNAVAILABLE] ")
	proc.waitLine(t, "the old process has ended")
	if reply := login(t, p.listen[0], "alice@example.org").do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
		t.Errorf("a session in the new process: %s", reply)
	}
}

// fill makes the next one who tells something wait.
func (m *manager) fill(t *testing.T) {
	t.Helper()
	c, err := net.Dial("unixgram", m.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for err == nil {
		_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
		_, err = c.Write([]byte("WATCHDOG=1"))
	}
}

// TestSIGTERMDuringTheHandOver comes after the new process has said that it is ready, and
// before it says that it serves.
func TestSIGTERMDuringTheHandOver(t *testing.T) {
	h := terminateInHandOver(t, `echo '{"serving":true}' >&3
while read told <&3; do :; done # until the old process is gone
touch alone
`)
	h.ends(t, "a new process serves, the sessions here live on")
	await(t, filepath.Join(h.dir, "alone"))
}

// TestSIGTERMDuringAHandOverThatFails has a new process that never serves.
func TestSIGTERMDuringAHandOverThatFails(t *testing.T) {
	h := terminateInHandOver(t, "")
	h.ends(t, "not upgraded, this process serves on")
	refuses(t, h.listen[0])
}

// handedOver is an old process that was told to stop while it handed over.
type handedOver struct {
	*installed
	proc    *process
	session *client
	dir     string // where the new program is
}

// terminateInHandOver sends SIGTERM to an old process once the new one takes over. That
// one is a program of the shell's, which goes on afterwards as it is told to.
func terminateInHandOver(t *testing.T, afterwards string) *handedOver {
	t.Helper()
	p := install(t)
	proc := p.serving(t)
	h := &handedOver{p, proc, login(t, p.listen[0], "alice@example.org"), t.TempDir()}
	p.script(t, ready+"cd "+h.dir+`
read told <&3
touch taking
while [ ! -e signalled ]; do sleep 0.1; done
`+afterwards)
	proc.signal(t, syscall.SIGUSR2)
	await(t, filepath.Join(h.dir, "taking"))
	proc.signal(t, syscall.SIGTERM)
	writeFiles(t, h.dir, map[string]string{"signalled": ""})
	return h
}

// ends waits for the old process's end, before which it logs a message.
func (h *handedOver) ends(t *testing.T, message string) {
	t.Helper()
	h.proc.waitLine(t, message)
	h.session.expect(t, "* BYE [UNAVAILABLE] ")
	if code := h.proc.waitExit(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// await waits until a file is there.
func await(t *testing.T, path string) {
	t.Helper()
	eventually(t, func() error {
		_, err := os.Stat(path)
		return err
	})
}

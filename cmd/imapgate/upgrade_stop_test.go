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
	p := install(t)
	proc := p.serving(t)
	session := login(t, p.listen[0], "alice@example.org")
	dir := t.TempDir()
	p.script(t, ready+"cd "+dir+`
read told <&3
touch taking
while [ ! -e signalled ]; do sleep 0.1; done
echo '{"serving":true}' >&3
while read told <&3; do :; done # until the old process is gone
touch alone
`)
	proc.signal(t, syscall.SIGUSR2)
	await(t, filepath.Join(dir, "taking"))
	proc.signal(t, syscall.SIGTERM)
	writeFiles(t, dir, map[string]string{"signalled": ""})
	proc.waitLine(t, "a new process serves, the sessions here live on")
	session.expect(t, "* BYE [UNAVAILABLE] ")
	if code := proc.waitExit(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	await(t, filepath.Join(dir, "alone"))
}

// TestSIGTERMDuringAHandOverThatFails has a new process that never serves.
func TestSIGTERMDuringAHandOverThatFails(t *testing.T) {
	p := install(t)
	proc := p.serving(t)
	session := login(t, p.listen[0], "alice@example.org")
	dir := t.TempDir()
	p.script(t, ready+"cd "+dir+`
read told <&3
touch taking
while [ ! -e signalled ]; do sleep 0.1; done
`)
	proc.signal(t, syscall.SIGUSR2)
	await(t, filepath.Join(dir, "taking"))
	proc.signal(t, syscall.SIGTERM)
	writeFiles(t, dir, map[string]string{"signalled": ""})
	proc.waitLine(t, "not upgraded, this process serves on")
	session.expect(t, "* BYE [UNAVAILABLE] ")
	if code := proc.waitExit(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
	refuses(t, p.listen[0])
}

// await waits until a file is there.
func await(t *testing.T, path string) {
	t.Helper()
	timeout := time.After(patience)
	for {
		if _, err := os.Stat(path); err == nil {
			return
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-timeout:
			t.Fatalf("%s never came", filepath.Base(path))
		}
	}
}

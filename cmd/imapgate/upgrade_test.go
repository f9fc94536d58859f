package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"imapgate/cmd/imapgate/internal/admin"
)

// installed is an imapgate that is run by a link, so that what it links to can be
// replaced.
type installed struct {
	*plant
	link string
}

func install(t *testing.T) *installed {
	t.Helper()
	p := &installed{plant: newAdminPlant(t, ""), link: filepath.Join(t.TempDir(), "imapgate")}
	p.program(t, os.Args[0])
	return p
}

// program installs another program.
func (p *installed) program(t *testing.T, path string) {
	t.Helper()
	next := p.link + ".new"
	if err := os.Symlink(path, next); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, p.link); err != nil {
		t.Fatal(err)
	}
}

// script installs a program of the shell's.
func (p *installed) script(t *testing.T, text string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	p.program(t, path)
}

func (p *installed) serving(t *testing.T) *process {
	t.Helper()
	proc := startProgram(t, p.link, "serve", "-c", p.path())
	for range p.listen {
		proc.waitLine(t, "listening")
	}
	return proc
}

// upgrade upgrades, and ends the new process with the test if it still runs.
func (p *installed) upgrade(t *testing.T) admin.Upgraded {
	t.Helper()
	var u admin.Upgraded
	if err := json.Unmarshal([]byte(p.ask(t, "upgrade", "-o", "json")), &u); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(u.PID, syscall.SIGKILL) })
	return u
}

func (p *plant) status(t *testing.T) admin.Status {
	t.Helper()
	var s fullStatus
	if err := json.Unmarshal([]byte(p.ask(t, "status", "-o", "json")), &s); err != nil {
		t.Fatal(err)
	}
	return s.Status
}

func TestUpgradeHandsEverythingOver(t *testing.T) {
	p := install(t)
	p.writeTable(t, "alice@example.org mail1\npinned@example.org mail2\n")
	proc := p.serving(t)
	p.ask(t, "drain", "mail2", "--why", "disks", "--deadline", "2h")
	p.ask(t, "pin", "pinned@example.org", "mail1")
	session := login(t, p.listen[0], "alice@example.org")
	waiting, err := connect(t, p.listen[0], 0) // has not logged in yet
	if err != nil {
		t.Fatal(err)
	}

	u := p.upgrade(t)
	if u.OldPID != proc.cmd.Process.Pid || u.PID == u.OldPID || u.Sessions != 1 || u.KeepSeconds != 24*3600 {
		t.Errorf("upgraded: %+v", u)
	}
	if s := p.status(t); s.PID != u.PID || s.Sessions != 1 || s.Older == nil || s.Older.PID != u.OldPID || s.Older.Sessions != 1 ||
		s.Overrides.Admin != 1 || s.Overrides.Pin != 1 || !s.Ready {
		t.Errorf("status: %+v, older: %+v", s, s.Older)
	}
	if out := p.ask(t, "backends", "-o", "json"); !strings.Contains(out, `"deadline":`) {
		t.Errorf("the drain has lost its deadline: %s", out)
	}

	// All clients go on: who was logged in, who was not, who comes now.
	if reply := session.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
		t.Errorf("the session: %s", reply)
	}
	if reply := waiting.do(t, "LOGIN alice@example.org "+demoPassword); !strings.HasPrefix(reply, "t OK") {
		t.Errorf("the connection: %s", reply)
	}
	login(t, p.listen[0], "alice@example.org")
	if out := p.ask(t, "who"); strings.Count(out, "alice@example.org") != 3 || strings.Count(out, fmt.Sprint(u.OldPID)) != 2 {
		t.Errorf("who:\n%s", out)
	}

	// The new process ends sessions of the old one, which then goes.
	if out := p.ask(t, "kick", "alice@example.org"); !strings.HasPrefix(out, "3 sessions") {
		t.Errorf("kick: %s", out)
	}
	session.expect(t, "* BYE [UNAVAILABLE] ")
	waiting.expect(t, "* BYE [UNAVAILABLE] ")
	proc.waitLine(t, "the old process has ended")
	if s := p.status(t); s.Older != nil || s.Sessions != 0 {
		t.Errorf("status: %+v", s)
	}
	if err := syscall.Kill(u.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	proc.waitLine(t, "shut down")
	if code := proc.waitExit(t); code != exitOK { // that of the old process, when both are gone
		t.Errorf("exit code %d", code)
	}
	if _, err := os.Stat(filepath.Join(p.dir, "admin.sock")); err == nil {
		t.Error("the last process has left its socket")
	}
}

func TestUpgradeToWhatCannotServeChangesNothing(t *testing.T) {
	p := install(t)
	proc := p.serving(t)
	session := login(t, p.listen[0], "alice@example.org")
	good, err := os.ReadFile(p.path())
	if err != nil {
		t.Fatal(err)
	}
	for _, broken := range []struct {
		name string
		do   func()
		want []string
	}{
		{"missing", func() { p.program(t, "/nowhere") }, []string{"no such file or directory"}},
		{"no program", func() { p.program(t, p.path()) }, []string{"permission denied"}},
		{"another program", func() { p.script(t, "exit 0") }, []string{"the new process ended before it served (exit status 0)"}},
		{"crash", func() { p.script(t, "echo 'panic: boom' >&2; kill -SEGV $$") }, []string{"(signal: segmentation fault", "panic: boom"}},
		{"bad configuration", func() {
			p.program(t, os.Args[0])
			writeFiles(t, p.dir, map[string]string{"imapgate.yaml": strings.Replace(string(good), "tls: starttls", "tls: startls", 1)})
		}, []string{"the new process gave up", `did you mean "starttls"?`}},
		{"port in use", func() {
			taken := p.backends.address("mail1")
			writeFiles(t, p.dir, map[string]string{"imapgate.yaml": strings.Replace(string(good), "listen:\n", "listen:\n  - {address: \""+taken+"\", tls: implicit}\n", 1)})
		}, []string{"the new process gave up", "address already in use"}},
		{"state that cannot be read", func() {
			writeFiles(t, p.dir, map[string]string{"imapgate.yaml": string(good), "overrides.json": "{"})
		}, []string{"the new process gave up", "state_dir cannot be used"}},
	} {
		broken.do()
		code, _, stderr := command(t, "upgrade", "-c", p.path())
		if code != exitFailed {
			t.Errorf("%s: exit code %d", broken.name, code)
		}
		for _, want := range append(broken.want, "not upgraded, the old process serves on") {
			if !strings.Contains(stderr, want) {
				t.Errorf("%s: no %q in:\n%s", broken.name, want, stderr)
			}
		}
		failed := proc.waitLine(t, "not upgraded, this process serves on")
		if !strings.Contains(fmt.Sprint(failed["error"]), broken.want[0]) {
			t.Errorf("%s: logged %v", broken.name, failed["error"])
		}
		if reply := session.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
			t.Errorf("%s: the session: %s", broken.name, reply)
		}
		login(t, p.listen[0], "alice@example.org").Close()
		p.ask(t, "pin", "alice@example.org", "mail1") // changes are taken again
	}

	// And then it works, by a signal too.
	p.program(t, os.Args[0])
	if out := p.ask(t, "upgrade", "--if-changed"); !strings.HasPrefix(out, "the program has not changed; reloaded") {
		t.Errorf("--if-changed: %s", out)
	}
	proc.signal(t, syscall.SIGUSR2)
	proc.waitLine(t, "a new process serves, the sessions here live on") // and the old API is gone
	now := p.status(t)
	t.Cleanup(func() { _ = syscall.Kill(now.PID, syscall.SIGKILL) })
	if now.PID == proc.cmd.Process.Pid || now.Overrides.Pin != 1 {
		t.Errorf("status: %+v", now)
	}
}

func TestOldProcessEndsItsSessionsWhenTheNewOneIsGone(t *testing.T) {
	p := install(t)
	proc := p.serving(t)
	session := login(t, p.listen[0], "alice@example.org")
	u := p.upgrade(t)
	if err := syscall.Kill(u.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	session.expect(t, "* BYE [UNAVAILABLE] ")
	if code := proc.waitExit(t); code != exitOK || !proc.logged("the new process is gone") {
		t.Errorf("exit code %d", code)
	}
}

func TestOldProcessKeepsSessionsForDrainTimeout(t *testing.T) {
	p := install(t)
	p.tail += "shutdown: {drain_timeout: 1ms}\n"
	p.writeConfig(t)
	proc := p.serving(t)
	session := login(t, p.listen[0], "alice@example.org")
	p.upgrade(t)
	session.expect(t, "* BYE [UNAVAILABLE] ")
	proc.waitLine(t, "the old process has ended")
}

func TestUpgradesInARowKnowOfAllSessions(t *testing.T) {
	p := install(t)
	m := newManager(t)
	proc := p.serving(t)
	m.expect(t, "READY=1")
	var all []*client
	var last admin.Upgraded
	for i := range 3 {
		all = append(all, login(t, p.listen[0], "alice@example.org"))
		last = p.upgrade(t)
		if told, want := m.expect(t, "READY=1\nMAINPID="), fmt.Sprintf("READY=1\nMAINPID=%d", last.PID); told != want {
			t.Errorf("told %q, want %q", told, want)
		}
		if s := p.status(t); s.Sessions != i+1 || s.PID != last.PID {
			t.Errorf("upgrade %d: %+v", i, s)
		}
	}
	for _, c := range all {
		if reply := c.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
			t.Errorf("a session: %s", reply)
		}
	}
	if out := p.ask(t, "kick", "alice@example.org"); !strings.HasPrefix(out, "3 sessions") {
		t.Errorf("kick: %s", out)
	}
	for _, c := range all {
		c.expect(t, "* BYE ")
	}
	for range 3 {
		proc.waitLine(t, "the old process has ended")
	}
	if s := p.status(t); s.Sessions != 0 || s.Older != nil {
		t.Errorf("at the end: %+v", s)
	}
}

// TestAClientOfTheOldestOfThreeProcessesLogsIn has a client who connected before two
// upgrades: the process in between, that the oldest one asks, has nobody of its own who
// could still log in, and keeps its table for those.
func TestAClientOfTheOldestOfThreeProcessesLogsIn(t *testing.T) {
	p := install(t)
	p.serving(t)
	waiting, err := connect(t, p.listen[0], 0)
	if err != nil {
		t.Fatal(err)
	}
	between := p.upgrade(t)
	session := login(t, p.listen[0], "alice@example.org") // in the process between
	p.upgrade(t)
	<-time.After(2 * forgetInterval)
	if reply := waiting.do(t, "LOGIN alice@example.org "+demoPassword); !strings.HasPrefix(reply, "t OK") {
		t.Errorf("the client of the oldest process: %s", reply)
	}
	if reply := session.do(t, "NOOP"); !strings.HasPrefix(reply, "t OK") {
		t.Errorf("the session of process %d: %s", between.PID, reply)
	}
}

// TestALoginDoesNotWaitForANewProcessThatStandsStill has a client of the old process log
// in while the new one cannot answer: that takes no longer than any login, and what the
// new one grants afterwards is given back.
func TestALoginDoesNotWaitForANewProcessThatStandsStill(t *testing.T) {
	p := install(t)
	p.tail += "login: {connect_timeout: 1s, backend_timeout: 1s}\n"
	p.writeConfig(t)
	p.serving(t)
	waiting, err := connect(t, p.listen[0], 0)
	if err != nil {
		t.Fatal(err)
	}
	u := p.upgrade(t)
	standStill(t, u.PID)
	if reply := waiting.do(t, "LOGIN alice@example.org "+demoPassword); !strings.HasPrefix(reply, "t NO [UNAVAILABLE]") {
		t.Errorf("the new process stands still: %s", reply)
	}
	if err := syscall.Kill(u.PID, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if reply := waiting.do(t, "LOGIN alice@example.org "+demoPassword); !strings.HasPrefix(reply, "t OK") {
		t.Errorf("the new process goes on: %s", reply)
	}
	eventually(t, func() error {
		if s := p.status(t); s.Older == nil || s.Older.Sessions != 1 {
			return fmt.Errorf("counted for the old process: %+v", s.Older)
		}
		return nil
	})
}

// standStill stops a process and waits until all of its threads have stopped, which they
// have not when the signal is sent. Without /proc nobody can tell.
func standStill(t *testing.T, pid int) {
	t.Helper()
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		for _, path := range threads {
			stat, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			// The state stands behind the name, which is in parentheses.
			if _, state, _ := strings.Cut(string(stat), ") "); !strings.HasPrefix(state, "T") {
				return fmt.Errorf("%s: not stopped: %s", path, stat)
			}
		}
		return err
	})
}

// TestAUserWhoComesBackIsFreedFromADeadBackend has a session in the old process, at a
// backend that dies: the user's next login, in the new one, does not wait for it.
func TestAUserWhoComesBackIsFreedFromADeadBackend(t *testing.T) {
	p := install(t)
	both := &halls{where: make(map[string]*hall), count: make(map[string]int)}
	h1, h2 := both.open(t, "h1"), both.open(t, "h2")
	p.extra = fmt.Sprintf("  h1: {address: %q, tls: none, warm: 0}\n  h2: {address: %q, tls: none, warm: 0}\npools: {halls: {backends: [h1, h2], shared: true}}\n", h1.Addr(), h2.Addr())
	p.tail += "health: {interval: 20ms, rise: 1, fall: 1}\n"
	p.writeTable(t, "@example.org halls\n")
	p.writeConfig(t)
	proc := p.serving(t)
	session := login(t, p.listen[0], "alice@example.org")
	p.upgrade(t)
	at := p.route(t, "alice@example.org").Backend
	dead, alive := h1, h2
	if at == "h2" {
		dead, alive = h2, h1
	}
	_ = dead.Close() // nobody new gets there; who is there hears nothing
	for down := proc.waitLine(t, "backend down"); down["backend"] != at; {
		down = proc.waitLine(t, "backend down")
	}
	login(t, p.listen[0], "alice@example.org")
	session.expect(t, "* BYE [UNAVAILABLE] ")
	if at := p.route(t, "alice@example.org").Backend; at != alive.name {
		t.Errorf("alice is at %s", at)
	}
}

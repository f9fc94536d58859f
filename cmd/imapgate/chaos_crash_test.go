package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// supervised starts imapgate as a shell that starts it again for as long as it fails,
// which is as little as a supervisor can be.
func (p *installed) supervised(t *testing.T) *process {
	t.Helper()
	const supervisor = `starts=1
until "$0" "$@"; do
	test $starts -lt 5 || exit 1
	starts=$((starts + 1))
done`
	cmd := exec.Command("sh", "-c", supervisor, p.link, "serve", "-c", p.path())
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	proc := startCommand(t, cmd)
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
	})
	for range p.listen {
		proc.waitLine(t, "listening")
	}
	return proc
}

// TestChaosCrash kills imapgate under load, while its table is a bad one. A supervisor
// that knows nothing of this test starts it again.
func TestChaosCrash(t *testing.T) {
	c, supervisor := newCrowd(t, (*installed).supervised)
	c.ask(t, "drain", "mail2", "--why", "disks")
	c.ask(t, "hold", "idle0@example.org")
	c.writeTable(t, "@example.org nowhere\n")
	supervisor.waitLine(t, "table not reloaded, the old one stays")
	c.pass(t)
	first := c.status(t).PID
	killed := time.Now()
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, func() error {
		s, err := c.login("user1@example.org")
		if err == nil {
			_ = s.Close()
		}
		return err
	})
	after := time.Since(killed)
	t.Logf("killed under load, the first login %s after, at most 1s is promised", after)
	if fullSize() && after > time.Second {
		t.Error("that is too long")
	}
	now := c.status(t)
	if now.PID == first {
		t.Error("it was not killed")
	}
	if now.Overrides.Admin != 1 || now.Overrides.Hold != 1 || now.Overrides.Error != "" {
		t.Errorf("overrides: %+v", now.Overrides)
	}
	if now.Reload == nil || now.Reload.OK || !strings.Contains(strings.Join(now.Reload.Errors, " "), "nowhere") {
		t.Errorf("the bad table is not told of: %+v", now.Reload)
	}
	before := c.succeeded()
	c.pass(t) // they never stopped
	if c.succeeded() == before {
		t.Error("nobody else has logged in since")
	}
	close(c.stop)
	c.wg.Wait()
	c.writeTable(t, "@example.org halls\nalice@example.org mail1\n")
	for {
		if reloaded := supervisor.waitLine(t, "table reloaded"); reloaded["rows"] == 2.0 {
			break
		}
	}
	left, err := filepath.Glob(filepath.Join(c.dir, ".*.tmp"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := syscall.Kill(now.PID, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if code := supervisor.waitExit(t); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

// succeeded returns how many logins of the churn have.
func (c *crowd) succeeded() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.took)
}

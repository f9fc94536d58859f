package main_test

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"testing"
	"time"
)

// realPatience bounds each wait for something that is about to happen.
const realPatience = 30 * time.Second

// realTool finds a program that a test needs. In CI a missing one fails the
// test, elsewhere it is skipped with advice.
func realTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/usr/local/sbin"} { // seldom in an ordinary user's PATH
		if path, err = exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	text := name + " is not installed: run `make test`, which installs what the tests need where it can"
	if os.Getenv("CI") == "true" {
		t.Fatal(text)
	}
	t.Skip(text)
	return ""
}

func realAddr(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

// realTerminate ends a process that a test started: politely, then for good.
func realTerminate(cmd *exec.Cmd) error {
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	force := time.AfterFunc(realPatience, func() { _ = cmd.Process.Kill() })
	defer force.Stop()
	return cmd.Wait()
}

// realListening waits until something accepts connections at addr.
func realListening(t *testing.T, addr string) bool {
	t.Helper()
	return realEventually(t, func() bool {
		conn, err := net.DialTimeout("tcp", addr, time.Second)
		if err != nil {
			return false
		}
		conn.Close()
		return true
	})
}

// realEventually asks again and again until ok says yes or patience ends.
func realEventually(t *testing.T, ok func() bool) bool {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), realPatience)
	defer cancel()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			return false
		case <-tick.C:
		}
	}
	return true
}

func realWaitLog(t *testing.T, file, pattern string) (match []string) {
	t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	found := realEventually(t, func() bool {
		text, err := os.ReadFile(file)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		match = re.FindStringSubmatch(string(text))
		return match != nil
	})
	if !found {
		t.Fatalf("%s has no line like %q", file, pattern)
	}
	return match
}

// realTail returns the end of a file, for messages.
func realTail(file string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	return string(text[max(0, len(text)-16<<10):])
}

func writeRealFile(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

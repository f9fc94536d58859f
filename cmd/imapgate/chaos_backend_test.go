package main_test

import (
	"os"
	"os/exec"
	"syscall"
	"testing"
)

// chaosBackendVariable makes the test binary a proxytest.Plain that listens on the
// address the variable names. See TestMain.
const chaosBackendVariable = "IMAPGATE_TEST_BACKEND"

// chaosBackend is such a server in a process of its own, so that it can be
// stopped, killed, and cut off.
type chaosBackend struct {
	Address string
	command func() *exec.Cmd
	cmd     *exec.Cmd
}

func startChaosBackend(t *testing.T, address string, wrap ...string) *chaosBackend {
	t.Helper()
	b := &chaosBackend{Address: address, command: func() *exec.Cmd {
		words := append(wrap, os.Args[0])
		cmd := exec.Command(words[0], words[1:]...)
		cmd.Env = append(os.Environ(), chaosBackendVariable+"="+address)
		cmd.Stderr = os.Stderr
		return cmd
	}}
	b.Start(t)
	t.Cleanup(b.Kill)
	return b
}

// Start starts it anew.
func (b *chaosBackend) Start(t *testing.T) {
	t.Helper()
	b.cmd = b.command()
	if err := b.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if !realListening(t, b.Address) {
		t.Fatalf("the backend does not listen on %s", b.Address)
	}
}

// Kill ends it as a crash would.
func (b *chaosBackend) Kill() {
	if b.cmd.ProcessState == nil {
		_ = b.cmd.Process.Signal(syscall.SIGCONT)
		_ = b.cmd.Process.Kill()
		_ = b.cmd.Wait()
	}
}

func (b *chaosBackend) Signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := b.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

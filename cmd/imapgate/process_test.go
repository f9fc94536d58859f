package main

import (
	"bufio"
	"crypto/tls"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience bounds every wait of these tests; only failures take that long.
const patience = 30 * time.Second

// process is imapgate in a process of its own.
type process struct {
	cmd   *exec.Cmd
	lines chan string // of standard error, closed at its end
	seen  []string    // those that were read
}

// startProcess runs a command line, and kills it with the test if it still runs.
func startProcess(t *testing.T, args ...string) *process {
	t.Helper()
	return startProgram(t, os.Args[0], args...)
}

// startProgram is startProcess with another name of this test binary.
func startProgram(t *testing.T, path string, args ...string) *process {
	t.Helper()
	return startCommand(t, exec.Command(path, args...))
}

// startCommand starts a command that becomes imapgate.
func startCommand(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, runVariable+"=1")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, lines: make(chan string, 10_000)}
	go func() {
		defer close(p.lines)
		for scan := bufio.NewScanner(stderr); scan.Scan(); {
			p.lines <- scan.Text()
		}
	}()
	t.Cleanup(func() {
		if cmd.ProcessState == nil {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
		if t.Failed() {
			for more := true; more; { // what has come by now
				select {
				case line, ok := <-p.lines:
					p.seen, more = append(p.seen, line), ok
				default:
					more = false
				}
			}
			t.Logf("the log:\n%s", strings.Join(p.seen, "\n"))
		}
	})
	return p
}

// waitLine returns the next log line with one of the messages, as its fields.
func (p *process) waitLine(t *testing.T, messages ...string) map[string]any {
	t.Helper()
	timeout := time.After(patience)
	for {
		select {
		case line, ok := <-p.lines:
			if !ok {
				t.Fatalf("ended before it logged %q", messages)
			}
			p.seen = append(p.seen, line)
			fields := make(map[string]any)
			if json.Unmarshal([]byte(line), &fields) == nil && slices.ContainsFunc(messages, func(m string) bool { return fields["msg"] == m }) {
				return fields
			}
		case <-timeout:
			t.Fatalf("%q was not logged", messages)
		}
	}
}

// waitExit reads the rest of the log and returns the exit code.
func (p *process) waitExit(t *testing.T) int {
	t.Helper()
	force := time.AfterFunc(patience, func() { _ = p.cmd.Process.Kill() })
	defer force.Stop()
	for line := range p.lines {
		p.seen = append(p.seen, line)
	}
	var exit *exec.ExitError
	if err := p.cmd.Wait(); err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return p.cmd.ProcessState.ExitCode()
}

func (p *process) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// logged says whether a line with the text was read.
func (p *process) logged(text string) bool {
	return strings.Contains(strings.Join(p.seen, "\n"), text)
}

// client is one IMAP connection.
type client struct {
	net.Conn
	in *bufio.Reader
}

// connect opens a TLS connection and reads the greeting.
func connect(t *testing.T, address string, maxVersion uint16) (*client, error) {
	t.Helper()
	conf := &tls.Config{InsecureSkipVerify: true, MaxVersion: maxVersion}
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: patience}, "tcp", address, conf)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { conn.Close() })
	c := &client{Conn: conn, in: bufio.NewReader(conn)}
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		return nil, err
	}
	c.expect(t, "* OK ")
	return c, nil
}

// dialClear opens a connection without TLS.
func dialClear(t *testing.T, address string) *client {
	t.Helper()
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return &client{Conn: conn, in: bufio.NewReader(conn)}
}

// line reads one line.
func (c *client) line(t *testing.T) string {
	t.Helper()
	line, err := c.in.ReadString('\n')
	if err != nil {
		t.Fatalf("read: %v", err)
	}
	return strings.TrimRight(line, "\r\n")
}

// expect reads a line that begins with prefix.
func (c *client) expect(t *testing.T, prefix string) {
	t.Helper()
	if line := c.line(t); !strings.HasPrefix(line, prefix) {
		t.Fatalf("got %q, want %q", line, prefix)
	}
}

// do sends a command and reads up to its tagged response.
func (c *client) do(t *testing.T, command string) string {
	t.Helper()
	if _, err := c.Write([]byte("t " + command + "\r\n")); err != nil {
		t.Fatal(err)
	}
	for {
		if line := c.line(t); strings.HasPrefix(line, "t ") {
			return line
		}
	}
}

// login connects and logs in.
func login(t *testing.T, address, user string) *client {
	t.Helper()
	c, err := connect(t, address, 0)
	if err != nil {
		t.Fatal(err)
	}
	if reply := c.do(t, "LOGIN "+user+" "+demoPassword); !strings.HasPrefix(reply, "t OK") {
		t.Fatalf("login of %s: %s", user, reply)
	}
	return c
}

// eventually asks again and again until there is no error any more, and fails with the
// last one when that takes too long.
func eventually(t *testing.T, ask func() error) {
	t.Helper()
	timeout := time.After(patience)
	for err := ask(); err != nil; err = ask() {
		select {
		case <-time.After(time.Millisecond):
		case <-timeout:
			t.Fatal(err)
		}
	}
}

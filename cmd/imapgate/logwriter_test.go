package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// gatedWriter takes nothing before it is opened.
type gatedWriter struct {
	open   chan struct{}
	writes []string
}

func (g *gatedWriter) Write(p []byte) (int, error) {
	<-g.open
	g.writes = append(g.writes, string(p))
	return len(p), nil
}

func TestLogThatNobodyTakesIsKeptThenDropped(t *testing.T) {
	g := &gatedWriter{open: make(chan struct{})}
	l := newLogWriter(g)
	var dropped atomic.Int64
	l.dropped = func() { dropped.Add(1) }
	l.missing = func(lines int) { _, _ = fmt.Fprintf(g, "%d missing\n", lines) }

	long := strings.Repeat("x", 3*atomicWrite)
	const lines = 40_000
	kept := 0
	for i := range lines {
		line := fmt.Sprintf("line %d %d\n", i, i)
		if i%1000 == 7 {
			line = fmt.Sprintf("line %d %s\n", i, long)
		}
		if _, err := l.Write([]byte(line)); err != nil {
			t.Fatal(err)
		}
		if dropped.Load() == 0 {
			kept++
		}
	}
	if n := dropped.Load(); n == 0 || int(n) != lines-kept {
		t.Fatalf("%d lines were kept and %d dropped, of %d", kept, n, lines)
	}
	close(g.open)
	eventually(t, func() error {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.lost > 0 {
			return errors.New("what waited is not taken")
		}
		return nil
	})
	_, _ = l.Write([]byte("after\n"))
	l.end()

	text := strings.Join(g.writes, "")
	for i := range kept {
		prefix := fmt.Sprintf("line %d ", i)
		line, rest, ok := strings.Cut(text, "\n")
		if !ok || !strings.HasPrefix(line, prefix) {
			t.Fatalf("line %d is %.40q", i, line)
		}
		text = rest
	}
	if want := fmt.Sprintf("%d missing\nafter\n", lines-kept); text != want {
		t.Errorf("behind the lines that were kept: %.80q, want %q", text, want)
	}
	for _, w := range g.writes {
		if !strings.HasSuffix(w, "\n") || len(w) > atomicWrite && strings.Count(w, "\n") > 1 {
			t.Errorf("%d octets were written at once: %.20q…", len(w), w)
		}
	}
}

func TestEndOfTheLogIsNotWaitedForInVain(t *testing.T) {
	l := newLogWriter(&gatedWriter{open: make(chan struct{})})
	_, _ = l.Write([]byte("nobody takes this\n"))
	l.end()
	select {
	case <-l.ended:
		t.Error("it was written")
	default:
	}
}

// TestLoginsDoNotWaitForTheLog runs imapgate with a standard error that nobody reads: what
// is logged of these logins is more than a pipe takes.
func TestLoginsDoNotWaitForTheLog(t *testing.T) {
	p := newPlant(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := exec.Command(os.Args[0], "serve", "-c", p.path())
	cmd.Env = append(os.Environ(), runVariable+"=1")
	cmd.Stderr = w
	err = cmd.Start()
	_ = w.Close()
	if err != nil {
		t.Fatal(err)
	}
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-exited
	})
	log := bufio.NewReader(r)
	for line := ""; !strings.Contains(line, `"listening"`); {
		if line, err = log.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	for range 200 {
		c := login(t, p.listen[0], "alice@example.org")
		c.do(t, "LOGOUT")
		_ = c.Close()
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-exited:
	case <-time.After(patience):
		t.Fatal("it does not end while nobody reads its log")
	}
	if code := cmd.ProcessState.ExitCode(); code != exitOK {
		t.Errorf("exit code %d", code)
	}
}

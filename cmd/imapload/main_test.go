//go:build linux

package main

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapgate/cmd/imapload/internal/fake"
)

// runVariable makes this test binary behave as imapload, which starts itself for
// load, backend and auth_http.
const runVariable = "IMAPLOAD_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(runVariable) != "" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// imapgate builds the proxy of this tree.
func imapgate(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "imapgate")
	args := append(append([]string{"build"}, raceFlags...), "-o", path, "imapgate/cmd/imapgate")
	if out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// TestBenchMeasuresImapgate runs every test, in small, on the proxy of this tree and
// on the backend alone; but for those that differ in a number.
func TestBenchMeasuresImapgate(t *testing.T) {
	t.Setenv(runVariable, "1")
	t.Setenv("GORACE", "atexit_sleep_ms=0") // processes of a race detector wait a second at their end
	path := filepath.Join(t.TempDir(), "samples.jsonl")
	var out, progress strings.Builder
	code := run(t.Context(), []string{
		"bench", "--quick", "--rounds", "1", "--imapgate", imapgate(t), "--targets", "imapgate,direct", "--samples", path,
		"--tests", "logins,resumed,half,same,download,upload,ping1,ping50,idle1000,idletls,append,wake,link,logins2,reload",
	}, &out, &progress)
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, &progress)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	measured := make(map[string]map[string]float64)
	for line := range strings.Lines(string(text)) {
		var s struct {
			Target, Test, Failed string
			Errors               int
			FirstError           string `json:"first_error"`
			Figures              map[string]float64
		}
		if err := json.Unmarshal([]byte(line), &s); err != nil {
			t.Fatal(err)
		}
		if s.Failed != "" || s.Errors > 0 {
			t.Errorf("%s %s: %s, %d errors: %s", s.Target, s.Test, s.Failed, s.Errors, s.FirstError)
		}
		measured[s.Target+" "+s.Test] = s.Figures
	}
	// What has to be there, and above 0; but for CPU time, which is counted in ticks
	// of 10 ms.
	for test, figures := range map[string][]string{
		"logins": {"per_s", "cpu_ms", "p50_ms", "p99_ms"}, "resumed": {"per_s", "resumed"}, "half": {"rate", "p99_ms"}, "same": {"rate", "p99_ms"},
		"download": {"mib_s", "cpu_s_gib"}, "upload": {"mib_s", "cpu_s_gib"}, "ping1": {"p50_ms", "p99_ms"}, "ping50": {"per_s", "p99_ms"},
		"idle1000": {"open", "base_bytes"}, "idletls": {"open"}, "append": {"open"},
		"wake": {"received"}, "link": {"p50_ms"}, "logins2": {"per_s"}, "reload": {"before_p99_ms", "p99_ms", "reloads", "rows"},
	} {
		for _, target := range []string{"imapgate", "direct"} {
			got, ok := measured[target+" "+test]
			if !ok && target == "imapgate" {
				t.Errorf("%s %s was not measured", target, test)
			}
			for _, figure := range figures {
				value, there := got[figure]
				if ok && (!there || value <= 0 && !strings.HasPrefix(figure, "cpu")) {
					t.Errorf("%s %s: %s is %v", target, test, figure, value)
				}
			}
		}
	}
	// A trip there and back before the OK is the least that there can be.
	if p50 := measured["imapgate link"]["p50_ms"]; p50 < 20 {
		t.Errorf("a login over the slow line took %v ms", p50)
	}
	for _, want := range []string{"logins/s", "imapgate spread", "goal", "not measured", "samples, 0 failed"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the report has no %q:\n%s", want, &out)
		}
	}
	var again, problems strings.Builder
	if code := run(t.Context(), []string{"report", path}, &again, &problems); code != 0 || !strings.HasSuffix(out.String(), again.String()) {
		t.Errorf("report: exit code %d, %s\n%s", code, &problems, &again)
	}
}

// TestBenchEndsWhatItStarted breaks a benchmark off.
func TestBenchEndsWhatItStarted(t *testing.T) {
	t.Setenv(runVariable, "1")
	t.Setenv("GORACE", "atexit_sleep_ms=0") // processes of a race detector wait a second at their end
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	temp := t.TempDir()
	t.Setenv("TMPDIR", temp)
	started := watcher{line: "direct logins", found: cancel}
	var out strings.Builder
	if code := run(ctx, []string{"bench", "--quick", "--rounds", "1000", "--targets", "direct", "--tests", "logins"}, &out, &started); code != 1 {
		t.Errorf("exit code %d: %s", code, &out)
	}
	left, err := os.ReadDir(temp)
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
	if pids := runningIn(t, temp); len(pids) > 0 {
		t.Errorf("still running: %v", pids)
	}
}

// watcher calls found once a line was written.
type watcher struct {
	line  string
	found func()
}

func (w *watcher) Write(b []byte) (int, error) {
	if strings.Contains(string(b), w.line) {
		w.found()
	}
	return len(b), nil
}

// runningIn returns the processes whose program is, or was, in a directory.
func runningIn(t *testing.T, dir string) (pids []string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		if program, err := os.Readlink(link); err == nil && strings.HasPrefix(program, dir) {
			pids = append(pids, link)
		}
	}
	return pids
}

// TestBenchSaysWhatItDoesNotKnow shows mistakes on the command line.
func TestBenchSaysWhatItDoesNotKnow(t *testing.T) {
	for args, want := range map[string]string{
		"bench --targets courier":                    `imapload: target "courier" is not one of those that there are`,
		"bench --tests speed":                        `imapload: test "speed" is not one of those that there are`,
		"bench --targets imapgate --imapgate ./none": `imapload: ./none: no such program`,
		"backend":              `imapload: --listen or --tls-listen is missing`,
		"authhttp":             `imapload: --backends is missing`,
		"logins --source here": `imapload: --source: ParseAddr("here"): unable to parse IP`,
		"report ./none":        `imapload: open ./none: no such file or directory`,
	} {
		var out, problems strings.Builder
		if code := run(t.Context(), strings.Fields(args), &out, &problems); code != 1 || strings.TrimSpace(problems.String()) != want {
			t.Errorf("%s: exit code %d, %q", args, code, problems.String())
		}
	}
}

// TestAuthHTTPNamesTheBackendsInTurn asks as nginx does.
func TestAuthHTTPNamesTheBackendsInTurn(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- fake.ServeAuthHTTP(ctx, listener, []string{"127.0.1.10:143", "127.0.1.11:144"}) }()
	for _, want := range []string{"Auth-Server: 127.0.1.11\r\nAuth-Port: 144\r\n", "Auth-Server: 127.0.1.10\r\nAuth-Port: 143\r\n"} {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(30 * time.Second)); err != nil {
			t.Fatal(err)
		}
		// In two pieces, as a network may deliver it.
		for _, piece := range []string{"GET /auth HTTP/1.0\r\nAuth-User: alice", "\r\n\r\n"} {
			if _, err := conn.Write([]byte(piece)); err != nil {
				t.Fatal(err)
			}
		}
		reply := make([]byte, 1024)
		n, err := conn.Read(reply)
		if err != nil || !strings.Contains(string(reply[:n]), want) {
			t.Errorf("got %q, %v, want %q", reply[:n], err, want)
		}
		conn.Close()
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

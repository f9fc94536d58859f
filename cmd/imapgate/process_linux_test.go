package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCoreDumpsAreOffUnlessAskedFor looks at a process from outside, and has it read
// of itself what it needs there.
func TestCoreDumpsAreOffUnlessAskedFor(t *testing.T) {
	for _, allowed := range []bool{false, true} {
		t.Run(fmt.Sprint(allowed), func(t *testing.T) {
			dir := t.TempDir()
			writeFiles(t, dir, map[string]string{"x.yaml": fmt.Sprintf(`listen: [{address: "127.0.0.1:0", tls: none}]
backends: {mail1: {address: "127.0.0.1:1", tls: none}}
route: {default: mail1}
admin: {socket: admin.sock}
log: {format: json}
debug: {core_dumps: %t}
`, allowed)})
			p := startProcess(t, "serve", "-c", dir+"/x.yaml")
			p.waitLine(t, "memory")
			limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.cmd.Process.Pid))
			if err != nil {
				t.Fatal(err)
			}
			var core string
			for line := range strings.Lines(string(limits)) {
				if strings.HasPrefix(line, "Max core file size") {
					core = strings.Fields(line)[4]
				}
			}
			var now unix.Rlimit
			if err := unix.Getrlimit(unix.RLIMIT_CORE, &now); err != nil {
				t.Fatal(err)
			}
			if off := core == "0"; off == allowed && now.Max > 0 {
				t.Errorf("the limit of core files is %s", core)
			}
			// Its own /proc/self is still its own: descriptors, memory maps.
			for _, path := range []string{"/metrics", "/debug/pprof/heap?debug=1", "/debug/pprof/profile?seconds=1", "/readyz"} {
				code, body := askSocket(t, dir+"/admin.sock", path)
				if code != 200 || path == "/metrics" && !bytes.Contains(body, []byte("process_open_fds ")) {
					t.Errorf("%s: %d, %d bytes", path, code, len(body))
				}
			}
			p.signal(t, syscall.SIGTERM)
			if code := p.waitExit(t); code != 0 {
				t.Errorf("exit code %d", code)
			}
		})
	}
}

func TestCoreDumpsCanBeTurnedOffAndOn(t *testing.T) {
	t.Cleanup(func() {
		if err := setCoreDumps(true); err != nil {
			t.Error(err)
		}
	})
	for _, allowed := range []bool{false, true, false} {
		if err := setCoreDumps(allowed); err != nil {
			t.Fatal(err)
		}
		dumpable, err := unix.PrctlRetInt(unix.PR_GET_DUMPABLE, 0, 0, 0, 0)
		if err != nil || dumpable == 1 != allowed {
			t.Errorf("allowed: %t; dumpable: %d, %v", allowed, dumpable, err)
		}
		if _, err := os.ReadFile("/proc/self/maps"); err != nil {
			t.Errorf("allowed: %t: %v", allowed, err)
		}
		if _, err := os.ReadDir("/proc/self/fd"); err != nil {
			t.Errorf("allowed: %t: %v", allowed, err)
		}
		if _, err := os.Readlink("/proc/self/exe"); err != nil {
			t.Errorf("allowed: %t: %v", allowed, err)
		}
	}
}

// askSocket asks the admin API on a unix socket.
func askSocket(t *testing.T, socket, path string) (code int, body []byte) {
	t.Helper()
	client := socketClient(socket)
	defer client.CloseIdleConnections()
	return askBy(t, client, path)
}

// socketClient returns a client of the admin API on a unix socket.
func socketClient(socket string) *http.Client {
	return &http.Client{Timeout: patience, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
}

func askBy(t *testing.T, client *http.Client, path string) (code int, body []byte) {
	t.Helper()
	response, err := client.Get("http://imapgate" + path)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err = io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, body
}

package admin

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// serve serves f on a unix socket until the test ends.
func (f *fake) serve(t *testing.T, listeners ...*Listener) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "admin.sock")
	l, err := ListenUnix(t.Context(), socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- f.Serve(ctx, append(listeners, l)...) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
		if _, err := os.Lstat(socket); err == nil {
			t.Error("the socket is still there")
		}
	})
	return socket
}

func me(t *testing.T) string {
	t.Helper()
	u, err := user.Current()
	if err != nil {
		t.Fatal(err)
	}
	return u.Username
}

func TestClientAndServerOverTheSocket(t *testing.T) {
	f := newFake(t)
	socket := f.serve(t)
	if info, err := os.Lstat(socket); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode of the socket: %v, %v", info.Mode(), err)
	}
	c := NewClient(socket, "")
	defer c.Close()
	var status Status
	if err := c.Get(t.Context(), "/v1/status", nil, &status); err != nil || status.Build.Version != "v1.2.3" {
		t.Errorf("%v, %+v", err, status)
	}
	var sessions Sessions
	f.login(t, "x/y ä@example.com", "192.0.2.1:4001")
	if err := c.Get(t.Context(), "/v1/sessions", url.Values{"user": {"x/* ä@*"}}, &sessions); err != nil || sessions.Total != 1 {
		t.Errorf("%v, %+v", err, sessions)
	}
	var at Route
	if err := c.Get(t.Context(), RoutePath("x/y ä@example.com"), nil, &at); err != nil || at.Key != "x/y ä@example.com" {
		t.Errorf("%v, %+v", err, at)
	}
	var changed Changed
	if err := c.Post(t.Context(), BackendPath("old", "drain"), DrainRequest{Why: "x"}, &changed); err != nil || changed.Backend.AdminChange.By != me(t) {
		t.Errorf("%v, %+v", err, changed)
	}
	var pinned UserChanged
	if err := c.Post(t.Context(), UserPath("x/y ä@example.com", "pin"), PinRequest{Backend: "new"}, &pinned); err != nil || pinned.User != "x/y ä@example.com" {
		t.Errorf("%v, %+v", err, pinned)
	}
	err := c.Post(t.Context(), BackendPath("no such", "drain"), DrainRequest{}, &changed)
	var refused *ResponseError
	if !errors.As(err, &refused) || refused.Code != http.StatusNotFound || err.Error() != `unknown backend "no such"` {
		t.Errorf("unknown backend: %v", err)
	}
	if err := c.Upload(t.Context(), "/v1/diff", url.Values{"name": {"x.map"}}, strings.NewReader("alice\n"), &struct{}{}); !errors.As(err, &refused) || len(refused.Details) != 1 {
		t.Errorf("bad table: %v", err)
	}
}

func TestOnlyRootMaySayInWhoseNameItAsks(t *testing.T) {
	f := newFake(t)
	c := NewClient(f.serve(t), "jana")
	defer c.Close()
	var changed Changed
	if err := c.Post(t.Context(), BackendPath("old", "drain"), DrainRequest{}, &changed); err != nil {
		t.Fatal(err)
	}
	want := me(t)
	if os.Geteuid() == 0 {
		want = "jana (sudo)"
	}
	if by := changed.Backend.AdminChange.By; by != want {
		t.Errorf("by %q, want %q", by, want)
	}
	for name, p := range map[string]peer{"root": {"root", true}, "carol": {"carol", false}} {
		r, err := http.NewRequestWithContext(context.WithValue(t.Context(), peerKey{}, p), http.MethodGet, "/", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set(sudoHeader, "jana")
		want := map[string]string{"root": "jana (sudo)", "carol": "carol"}[name]
		if by := f.who(r); by != want {
			t.Errorf("%s: by %q, want %q", name, by, want)
		}
		r.Header.Set(sudoHeader, "evil\" by=\"x")
		if by := f.who(r); by != name {
			t.Errorf("%s, with a name that is none: by %q", name, by)
		}
	}
}

func TestASocketIsReplacedWhenNobodyServesIt(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "admin.sock")
	// Bound and closed, but not removed: what a process leaves that is killed.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		t.Fatal(err)
	}
	if err := unix.Close(fd); err != nil {
		t.Fatal(err)
	}
	l, err := ListenUnix(t.Context(), socket, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := ListenUnix(t.Context(), socket, nil); err == nil || err.Error() != "cannot listen on "+socket+": another process serves it" {
		t.Errorf("the socket is in use: %v", err)
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(t.Context(), file, nil); err == nil || !strings.Contains(err.Error(), "is no socket") {
		t.Errorf("a file: %v", err)
	}
	if _, err := ListenUnix(t.Context(), filepath.Join(file, "x"), nil); err == nil {
		t.Error("listens below a file")
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file: %q, %v", text, err)
	}
}

func TestTCPNeedsATokenOrLoopback(t *testing.T) {
	for address, want := range map[string]bool{"127.0.0.1:0": true, "localhost:0": true, ":0": false, "0.0.0.0:0": false} {
		l, err := ListenTCP(t.Context(), address, false, nil)
		if (err == nil) != want {
			t.Errorf("%s: %v", address, err)
		}
		if err == nil {
			l.Close()
		}
	}
	l, err := ListenTCP(t.Context(), "127.0.0.1:0", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	f := newFake(t)
	f.serve(t, l)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+l.Addr().String()+"/readyz", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "ready\n" {
		t.Errorf("%q, %v", body, err)
	}
}

func TestUnreachableServersAreToldApart(t *testing.T) {
	dir := t.TempDir()
	dead := filepath.Join(dir, "dead")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: dead, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for socket, want := range map[string]string{
		filepath.Join(dir, "none"): "there is no such socket: is imapgate running?",
		dead:                       "nobody listens: imapgate is not running",
	} {
		err := NewClient(socket, "").Get(t.Context(), "/v1/status", nil, new(Status))
		var unreachable *UnreachableError
		if !errors.As(err, &unreachable) || err.Error() != "cannot reach imapgate at "+socket+": "+want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestAnswersThatAreNoneAreErrors(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	var lc net.ListenConfig
	l, err := lc.Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/teapot":
			w.WriteHeader(http.StatusTeapot)
		case "/text":
			_, _ = io.WriteString(w, "hello")
		default:
			panic(http.ErrAbortHandler)
		}
	})}
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { server.Close() })
	c := NewClient(socket, "")
	for path, want := range map[string]string{
		"/teapot": "imapgate answers 418 I'm a teapot",
		"/text":   "read the answer of imapgate at " + socket + ": invalid character 'h' looking for beginning of value",
		"/":       "ask imapgate at " + socket + ": EOF",
	} {
		if err := c.Get(t.Context(), path, nil, new(Status)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

package admin

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"imapgate/route"
)

func TestRequestsAreTakenStrictly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		for _, tc := range []struct {
			method, target, body string
			code                 int
			want                 string
		}{
			{"POST", "/v1/users/alice/hold", `{"whyy":"x"}`, 400, `bad JSON: json: unknown field "whyy"`},
			{"POST", "/v1/users/alice/hold", `{"why":5}`, 400, `bad JSON: json: cannot unmarshal number into Go struct field ChangeRequest.why of type string`},
			{"POST", "/v1/users/alice/hold", `{"why":"x"} {}`, 400, `bad JSON: something follows the value`},
			{"POST", "/v1/users/alice/hold", `{"until":"tomorrow"}`, 400, `bad JSON: parsing time "tomorrow" as "2006-01-02T15:04:05Z07:00": cannot parse "tomorrow" as "2006"`},
			{"POST", "/v1/users/alice/hold", `{"why":"` + strings.Repeat("x", maxBody) + `"}`, 413, `the body is larger than 1048576 bytes`},
			{"GET", "/v1/status?x=1", "", 400, `unknown parameter "x"`},
			{"GET", "/v1/sessions?user=a&user=b", "", 400, `parameter "user" comes twice`},
			{"GET", "/v1/sessions?limit=-1", "", 400, `limit="-1" is not a number`},
			{"GET", "/v1/sessions?order=random", "", 400, `order="random" is neither oldest nor newest`},
			{"GET", "/v1/sessions?ip=10.0.0.0/99", "", 400, `ip="10.0.0.0/99" is neither an address nor a network`},
			{"GET", "/v1/overrides?kind=x", "", 400, `kind="x" is not admin, weight, pin or hold`},
			{"GET", "/v1/sessions?%zz", "", 400, `bad query: invalid URL escape "%zz"`},
			{"POST", "/v1/status", "{}", 405, `POST is not allowed here, GET is`},
			{"DELETE", "/v1/kick", "", 405, `DELETE is not allowed here, POST is`},
			{"GET", "/v1/nothing", "", 404, `there is no /v1/nothing`},
			{"POST", "/metrics", "", 405, `POST is not allowed here, GET is`},
		} {
			code, body := f.ask(tc.method, tc.target, tc.body)
			if want := `{"error":"` + strings.ReplaceAll(tc.want, `"`, `\"`) + `"}` + "\n"; code != tc.code || body != want {
				t.Errorf("%s %s: %d %s want %d %s", tc.method, tc.target, code, body, tc.code, want)
			}
		}
		r := httptest.NewRequest(http.MethodPost, "/v1/users/alice/hold", strings.NewReader("{}"))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		w := httptest.NewRecorder()
		f.local.ServeHTTP(w, r)
		if w.Code != http.StatusUnsupportedMediaType {
			t.Errorf("a form: %d %s", w.Code, w.Body)
		}
		equal(t, "", f.overridesOf())
	})
}

func TestWhatOtherSitesAskForIsRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		for name, header := range map[string][2]string{
			"fetch metadata": {"Sec-Fetch-Site", "cross-site"},
			"origin":         {"Origin", "https://evil.example"},
		} {
			r := httptest.NewRequest(http.MethodPost, "/v1/backends/old/maint", strings.NewReader("{}"))
			r.Header.Set("Content-Type", "application/json")
			r.Header.Set(header[0], header[1])
			w := httptest.NewRecorder()
			f.local.ServeHTTP(w, r)
			if w.Code != http.StatusForbidden || w.Body.String() != `{"error":"the request comes from another site"}`+"\n" {
				t.Errorf("%s: %d %s", name, w.Code, w.Body)
			}
		}
		equal(t, "", f.overridesOf())
	})
}

// tcp sends a request as it would come in over TCP.
func (f *fake) tcp(method, target, host, at, authorization string) *httptest.ResponseRecorder {
	addr, _ := net.ResolveTCPAddr("tcp", at)
	ctx := context.WithValue(context.Background(), http.LocalAddrContextKey, net.Addr(addr))
	r := httptest.NewRequestWithContext(ctx, method, target, nil)
	r.Host = host
	if authorization != "" {
		r.Header.Set("Authorization", authorization)
	}
	w := httptest.NewRecorder()
	f.remote.ServeHTTP(w, r)
	return w
}

func TestWithoutATokenOnlyThisHostMayAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		for _, tc := range []struct {
			host, at string
			want     int
		}{
			{"127.0.0.1:9143", "127.0.0.1:9143", 200},
			{"localhost", "127.0.0.1:9143", 200},
			{"[::1]:9143", "[::1]:9143", 200},
			{"evil.example:9143", "127.0.0.1:9143", 421},
			{"127.0.0.1.evil.example", "127.0.0.1:9143", 421},
			{"localhost", "10.0.0.1:9143", 421},
			{"", "127.0.0.1:9143", 421},
		} {
			for _, path := range []string{"/v1/status", "/metrics", "/", "/healthz"} {
				if w := f.tcp(http.MethodGet, path, tc.host, tc.at, ""); w.Code != tc.want {
					t.Errorf("%s at %s, %s: %d, want %d", tc.host, tc.at, path, w.Code, tc.want)
				}
			}
		}
		if w := f.tcp(http.MethodPost, "/v1/backends/old/drain", "localhost", "127.0.0.1:9143", ""); w.Code != http.StatusOK {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		equal(t, "admin old drain by somebody on this host: \n", f.overridesOf())
		if w := f.tcp(http.MethodGet, "/debug/pprof/", "localhost", "127.0.0.1:9143", ""); w.Code != http.StatusNotFound {
			t.Errorf("profiles over TCP: %d", w.Code)
		}
		if code, body := f.ask(http.MethodGet, "/debug/pprof/", ""); code != http.StatusOK || !strings.Contains(body, "goroutine") {
			t.Errorf("profiles on the socket: %d", code)
		}
	})
}

func TestTokens(t *testing.T) {
	dir := t.TempDir()
	tokens := func(text string) (*Tokens, error) {
		path := filepath.Join(dir, "tokens")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return ReadTokens(path)
	}
	for text, want := range map[string]string{
		"":                            "it holds no token",
		"# nothing\n\n":               "it holds no token",
		"short\n":                     ":1: the token is shorter than 16 characters",
		"\nprometheus 0123 456789\n":  ":2: expected a token, or a name and a token",
		"a/b 0123456789abcdef01234\n": ":1: expected a token, or a name and a token",
	} {
		if _, err := tokens(text); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "456789") {
			t.Errorf("%q: %v", text, err)
		}
	}
	known, err := tokens("# for all\nprometheus 0123456789abcdef\n0123456789abcdeF\n")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.SetTokens(known)
		for authorization, want := range map[string]int{
			"": 401, "Bearer": 401, "Bearer 0123456789abcde": 401, "Basic 0123456789abcdef": 401, "Bearer prometheus": 401,
			"Bearer 0123456789abcdef": 200, "bearer 0123456789abcdeF": 200,
		} {
			for _, path := range []string{"/v1/status", "/metrics", "/v1/openapi.yaml"} {
				w := f.tcp(http.MethodGet, path, "imap.example.org", "10.0.0.1:9143", authorization)
				if w.Code != want || (want == 401) != (w.Header().Get("WWW-Authenticate") != "") {
					t.Errorf("%s, %q: %d, want %d", path, authorization, w.Code, want)
				}
			}
		}
		for _, path := range []string{"/", "/healthz", "/readyz", "/icon.svg"} {
			if w := f.tcp(http.MethodGet, path, "imap.example.org", "10.0.0.1:9143", ""); w.Code != http.StatusOK {
				t.Errorf("%s: %d", path, w.Code)
			}
		}
		f.tcp(http.MethodPost, "/v1/backends/old/drain", "x", "10.0.0.1:9143", "Bearer 0123456789abcdef")
		f.tcp(http.MethodPost, "/v1/backends/new/drain", "x", "10.0.0.1:9143", "Bearer 0123456789abcdeF")
		equal(t, "admin new drain by token: \nadmin old drain by prometheus: \n", f.overridesOf())
	})
}

func TestThePageMayLoadNothingFromElsewhere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		files, err := webFiles.ReadDir("web")
		if err != nil {
			t.Fatal(err)
		}
		paths := []string{"/"}
		for _, file := range files {
			if file.Name() != "index.html" {
				paths = append(paths, "/"+file.Name())
			}
		}
		for _, path := range paths {
			w := f.tcp(http.MethodGet, path, "localhost", "127.0.0.1:1", "")
			h := w.Header()
			if w.Code != http.StatusOK || h.Get("Content-Security-Policy") != policy || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-cache" {
				t.Errorf("%s: %d %v", path, w.Code, h)
			}
		}
		for path, want := range map[string]int{"/nothing.js": 404, "/web/": 404, "/../admin.go": 307} {
			if w := f.tcp(http.MethodGet, path, "localhost", "127.0.0.1:1", ""); w.Code != want {
				t.Errorf("%s: %d", path, w.Code)
			}
		}
		if w := f.tcp(http.MethodPost, "/", "localhost", "127.0.0.1:1", ""); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("POST /: %d", w.Code)
		}
	})
}

func TestReloadTellsOfEveryMistake(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		var asked ReloadOptions
		f.reload = func(_ context.Context, o ReloadOptions) (Reload, error) {
			asked = o
			return Reload{What: ReloadedConfiguration, By: o.By, OK: true, Rows: 3}, nil
		}
		if got := f.post(t, "/v1/reload", `{"force":true}`); !strings.Contains(got, `"rows": 3`) || asked != (ReloadOptions{Force: true, By: "root"}) {
			t.Errorf("got %s, asked %+v", got, asked)
		}
		f.reload = func(context.Context, ReloadOptions) (Reload, error) {
			return Reload{}, errors.Join(errors.New("x.yaml:1:1: bad"), errors.New("x.yaml:2:1: worse"))
		}
		code, body := f.ask(http.MethodPost, "/v1/reload", "")
		if want := `{"error":"the configuration is refused, the old one stays in force","details":["x.yaml:1:1: bad","x.yaml:2:1: worse"]}` + "\n"; code != 422 || body != want {
			t.Errorf("%d %s", code, body)
		}
	})
}

func TestDiff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.login(t, "alice@example.org", "192.0.2.1:4001")
		equal(t, `{
  "added": 1,
  "removed": 1,
  "moved": 1,
  "changed": 0,
  "rows": [
    {
      "key": "alice@example.org",
      "from": "old",
      "to": "new",
      "source": "next.map:1"
    },
    {
      "key": "bob@example.org",
      "from": "old",
      "from_login": "bob.smith",
      "source": "users.map:2"
    }
  ],
  "users": 3,
  "live_sessions": 1
}
`, f.post(t, "/v1/diff?name=next.map&limit=2", "alice@example.org new\ncarol@example.org old\n@example.com shared\n"))
		code, body := f.ask(http.MethodPost, "/v1/diff?name=next.map", "alice@example.org nowhere\nbob\n")
		if code != 422 || !strings.Contains(body, `"the table is refused"`) || !strings.Contains(body, "next.map:2:") {
			t.Errorf("%d %s", code, body)
		}
		if got := f.table.Stats().Generation; got != 1 {
			t.Errorf("the table changed: generation %d", got)
		}
	})
}

func TestEventsComeWhenSomethingChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		ctx, cancel := context.WithCancel(t.Context())
		w := &stream{ResponseRecorder: httptest.NewRecorder()}
		done := make(chan struct{})
		go func() {
			defer close(done)
			f.events(w, httptest.NewRequestWithContext(ctx, http.MethodGet, "/v1/events", nil))
		}()
		count := func() int { return strings.Count(w.String(), "event: status\ndata: {\"status\":{\"now\":") }
		for _, step := range []struct {
			change func()
			after  int // seconds
			want   int
		}{
			{func() {}, 10, 1},
			{func() { f.table.State().SetHealth("old", false, "x") }, 2, 2},
			{func() {}, 12, 2},
			{func() {}, 3, 3}, // in any case
		} {
			step.change()
			pass(time.Duration(step.after) * time.Second)
			if n := count(); n != step.want {
				t.Errorf("%d events, want %d", n, step.want)
			}
		}
		if got := w.String(); !strings.HasPrefix(got, "id: 1\nevent: status\ndata: {") || !strings.Contains(got, `"health_why":"x"`) {
			t.Errorf("events:\n%s", got)
		}
		cancel()
		<-done
	})
}

func TestThereIsABoundOnWatchers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.watchers.Store(maxWatchers)
		if code, body := f.ask(http.MethodGet, "/v1/events", ""); code != http.StatusServiceUnavailable {
			t.Errorf("%d %s", code, body)
		}
		if n := f.watchers.Load(); n != maxWatchers {
			t.Errorf("%d watchers", n)
		}
	})
}

func TestWhatIsNotSavedIsAnError(t *testing.T) {
	f := newFake(t)
	dir := filepath.Join(t.TempDir(), "state")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := f.table.State().Persist(filepath.Join(dir, "overrides.json")); err != nil {
		t.Fatal(err)
	}
	f.post(t, "/v1/users/alice/hold", "{}")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	for _, target := range []string{"/v1/backends/old/drain", "/v1/users/bob/hold", "/v1/users/alice/release"} {
		code, body := f.ask(http.MethodPost, target, "{}")
		if code != http.StatusInternalServerError || !strings.Contains(body, "in force until the next start, but not saved") {
			t.Errorf("%s: %d %s", target, code, body)
		}
	}
	if got := f.get(t, "/v1/status"); !strings.Contains(got, `"error": "in force until the next start, but not saved`) {
		t.Errorf("status: %s", got)
	}
	if a := f.table.Backends()[3].Admin; a != route.AdminDrain {
		t.Errorf("old is %s", a)
	}
}

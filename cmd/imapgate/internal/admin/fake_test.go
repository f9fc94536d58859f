package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"imapgate/proxy"
	"imapgate/route"
)

// definition has a shared pool of three, and two backends of their own.
var definition = route.Definition{
	Backends: []route.Backend{
		{Name: "mail1", Address: "10.0.0.1:993"},
		{Name: "mail2", Address: "10.0.0.2:993"},
		{Name: "mail3", Address: "10.0.0.3:993", Weight: 200},
		{Name: "old", Address: "10.0.0.8:143"},
		{Name: "new", Address: "10.0.0.9:143"},
	},
	Pools: []route.Pool{{Name: "shared", Backends: []string{"mail1", "mail2", "mail3"}, Shared: true}},
	Names: route.Names{DefaultDomain: "example.org", MasterSeparator: "*"},
}

const users = `alice@example.org  old
bob@example.org    old   login=bob.smith
@example.com       shared
`

// fake is a proxy whose sessions tests begin, and a site around it.
type fake struct {
	*Server
	table *route.Table
	log   *observer.ObservedLogs

	mu        sync.Mutex
	sessions  []*fakeSession
	stuck     bool // sessions that are told to end do not
	kicks     []string
	draining  bool
	logins    map[string]proxy.LoginLoad
	listening []string
	overload  []string

	acme ACME

	reload  func(context.Context, ReloadOptions) (Reload, error)
	upgrade func(context.Context, UpgradeOptions) (Upgraded, error)
	older   *OlderProcess

	newProgram bool
}

type fakeSession struct {
	proxy.SessionInfo
	lease *route.Lease
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{table: route.New(), listening: []string{":993"}}
	load(t, f.table, users)
	core, logs := observer.New(zap.InfoLevel)
	f.log = logs
	var err error
	f.Server, err = New(Options{
		Proxy: fakeProxy{f}, Site: fakeSite{f}, Metrics: NewMetrics(), History: new(History), Log: zap.New(core),
		Build:  Build{Version: "v1.2.3", Go: "go1.26", Platform: "linux/amd64"},
		Config: "/etc/imapgate/imapgate.yaml", OverridesFile: "/var/lib/imapgate/overrides.json",
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		f.stopLeaving()
		f.wg.Wait()
	})
	return f
}

func load(t *testing.T, table *route.Table, text string) {
	t.Helper()
	rows, err := route.Parse("users.map", strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	if err := table.Load(definition, rows, true); err != nil {
		t.Fatal(err)
	}
}

// login begins a session as the proxy does, and returns the backend it is at.
func (f *fake) login(t *testing.T, user, ip string) string {
	t.Helper()
	lease, err := f.table.Begin(user)
	if err != nil {
		t.Fatal(err)
	}
	backend := lease.Placement().Backends[0]
	if !lease.Claim(context.Background(), backend) || !lease.Commit(backend) {
		t.Fatalf("%s is not let in at %s", user, backend)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.sessions = append(f.sessions, &fakeSession{lease: lease, SessionInfo: proxy.SessionInfo{
		ID: fmt.Sprintf("S%03d", len(f.sessions)+1), User: user, Backend: backend, Listener: ":993", Mechanism: "PLAIN", TLS: "TLS 1.3",
		Remote: netip.MustParseAddrPort(ip), Since: time.Now(), FromClient: 1000, FromBackend: 20_000,
	}})
	f.Metrics.SessionStarted(backend)
	return backend
}

type fakeProxy struct{ f *fake }

func (p fakeProxy) Sessions() []proxy.SessionInfo {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	list := make([]proxy.SessionInfo, 0, len(p.f.sessions))
	for _, s := range p.f.sessions {
		list = append(list, s.SessionInfo)
	}
	return list
}

func (p fakeProxy) Kick(ctx context.Context, match func(proxy.SessionInfo) bool, o proxy.KickOptions) (int, error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	n := 0
	p.f.sessions = slices.DeleteFunc(p.f.sessions, func(s *fakeSession) bool {
		if s.Ending != "" || !match(s.SessionInfo) {
			return false
		}
		n++
		s.Ending = o.Reason
		p.f.kicks = append(p.f.kicks, fmt.Sprintf("%s %s %s %g", time.Now().UTC().Format("15:04:05"), s.User, o.Reason, o.Rate))
		if !p.f.stuck {
			s.lease.End()
		}
		return !p.f.stuck
	})
	return n, ctx.Err()
}

func (p fakeProxy) Listening() []string    { return p.f.listening }
func (p fakeProxy) Connections() int       { return 3 }
func (p fakeProxy) HandshakesWaiting() int { return 4 }
func (p fakeProxy) WarmConnections() map[string]int {
	return map[string]int{"old": 2, "new": 0}
}
func (p fakeProxy) Draining() bool     { return p.f.draining }
func (p fakeProxy) Overload() []string { return p.f.overload }

func (p fakeProxy) Logins() map[string]proxy.LoginLoad { return p.f.logins }

// Trace shows one line, and then nothing until ctx ends.
func (p fakeProxy) Trace(ctx context.Context, o proxy.TraceOptions, show func(proxy.TraceLine) error) error {
	err := show(proxy.TraceLine{
		At: time.Now(), Session: "S1", Remote: netip.MustParseAddrPort("192.0.2.1:7"), User: o.User, Who: "C", Text: fmt.Sprintf("a1 NOOP %v", o.Network),
	})
	<-ctx.Done()
	return err
}

type fakeSite struct{ f *fake }

func (s fakeSite) InForce() InForce {
	return InForce{Table: s.f.table, Names: definition.Names, CloseSpread: 30 * time.Second, ACME: s.f.acme}
}

func (s fakeSite) Reload(ctx context.Context, o ReloadOptions) (Reload, error) {
	return s.f.reload(ctx, o)
}

func (s fakeSite) Upgrade(ctx context.Context, o UpgradeOptions) (Upgraded, error) {
	return s.f.upgrade(ctx, o)
}

func (s fakeSite) NewProgram() bool { return s.f.newProgram }

func (s fakeSite) Older() *OlderProcess { return s.f.older }

func (s fakeSite) Compare(_ context.Context, c Candidate) (route.Diff, error) {
	rows, err := route.Parse(c.Name, c.Rows)
	if err != nil {
		return route.Diff{}, err
	}
	next := route.New()
	if err := next.Load(definition, rows, true); err != nil {
		return route.Diff{}, err
	}
	return s.f.table.Diff(next, c.Limit)
}

// ask sends a request as root at the socket would, and returns the answer.
func (f *fake) ask(method, target, body string) (int, string) {
	return f.askWith(context.Background(), method, target, body)
}

func (f *fake) askWith(ctx context.Context, method, target, body string) (int, string) {
	ctx = context.WithValue(ctx, peerKey{}, peer{name: "root", root: true})
	var in io.Reader
	if body != "" {
		in = strings.NewReader(body)
	}
	r := httptest.NewRequestWithContext(ctx, method, target, in)
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	f.local.ServeHTTP(w, r)
	return w.Code, w.Body.String()
}

// get returns an answer as indented JSON.
func (f *fake) get(t *testing.T, target string) string {
	t.Helper()
	code, body := f.ask(http.MethodGet, target, "")
	if code != http.StatusOK {
		t.Fatalf("GET %s: %d %s", target, code, body)
	}
	return indent(t, body)
}

func (f *fake) post(t *testing.T, target, body string) string {
	t.Helper()
	code, answer := f.ask(http.MethodPost, target, body)
	if code != http.StatusOK {
		t.Fatalf("POST %s: %d %s", target, code, answer)
	}
	return indent(t, answer)
}

func indent(t *testing.T, body string) string {
	t.Helper()
	var b bytes.Buffer
	if err := json.Indent(&b, []byte(body), "", "  "); err != nil {
		t.Fatalf("%v: %s", err, body)
	}
	return b.String()
}

// overridesOf returns what is in force, a line for each.
func (f *fake) overridesOf() string {
	var b strings.Builder
	for _, o := range f.table.State().Overrides() {
		fmt.Fprintf(&b, "%s %s %s by %s: %s", o.Kind, o.Name, o.Value, o.By, o.Why)
		if !o.Until.IsZero() {
			b.WriteString(" until " + o.Until.Format("15:04:05"))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// stream is a response that is read while it is written.
type stream struct {
	*httptest.ResponseRecorder
	mu   sync.Mutex
	text strings.Builder
}

func (s *stream) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *stream) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

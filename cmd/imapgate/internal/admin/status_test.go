package admin

import (
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"imapgate/route"
)

func equal(t *testing.T, want, got string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.login(t, "alice@example.org", "192.0.2.1:4001")
		f.login(t, "alice@example.org", "192.0.2.1:4002")
		f.table.State().SetHealth("new", false, "login/connect: connection refused")
		f.post(t, "/v1/backends/mail2/drain", `{"why":"kernel"}`)
		f.History.Add(Reload{At: time.Now().UTC(), What: ReloadedTable, By: "change of files", OK: true, Rows: 3})
		<-time.After(2 * time.Second)
		got := f.get(t, "/v1/status")
		head, rest, _ := strings.Cut(got, `"pid": `)
		_, tail, _ := strings.Cut(rest, ",")
		equal(t, `{
  "now": "2000-01-01T00:00:02Z",
  "build": {
    "version": "v1.2.3",
    "go": "go1.26",
    "platform": "linux/amd64"
  },
  "pid": N,
  "started": "2000-01-01T00:00:00Z",
  "config": "/etc/imapgate/imapgate.yaml",
  "ready": true,
  "missing": [],
  "draining": false,
  "overload": [],
  "listeners": [
    ":993"
  ],
  "connections": 3,
  "sessions": 2,
  "users": 1,
  "logins_per_second": 0.2,
  "backends": {
    "up": 4,
    "down": 1,
    "drain": 1,
    "maint": 0
  },
  "table": {
    "users": 2,
    "domains": 1,
    "generation": 1,
    "loaded_at": "2000-01-01T00:00:00Z"
  },
  "overrides": {
    "admin": 1,
    "weight": 0,
    "pin": 0,
    "hold": 0,
    "made": 1,
    "file": "/var/lib/imapgate/overrides.json"
  },
  "reload": {
    "at": "2000-01-01T00:00:00Z",
    "what": "table",
    "by": "change of files",
    "ok": true,
    "took_seconds": 0,
    "rows": 3
  }
}
`, head+`"pid": N,`+tail)
	})
}

func TestBackends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.login(t, "alice@example.org", "192.0.2.1:4001")
		f.post(t, "/v1/backends/old/drain", `{"why":"kernel","until":"2000-01-01T02:00:00Z","deadline":"2000-01-01T01:00:00Z"}`)
		f.post(t, "/v1/backends/mail3/weight", `{"weight":50}`)
		got := f.get(t, "/v1/backends")
		for _, want := range []string{`{
  "now": "2000-01-01T00:00:00Z",
  "backends": [
    {
      "name": "mail1",
      "address": "10.0.0.1:993",
      "weight": 100,
      "configured_weight": 100,
      "admin": "ready",
      "up": true,
      "health_since": "2000-01-01T00:00:00Z",
      "sessions": 0,
      "users": 0,
      "pools": [
        "shared"
      ],
      "logins_per_second": 0,
      "logins_in_flight": 0,
      "logins_waiting": 0,
      "logins_at_once": 0
    },
`, `      "weight": 50,
      "configured_weight": 200,
      "weight_change": {
        "by": "root",
        "since": "2000-01-01T00:00:00Z"
      },
`, `      "name": "old",
      "address": "10.0.0.8:143",
      "weight": 100,
      "configured_weight": 100,
      "admin": "drain",
      "admin_change": {
        "by": "root",
        "why": "kernel",
        "since": "2000-01-01T00:00:00Z",
        "until": "2000-01-01T02:00:00Z",
        "deadline": "2000-01-01T01:00:00Z"
      },
      "up": true,
      "health_since": "2000-01-01T00:00:00Z",
      "sessions": 1,
      "users": 1,
      "pools": [],
      "logins_per_second": 0,
      "logins_in_flight": 0,
      "logins_waiting": 0,
      "logins_at_once": 0
    },
`, `  "pools": [
    {
      "name": "shared",
      "shared": true,
      "members": [
        "mail1",
        "mail2",
        "mail3"
      ],
      "shares": {
        "mail1": 0.4,
        "mail2": 0.4,
        "mail3": 0.2
`} {
			if !strings.Contains(got, want) {
				t.Errorf("%s\ndoes not have\n%s", got, want)
			}
		}
	})
}

func TestRouteIsExplained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.login(t, "bob@example.org", "192.0.2.1:4001")
		f.post(t, "/v1/users/bob/hold", `{"why":"restore"}`)
		equal(t, `{
  "now": "2000-01-01T00:00:00Z",
  "user": "Bob",
  "master": "admin",
  "key": "bob@example.org",
  "backend": "old",
  "address": "10.0.0.8:143",
  "reason": "assignment",
  "source": "users.map:2",
  "login": "bob.smith*admin",
  "failover": [],
  "slot": 215505,
  "sessions": 1,
  "hold": {
    "kind": "hold",
    "name": "bob@example.org",
    "by": "root",
    "why": "restore",
    "since": "2000-01-01T00:00:00Z"
  },
  "candidates": [
    {
      "name": "old",
      "rank": 1,
      "weight": 100,
      "admin": "ready",
      "up": true
    }
  ]
}
`, f.get(t, "/v1/route/Bob*admin"))

		f.table.State().SetHealth("old", false, "refused")
		if got := f.get(t, "/v1/route/alice"); !strings.Contains(got, `"unavailable": "backend old: down"`) || !strings.Contains(got, `"skipped": "down"`) {
			t.Errorf("known to be down: %s", got)
		}
		if got := f.get(t, "/v1/route/x%2Fy%40example.com"); !strings.Contains(got, `"key": "x/y@example.com"`) || !strings.Contains(got, `"pool": "shared"`) {
			t.Errorf("a name with a slash: %s", got)
		}
		code, body := f.ask(http.MethodGet, "/v1/route/nobody@example.net", "")
		if code != http.StatusNotFound || body != `{"error":"unknown user: there is no row for nobody@example.net, none for its domain, and no default"}`+"\n" {
			t.Errorf("unknown user: %d %s", code, body)
		}
	})
}

func TestSessionsAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.login(t, "alice@example.org", "192.0.2.1:4001")
		f.login(t, "bob@example.org", "[2001:db8::7]:4002")
		f.login(t, "alice@example.org", "[::ffff:198.51.100.9]:4003")
		equal(t, `{
  "now": "2000-01-01T00:00:00Z",
  "total": 1,
  "sessions": [
    {
      "id": "S002",
      "user": "bob@example.org",
      "backend": "old",
      "listener": ":993",
      "mechanism": "PLAIN",
      "tls": "TLS 1.3",
      "ip": "2001:db8::7",
      "port": 4002,
      "since": "2000-01-01T00:00:00Z",
      "bytes_from_client": 1000,
      "bytes_from_backend": 20000
    }
  ]
}
`, f.get(t, "/v1/sessions?user=B*@example.???&ip=2001:db8::/32&backend=old"))
		for query, want := range map[string]string{
			"": "S001 S002 S003", "order=newest": "S003 S002 S001", "limit=2": "S001 S002", "order=newest&limit=1": "S003",
			"user=Alice": "S001 S003", "user=alice@example.org": "S001 S003", "user=ali": "", "user=*b@*": "S002", "user=?": "",
			"ip=192.0.2.1": "S001", "ip=::ffff:192.0.2.1": "S001", "ip=198.51.100.0/24": "S003", "ip=0.0.0.0/0": "S001 S003",
			"backend=new": "", "id=S003": "S003",
		} {
			var ids []string
			for line := range strings.Lines(f.get(t, "/v1/sessions?"+query)) {
				if id, ok := strings.CutPrefix(strings.TrimSpace(line), `"id": "`); ok {
					ids = append(ids, strings.TrimSuffix(id, `",`))
				}
			}
			if got := strings.Join(ids, " "); got != want {
				t.Errorf("%q finds %q, want %q", query, got, want)
			}
		}
	})
}

func TestMasksAreThoseOfDoveadm(t *testing.T) {
	for _, tc := range []struct {
		mask, name string
		want       bool
	}{
		{"*", "", true},
		{"*", "alice@example.org", true},
		{"*@example.org", "alice@example.org", true},
		{"*@example.org", "alice@example.com", false},
		{"a*e@*.org", "alice@example.org", true},
		{"a*a*a", "aaa", true},
		{"a*a*a", "aa", false},
		{"?lice*", "älice", true},
		{"?", "", false},
		{"alice", "alice", true},
		{"*b*b", "abbb", true},
		{strings.Repeat("*a", 200) + "b", strings.Repeat("a", 5000), false},
	} {
		if got := matchMask(tc.mask, tc.name); got != tc.want {
			t.Errorf("%.20q, %.20q: %v", tc.mask, tc.name, got)
		}
	}
}

func TestReadinessSaysWhatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		ready := func(want string) {
			t.Helper()
			code, body := f.ask(http.MethodGet, "/readyz", "")
			if body != want || (code == http.StatusOK) != (want == "ready\n") || code != http.StatusOK && code != http.StatusServiceUnavailable {
				t.Errorf("%d %q, want %q", code, body, want)
			}
		}
		ready("ready\n")
		state := f.table.State()
		for _, b := range definition.Backends[1:] {
			state.SetHealth(b.Name, false, "")
		}
		ready("ready\n")
		if err := state.SetAdmin("mail1", route.AdminMaint, route.Change{}); err != nil {
			t.Fatal(err)
		}
		ready("not ready: no backend is up\n")
		state.SetHealth("mail2", true, "")
		f.draining, f.listening = true, nil
		ready("not ready: it is shutting down, no listener is open\n")
		f.draining, f.listening, f.table = false, []string{":993"}, route.New()
		ready("not ready: no routing table is loaded\n")
		if code, body := f.ask(http.MethodGet, "/healthz", ""); code != http.StatusOK || body != "ok\n" {
			t.Errorf("healthz: %d %q", code, body)
		}
	})
}

func TestHistoryKnowsWhetherAllIsWell(t *testing.T) {
	h := new(History)
	add := func(what string, ok bool) { h.Add(Reload{What: what, OK: ok}) }
	for i, step := range []struct {
		what   string
		ok, is bool
	}{
		{ReloadedConfiguration, true, true},
		{ReloadedTable, false, false},
		{ReloadedCertificates, true, false},
		{ReloadedTable, true, true},
		{ReloadedConfiguration, false, false},
		{ReloadedTable, true, false},
		{ReloadedCertificates, false, false},
		{ReloadedConfiguration, true, true},
	} {
		if add(step.what, step.ok); h.OK() != step.is {
			t.Errorf("step %d: %v", i, h.OK())
		}
	}
	add(ReloadedBackendTLS+" mail1", false)
	for range 3 * maxReloads {
		add(ReloadedTable, true)
	}
	if n := len(h.List()); n != maxReloads || h.OK() {
		t.Errorf("%d reloads, %v: the one that failed is long ago, and still counts", n, h.OK())
	}
	if add(ReloadedBackendTLS+" mail1", true); !h.OK() {
		t.Error("all is well again, and it is not known")
	}
}

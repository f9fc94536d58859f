package admin

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"imapgate/proxy"
)

// busy has counted something of everything.
func busy(t *testing.T) *fake {
	t.Helper()
	f := newFake(t)
	f.login(t, "alice@example.org", "192.0.2.1:4001")
	m := f.Metrics
	m.Accepted(":993")
	m.Handshake(":993", "TLS 1.3", "ok", 20*time.Millisecond)
	m.Handshake(":993", "TLS 1.3", "resumed", 0)
	m.Handshake(":993", "", "failed", 0)
	m.Authenticated("PLAIN", "ok", 30*time.Millisecond)
	m.Routed("user")
	m.BackendConnected("old", 2*time.Millisecond)
	m.WarmLogin("old", "hit")
	m.BackendFailed("new", "connect")
	m.Limited("connections_per_address")
	f.overload = []string{"cpu"}
	m.SessionStarted("old")
	m.SessionEnded("old", 100, 2000)
	f.table.State().SetHealth("new", false, "connect")
	f.logins = map[string]proxy.LoginLoad{"old": {InFlight: 8, Waiting: 120, Room: 9}}
	f.post(t, "/v1/backends/mail1/drain", "{}")
	f.post(t, "/v1/backends/mail2/weight", `{"weight":7}`)
	f.post(t, "/v1/users/alice/pin", `{"backend":"old"}`)
	return f
}

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := busy(t)
		problems, err := testutil.GatherAndLint(f.Metrics.gatherer(f.Server))
		if err != nil || len(problems) > 0 {
			t.Errorf("lint: %v, %v", problems, err)
		}
		code, body := f.ask(http.MethodGet, "/metrics", "")
		if code != http.StatusOK {
			t.Fatalf("%d %s", code, body)
		}
		var got []string
		for line := range strings.Lines(body) {
			if strings.HasPrefix(line, "imapgate_") && !strings.Contains(line, "_bucket{") {
				got = append(got, strings.TrimSpace(line))
			}
		}
		want := strings.Split(strings.TrimSpace(`
imapgate_auth_attempts_total{mechanism="PLAIN",result="ok"} 1
imapgate_auth_duration_seconds_sum 0.03
imapgate_auth_duration_seconds_count 1
imapgate_backend_admin_state{backend="mail1",state="drain"} 1
imapgate_backend_admin_state{backend="mail1",state="maint"} 0
imapgate_backend_admin_state{backend="mail1",state="ready"} 0
imapgate_backend_admin_state{backend="mail2",state="drain"} 0
imapgate_backend_admin_state{backend="mail2",state="maint"} 0
imapgate_backend_admin_state{backend="mail2",state="ready"} 1
imapgate_backend_admin_state{backend="mail3",state="drain"} 0
imapgate_backend_admin_state{backend="mail3",state="maint"} 0
imapgate_backend_admin_state{backend="mail3",state="ready"} 1
imapgate_backend_admin_state{backend="new",state="drain"} 0
imapgate_backend_admin_state{backend="new",state="maint"} 0
imapgate_backend_admin_state{backend="new",state="ready"} 1
imapgate_backend_admin_state{backend="old",state="drain"} 0
imapgate_backend_admin_state{backend="old",state="maint"} 0
imapgate_backend_admin_state{backend="old",state="ready"} 1
imapgate_backend_connect_duration_seconds_sum{backend="old"} 0.002
imapgate_backend_connect_duration_seconds_count{backend="old"} 1
imapgate_backend_errors_total{backend="new",reason="connect"} 1
imapgate_backend_logins_in_flight{backend="mail1"} 0
imapgate_backend_logins_in_flight{backend="mail2"} 0
imapgate_backend_logins_in_flight{backend="mail3"} 0
imapgate_backend_logins_in_flight{backend="new"} 0
imapgate_backend_logins_in_flight{backend="old"} 8
imapgate_backend_logins_in_flight_max{backend="mail1"} 0
imapgate_backend_logins_in_flight_max{backend="mail2"} 0
imapgate_backend_logins_in_flight_max{backend="mail3"} 0
imapgate_backend_logins_in_flight_max{backend="new"} 0
imapgate_backend_logins_in_flight_max{backend="old"} 9
imapgate_backend_logins_waiting{backend="mail1"} 0
imapgate_backend_logins_waiting{backend="mail2"} 0
imapgate_backend_logins_waiting{backend="mail3"} 0
imapgate_backend_logins_waiting{backend="new"} 0
imapgate_backend_logins_waiting{backend="old"} 120
imapgate_backend_up{backend="mail1"} 1
imapgate_backend_up{backend="mail2"} 1
imapgate_backend_up{backend="mail3"} 1
imapgate_backend_up{backend="new"} 0
imapgate_backend_up{backend="old"} 1
imapgate_backend_warm_connections{backend="new"} 0
imapgate_backend_warm_connections{backend="old"} 2
imapgate_backend_warm_logins_total{backend="old",result="hit"} 1
imapgate_backend_weight{backend="mail1"} 100
imapgate_backend_weight{backend="mail2"} 7
imapgate_backend_weight{backend="mail3"} 200
imapgate_backend_weight{backend="new"} 100
imapgate_backend_weight{backend="old"} 100
imapgate_build_info{goversion="go1.26",revision="",version="v1.2.3"} 1
imapgate_config_last_reload_successful 1
imapgate_connections_active 3
imapgate_connections_total{listener=":993"} 1
imapgate_limited_total{limit="connections_per_address"} 1
imapgate_log_dropped_total 0
imapgate_overload{lack="connections"} 0
imapgate_overload{lack="cpu"} 1
imapgate_overload{lack="descriptors"} 0
imapgate_overload{lack="memory"} 0
imapgate_overrides{kind="admin"} 1
imapgate_overrides{kind="hold"} 0
imapgate_overrides{kind="pin"} 1
imapgate_overrides{kind="weight"} 1
imapgate_overrides_saved 1
imapgate_route_decisions_total{reason="user"} 1
imapgate_session_bytes_total{direction="from_backend"} 2000
imapgate_session_bytes_total{direction="from_client"} 100
imapgate_sessions_active{backend="mail1"} 0
imapgate_sessions_active{backend="mail2"} 0
imapgate_sessions_active{backend="mail3"} 0
imapgate_sessions_active{backend="new"} 0
imapgate_sessions_active{backend="old"} 1
imapgate_sessions_total{backend="mail1"} 0
imapgate_sessions_total{backend="mail2"} 0
imapgate_sessions_total{backend="mail3"} 0
imapgate_sessions_total{backend="new"} 0
imapgate_sessions_total{backend="old"} 2
imapgate_table_last_success_timestamp_seconds 9.466848e+08
imapgate_table_rows{kind="domain"} 1
imapgate_table_rows{kind="user"} 2
imapgate_tls_handshake_wait_seconds_sum{listener=":993"} 0.02
imapgate_tls_handshake_wait_seconds_count{listener=":993"} 3
imapgate_tls_handshakes_total{listener=":993",result="failed",version=""} 1
imapgate_tls_handshakes_total{listener=":993",result="ok",version="TLS 1.3"} 1
imapgate_tls_handshakes_total{listener=":993",result="resumed",version="TLS 1.3"} 1
imapgate_tls_handshakes_waiting 4
`), "\n")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		for _, secret := range []string{"alice", "192.0.2.1"} {
			if strings.Contains(body, secret) {
				t.Errorf("%s is in the metrics", secret)
			}
		}
		if !strings.Contains(body, "go_goroutines ") || !strings.Contains(body, "process_open_fds ") {
			t.Error("nothing of the process itself")
		}
	})
}

func TestMetricsTellWhetherCertificatesAreAsTheirFilesSay(t *testing.T) {
	f := newFake(t)
	files, pair := certificates(t)
	f.Site = certifiedSite{f.Site, files}
	want := func(when, value string) {
		t.Helper()
		_, body := f.ask(http.MethodGet, "/metrics", "")
		if line := `imapgate_cert_problem{name="imap.example.org"} ` + value + "\n"; !strings.Contains(body, line) {
			t.Errorf("%s: no %q", when, line)
		}
	}
	want("at first", "0")
	if err := os.WriteFile(pair.Key, []byte("bad"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := files.Reload(); err == nil {
		t.Fatal("the bad key was taken")
	}
	want("with a bad key", "1")
	var answer Certificates
	_, body := f.ask(http.MethodGet, "/v1/certificates", "")
	if err := json.Unmarshal([]byte(body), &answer); err != nil || len(answer.Certificates) != 1 {
		t.Fatal(err, body)
	}
	if got, want := answer.Certificates[0].Problem, "key "+pair.Key+": holds no PEM block (-----BEGIN …); the one loaded before stays in use"; got != want {
		t.Errorf("the problem is %q, want %q", got, want)
	}
}

func TestRatesForgetWhatIsLongAgo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := NewMetrics()
		at := func(want float64) {
			t.Helper()
			if got := m.loginRate("a", time.Now()); got != want {
				t.Errorf("%s: %g a second, want %g", time.Now().UTC().Format(time.TimeOnly), got, want)
			}
		}
		at(0)
		for range 5 {
			m.SessionStarted("a")
			m.SessionStarted("b")
		}
		at(0) // this second is not over
		<-time.After(time.Second)
		at(0.5)
		if got := m.loginRate("", time.Now()); got != 1 {
			t.Errorf("all: %g", got)
		}
		<-time.After(9 * time.Second)
		m.SessionStarted("a")
		at(0.5)
		<-time.After(time.Second)
		at(0.1)
		<-time.After(time.Hour)
		at(0)
		m.SessionStarted("a")
		<-time.After(time.Second)
		at(0.1)
	})
}

package admin

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v4"

	"imapgate/tlsconf"
)

const (
	deployDir     = "../../../../deploy"
	alertsFile    = deployDir + "/prometheus/alerts.yaml"
	dashboardFile = deployDir + "/grafana/imapgate.json"
)

// promtool runs Prometheus' own checker. In CI a missing one fails the test,
// elsewhere it is skipped with advice.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		text := "promtool is not installed: run `make test`, which installs what the tests need where it can"
		if os.Getenv("CI") == "true" {
			t.Fatal(text)
		}
		t.Skip(text)
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// certifiedSite is a site with certificates.
type certifiedSite struct {
	Site
	files *tlsconf.Files
}

func (s certifiedSite) InForce() InForce {
	in := s.Site.InForce()
	in.Certificates = s.files
	return in
}

// certificates returns one that is valid for an hour.
func certificates(t *testing.T) (*tlsconf.Files, tlsconf.Pair) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), DNSNames: []string{"imap.example.org"},
		NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour),
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	pair := tlsconf.Pair{Cert: filepath.Join(dir, "cert.pem"), Key: filepath.Join(dir, "key.pem")}
	for name, block := range map[string]*pem.Block{
		pair.Cert: {Type: "CERTIFICATE", Bytes: cert},
		pair.Key:  {Type: "PRIVATE KEY", Bytes: private},
	} {
		if err := os.WriteFile(name, pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	files, err := tlsconf.NewFiles([]tlsconf.Pair{pair})
	if err != nil {
		t.Fatal(err)
	}
	return files, pair
}

type alert struct {
	Alert       string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) []alert {
	t.Helper()
	var file struct{ Groups []struct{ Rules []alert } }
	readYAML(t, alertsFile, &file)
	var all []alert
	for _, g := range file.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) == 0 {
		t.Fatal("no alerts")
	}
	return all
}

func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(data, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

// grafana is what a dashboard's queries hold that Prometheus does not know.
var grafana = strings.NewReplacer("$__rate_interval", "5m", "$job", ".*", "$instance", ".*", "$backend", ".*")

// dashboard returns the expressions of the dashboard's panels and annotations.
func dashboard(t *testing.T) []string {
	t.Helper()
	data, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	var root any
	if err := json.Unmarshal(data, &root); err != nil {
		t.Fatalf("%s: %v", dashboardFile, err)
	}
	var found []string
	var walk func(v any)
	walk = func(v any) {
		switch v := v.(type) {
		case []any:
			for _, e := range v {
				walk(e)
			}
		case map[string]any:
			for _, key := range slices.Sorted(maps.Keys(v)) {
				if expr, ok := v[key].(string); ok && key == "expr" {
					found = append(found, grafana.Replace(expr))
				}
				walk(v[key])
			}
		}
	}
	walk(root)
	if len(found) == 0 {
		t.Fatal("no queries on the dashboard")
	}
	return found
}

func TestAlertsAreValidAndFireWhenTheyShould(t *testing.T) {
	promtool(t, "check", "rules", "--lint=all", "--lint-fatal", alertsFile)
	promtool(t, "test", "rules", deployDir+"/prometheus/alerts_test.yaml")
}

func TestQueriesOfTheDashboardAreValid(t *testing.T) {
	var rules strings.Builder
	rules.WriteString("groups:\n- name: dashboard\n  rules:\n")
	for i, expr := range dashboard(t) {
		fmt.Fprintf(&rules, "  - {record: %q, expr: %q}\n", fmt.Sprintf("query:%d", i), expr)
	}
	name := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(name, []byte(rules.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", name)
}

var (
	metricName = regexp.MustCompile(`\b(?:imapgate|process|go)_[a-z0-9_]+\b`)
	selector   = regexp.MustCompile(`\b((?:imapgate|process|go)_[a-z0-9_]+)\{([^}]*)\}`)
	labelName  = regexp.MustCompile(`([a-z_]+)(?:=~|!~|!=|=)"`)
)

// TestDeployedFilesNameMetricsThatExist looks for names and labels that were
// changed here, and not there.
func TestDeployedFilesNameMetricsThatExist(t *testing.T) {
	known := make(map[string]map[string]bool) // the labels of each metric
	synctest.Test(t, func(t *testing.T) {
		f := busy(t)
		files, _ := certificates(t)
		f.Site = certifiedSite{f.Site, files}
		families, err := f.Metrics.gatherer(f.Server).Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			labels := map[string]bool{"job": true, "instance": true} // which Prometheus adds
			for _, m := range family.GetMetric() {
				for _, l := range m.GetLabel() {
					labels[l.GetName()] = true
				}
				if m.GetHistogram() != nil {
					for _, suffix := range []string{"_bucket", "_count", "_sum"} {
						known[family.GetName()+suffix] = labels
					}
					labels["le"] = true
				}
			}
			known[family.GetName()] = labels
		}
	})
	check := func(where, expr string) {
		for _, name := range metricName.FindAllString(expr, -1) {
			if known[name] == nil {
				t.Errorf("%s: there is no metric %s", where, name)
			}
		}
		for _, m := range selector.FindAllStringSubmatch(expr, -1) {
			for _, l := range labelName.FindAllStringSubmatch(m[2], -1) {
				if known[m[1]] != nil && !known[m[1]][l[1]] {
					t.Errorf("%s: %s has no label %s", where, m[1], l[1])
				}
			}
		}
	}
	for _, a := range alerts(t) {
		check(a.Alert, a.Expr)
	}
	for _, expr := range dashboard(t) {
		check(expr, expr)
	}
	data, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	check(dashboardFile, strings.ReplaceAll(string(data), `\"`, `"`)) // the variables as well
}

func TestEachAlertIsExplainedAndTested(t *testing.T) {
	book, err := os.ReadFile(deployDir + "/prometheus/RUNBOOK.md")
	if err != nil {
		t.Fatal(err)
	}
	var headings, names, fired []string
	for line := range strings.Lines(string(book)) {
		if name, ok := strings.CutPrefix(line, "## "); ok {
			headings = append(headings, strings.TrimSpace(name))
		}
	}
	for _, a := range alerts(t) {
		names = append(names, a.Alert)
		if !slices.Contains([]string{"critical", "warning", "info"}, a.Labels["severity"]) {
			t.Errorf("%s: severity %q", a.Alert, a.Labels["severity"])
		}
		if a.Annotations["summary"] == "" || a.Annotations["description"] == "" {
			t.Errorf("%s: no summary or no description", a.Alert)
		}
		want := "deploy/prometheus/RUNBOOK.md#" + strings.ToLower(a.Alert)
		if got := a.Annotations["runbook"]; got != want {
			t.Errorf("%s: runbook %q, want %q", a.Alert, got, want)
		}
	}
	if diff := cmp.Diff(names, headings); diff != "" {
		t.Errorf("alerts and headings of the runbook (-alerts +runbook):\n%s", diff)
	}
	var file struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	readYAML(t, deployDir+"/prometheus/alerts_test.yaml", &file)
	for _, test := range file.Tests {
		for _, r := range test.AlertRuleTest {
			if len(r.ExpAlerts) > 0 && !slices.Contains(fired, r.Alertname) {
				fired = append(fired, r.Alertname)
			}
		}
	}
	if diff := cmp.Diff(names, fired); diff != "" {
		t.Errorf("alerts that a test makes fire (-alerts +tests):\n%s", diff)
	}
}

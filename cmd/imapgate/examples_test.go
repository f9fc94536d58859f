package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"imapgate/cmd/imapgate/internal/config"
	"imapgate/proxy/proxytest"
	"imapgate/tlsconf"
)

const examples = "../../configs"

// installExample puts an example where it says it belongs, below a directory of
// its own, with certificates and secrets in the places that it names.
func installExample(t *testing.T, name string) (path string) {
	t.Helper()
	dir := t.TempDir()
	text, err := os.ReadFile(filepath.Join(examples, name))
	if err != nil {
		t.Fatal(err)
	}
	tables, err := filepath.Glob(examples + "/*.map")
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range tables {
		rows, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		writeFiles(t, dir, map[string]string{filepath.Base(table): string(rows)})
	}
	if err := os.Mkdir(filepath.Join(dir, "tls"), 0o700); err != nil {
		t.Fatal(err)
	}
	ca := proxytest.NewCA(t)
	caPEM, err := os.ReadFile(ca.WritePEM(t, dir))
	if err != nil {
		t.Fatal(err)
	}
	writeFiles(t, dir, map[string]string{
		"ca.pem": string(caPEM), "client-ca.pem": string(caPEM), "master.secret": "imapgate\n", "probe.secret": "imapgate\n",
		"eab.secret": "c2VjcmV0\n", "tsig.secret": "c2VjcmV0\n",
		"admin.tokens": "prometheus 0123456789abcdef\n",
	})
	for _, pair := range [][2]string{{"fullchain.pem", "privkey.pem"}, {"example.com.pem", "example.com.key"}, {"client.pem", "client.key"}} {
		cert, key := proxytest.WritePair(t, t.TempDir(), "pair", ca.Issue(t, proxytest.CertOptions{}))
		if err := os.Rename(cert, filepath.Join(dir, "tls", pair[0])); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(key, filepath.Join(dir, "tls", pair[1])); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tlsconf.RotateTicketKeys(filepath.Join(dir, "tickets.keys"), 0, time.Now()); err != nil {
		t.Fatal(err)
	}
	places := strings.NewReplacer("/etc/imapgate/", dir+"/", "/var/lib/imapgate", dir)
	writeFiles(t, dir, map[string]string{name: places.Replace(string(text))})
	return filepath.Join(dir, name)
}

func TestExamplesPassCheck(t *testing.T) {
	files, err := filepath.Glob(examples + "/*.yaml")
	if err != nil || len(files) < 3 {
		t.Fatalf("examples: %q, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			path := installExample(t, filepath.Base(file))
			if code, stdout, stderr := command(t, "check", "-c", path); code != exitOK {
				t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
			}
		})
	}
}

func TestExampleTablesAreUsed(t *testing.T) {
	for conf, users := range map[string]map[string]string{
		"minimal.yaml":  {"alice@example.org": "mail1", "bob@example.org": "mail2", "anybody@example.com": "mail2"},
		"imapgate.yaml": {"alice@example.org": "mail1", "carol": "mail1", "x@old.example.com": "mail2"},
	} {
		path := installExample(t, conf)
		for user, backend := range users {
			if code, stdout, stderr := command(t, "lookup", "-c", path, user); code != exitOK || !strings.Contains(stdout, "backend  "+backend) {
				t.Errorf("%s: lookup %s: exit code %d\n%s%s", conf, user, code, stdout, stderr)
			}
		}
	}
}

func TestTheFullExampleNamesEveryKey(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(examples, "imapgate.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range config.Reference() {
		name := k.Path[strings.LastIndexByte(k.Path, '.')+1:]
		if !regexp.MustCompile(`(?m)\b` + name + `:`).Match(text) {
			t.Errorf("%s is not in configs/imapgate.yaml", k.Path)
		}
	}
}

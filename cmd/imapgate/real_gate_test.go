package main_test

import (
	"bytes"
	"crypto/tls"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.yaml.in/yaml/v4"

	"imapgate/proxy/proxytest"
)

// Tests whose names begin with TestReal run the imapgate command, as users
// start it, between Dovecot servers and clients that this project did not
// write. Each starts its own processes on loopback and ends them.

// realVariable makes the test binary behave as imapgate. See TestMain.
const realVariable = "IMAPGATE_TEST_RUN"

// realMap is a mapping of the configuration file.
type realMap = map[string]any

// realGateConfig is what a test wants of its imapgate.
type realGateConfig struct {
	CA       *realCA
	Backends realMap   // the section backends
	Table    string    // the routing table's text
	Default  string    // where users go that the table does not name
	Listen   []realMap // further listeners; addresses may be left out
	Login    realMap   // over the settings that suit all tests
	More     realMap   // further sections, over the settings that suit all tests
	Secrets  []string  // must never be logged, besides nothing else of note
}

// realGate is one running imapgate.
type realGate struct {
	TLS      string   // address: implicit TLS
	STARTTLS string   // address: clear text, then STARTTLS
	Clear    string   // address: clear text logins
	More     []string // addresses of the further listeners

	ca      *realCA
	table   string // file
	log     string // file
	secrets []string
	cmd     *exec.Cmd
	exited  chan error // receives the result of cmd.Wait
}

// startRealGate runs `imapgate serve` and ends it with the test, by SIGTERM,
// with exit status 0.
func startRealGate(t *testing.T, cfg realGateConfig) *realGate {
	t.Helper()
	dir := t.TempDir()
	g := &realGate{
		TLS:      proxytest.FreeAddress(t),
		STARTTLS: proxytest.FreeAddress(t),
		Clear:    proxytest.FreeAddress(t),
		ca:       cfg.CA,
		table:    filepath.Join(dir, "users.map"),
		log:      filepath.Join(dir, "log"),
		secrets:  cfg.Secrets,
		exited:   make(chan error, 1),
	}
	listen := []realMap{
		{"address": g.TLS, "tls": "implicit"},
		{"address": g.STARTTLS, "tls": "starttls"},
		{"address": g.Clear, "tls": "none"},
	}
	for _, more := range cfg.Listen {
		l := maps.Clone(more)
		addr, ok := l["address"].(string)
		if !ok {
			addr = proxytest.FreeAddress(t)
			l["address"] = addr
		}
		g.More = append(g.More, addr)
		listen = append(listen, l)
	}
	route := realMap{"tables": []string{g.table}}
	if cfg.Default != "" {
		route["default"] = cfg.Default
	}
	login := realMap{
		"exempt_networks": []string{"127.0.0.0/8"}, // failed logins are not delayed
		"backend_timeout": "10s",
	}
	maps.Copy(login, cfg.Login)
	pair := cfg.CA.Server(t, "imapgate")
	sections := realMap{
		"listen":   listen,
		"tls":      realMap{"certificates": []realMap{{"cert": pair.Cert, "key": pair.Key}}},
		"backends": cfg.Backends,
		"route":    route,
		"login":    login,
		"health":   realMap{"interval": "1s"},
		"shutdown": realMap{"timeout": "10s"},
		"log":      realMap{"format": "json", "level": "debug"},
	}
	maps.Copy(sections, cfg.More)
	text, err := yaml.Marshal(sections)
	if err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "imapgate.yaml")
	if err := os.WriteFile(config, text, 0o600); err != nil {
		t.Fatal(err)
	}
	g.WriteTable(t, cfg.Table)

	out, err := os.Create(g.log)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	// The test binary itself is imapgate, race detector and all.
	binary, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	g.cmd = exec.Command(binary, "serve", "-c", config)
	g.cmd.Env = append(os.Environ(), realVariable+"=1")
	g.cmd.Stdout, g.cmd.Stderr = out, out
	if err := g.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { g.exited <- g.cmd.Wait() }()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("%s\n%s:\n%s", text, g.log, realTail(g.log))
		}
	})
	t.Cleanup(func() { g.Stop(t) })
	for _, addr := range append([]string{g.TLS, g.STARTTLS, g.Clear}, g.More...) {
		listening := realEventually(t, func() bool {
			conn, err := net.DialTimeout("tcp", addr, time.Second)
			if err == nil {
				conn.Close()
			}
			return err == nil || len(g.exited) > 0
		})
		if !listening || len(g.exited) > 0 {
			t.Fatalf("imapgate does not listen on %s", addr)
		}
	}
	return g
}

// WriteTable replaces the routing table's file.
func (g *realGate) WriteTable(t *testing.T, text string) {
	t.Helper()
	next := g.table + ".new"
	if err := errors.Join(os.WriteFile(next, []byte(text), 0o600), os.Rename(next, g.table)); err != nil {
		t.Fatal(err)
	}
}

// Signal sends a signal to the running imapgate.
func (g *realGate) Signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := g.cmd.Process.Signal(s); err != nil {
		t.Errorf("signal imapgate: %v", err)
	}
}

// Stop ends imapgate, and looks at how it ended and at what it logged.
func (g *realGate) Stop(t *testing.T) {
	t.Helper()
	if g.cmd == nil {
		return
	}
	if len(g.exited) == 0 {
		g.Signal(t, syscall.SIGTERM)
	}
	g.WaitExit(t)
}

// WaitExit waits for imapgate to end by itself, with exit status 0.
func (g *realGate) WaitExit(t *testing.T) {
	t.Helper()
	force := time.AfterFunc(realPatience, func() { _ = g.cmd.Process.Kill() })
	defer force.Stop()
	if err := <-g.exited; err != nil {
		t.Errorf("imapgate: %v", err)
	}
	g.cmd = nil
	log, err := os.ReadFile(g.log)
	if err != nil {
		t.Fatal(err)
	}
	for _, bad := range []string{"DATA RACE", "panic", "goroutine "} {
		if bytes.Contains(log, []byte(bad)) {
			t.Errorf("imapgate logged %q", bad)
		}
	}
	for _, s := range g.secrets {
		for _, form := range []string{s, base64.StdEncoding.EncodeToString([]byte(s)), hex.EncodeToString([]byte(s))} {
			if bytes.Contains(log, []byte(form)) {
				t.Errorf("imapgate logged a secret: %q", form)
			}
		}
	}
}

// logged tells whether a line of imapgate's log has all the values, in
// whatever fields.
func (g *realGate) logged(t *testing.T, values ...string) bool {
	t.Helper()
	return realEventually(t, func() bool {
		log, err := os.ReadFile(g.log)
		if err != nil {
			t.Fatal(err)
		}
		for line := range bytes.Lines(log) {
			var fields realMap
			if json.Unmarshal(line, &fields) != nil {
				continue
			}
			found := 0
			for _, want := range values {
				for _, have := range fields {
					if s, ok := have.(string); ok && strings.Contains(s, want) {
						found++
						break
					}
				}
			}
			if found == len(values) {
				return true
			}
		}
		return false
	})
}

// tlsConfig returns what a client of imapgate needs.
func (g *realGate) tlsConfig() *tls.Config {
	return &tls.Config{RootCAs: g.ca.Pool, ServerName: "localhost"}
}

// Dial connects to the port with implicit TLS and reads the greeting.
func (g *realGate) Dial(t *testing.T) *realConn {
	t.Helper()
	return dialRealTLS(t, g.TLS, g.tlsConfig())
}

// DialSTARTTLS connects to the port with STARTTLS and has used it.
func (g *realGate) DialSTARTTLS(t *testing.T) *realConn {
	t.Helper()
	c := dialReal(t, g.STARTTLS)
	c.OK("STARTTLS")
	c.upgrade(g.tlsConfig())
	return c
}

// DialClear connects to the port without TLS.
func (g *realGate) DialClear(t *testing.T) *realConn {
	t.Helper()
	return dialReal(t, g.Clear)
}

// WaitMechanism waits until imapgate has learned that its backends offer a
// mechanism.
func (g *realGate) WaitMechanism(t *testing.T, name string) {
	t.Helper()
	if !realEventually(t, func() bool {
		c := g.Dial(t)
		defer c.Close()
		return strings.Contains(c.Greeting+" ", " AUTH="+name+" ") || strings.Contains(c.Greeting, " AUTH="+name+"]")
	}) {
		t.Fatalf("imapgate does not offer %s", name)
	}
}

package proxy_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/tools/txtar"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
	"imapgate/route"
)

// everyoneAt routes everybody to one backend.
func everyoneAt(tb testing.TB, backend string) *route.Table {
	tb.Helper()
	return proxytest.NewTable(tb, route.Definition{Backends: []route.Backend{{Name: backend, Address: "192.0.2.1:143"}}}, backend)
}

// FuzzDialogue sends anything to a listener without TLS, one that wants STARTTLS
// and one that wants a PROXY header, in chunks of any size, with no backend that
// could be reached. Whatever comes in, what goes out is IMAP: lines that begin
// with "*", "+" or a tag that the client sent.
func FuzzDialogue(f *testing.F) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		a, err := txtar.ParseFile(file)
		if err != nil {
			f.Fatal(err)
		}
		var said strings.Builder
		for _, section := range a.Files {
			for line := range strings.Lines(string(section.Data)) {
				if text, ok := strings.CutPrefix(line, "C: "); ok {
					said.WriteString(strings.TrimSuffix(text, "\n") + "\r\n")
				}
			}
		}
		for mode := range uint8(3) {
			f.Add([]byte(said.String()), mode, uint16(7))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, mode uint8, chunk uint16) {
		synctest.Test(t, func(t *testing.T) {
			said, logged := converse(t, data, mode, int(chunk))
			if strings.Contains(logged, "panic") {
				t.Fatalf("a panic was logged for %q", data)
			}
			said, behind, starts := bytes.Cut(said, []byte(" OK Begin TLS negotiation now.\r\n"))
			if len(behind) > 0 && behind[0] != 0x15 {
				t.Errorf("behind STARTTLS came no alert: %q", behind)
			}
			if starts { // its tag alone is left
				said = append(bytes.Clone(said), "\r\n"...)
			}
			for line := range bytes.Lines(said) {
				first, _, _ := bytes.Cut(bytes.TrimSuffix(line, []byte("\r\n")), []byte{' '})
				if !bytes.HasSuffix(line, []byte("\r\n")) {
					t.Errorf("a line without its end: %q", line)
				}
				if s := string(first); s != "*" && s != "+" && (len(s) > 64 || !bytes.Contains(data, first)) {
					t.Errorf("a line that begins with no tag of the client's: %q", line)
				}
			}
		})
	})
}

// converse sends data to a server, and returns what the server said and logged.
func converse(t *testing.T, data []byte, mode uint8, chunk int) (said []byte, logged string) {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	server, err := proxy.NewServer(&proxy.Config{
		Router:     everyoneAt(t, "mail1"),
		Backends:   map[string]*proxy.Backend{"mail1": {Name: "mail1", Address: "192.0.2.1:143", TLS: proxy.TLSNone}},
		Mechanisms: []string{"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "EXTERNAL", "SCRAM-SHA-1", "SCRAM-SHA-256"},
	}, proxy.Options{
		Logger: zap.New(core),
		Dial: func(context.Context, *proxy.Backend) (net.Conn, error) {
			return nil, errors.New("nobody there")
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ln := proxytest.NewListener(netip.MustParseAddrPort("198.51.100.1:143"))
	l := &proxy.Listener{Listener: ln, Name: "fuzz", TLS: proxy.TLSNone}
	switch mode % 3 {
	case 1:
		l.TLS, l.TLSConfig = proxy.TLSStartTLS, &tls.Config{MinVersion: tls.VersionTLS12} // no handshake succeeds
	case 2:
		l.ProxyFrom = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(t.Context(), l) }()
	client, err := ln.Connect(netip.MustParseAddrPort("192.0.2.9:4000"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for len(data) > 0 {
			n := min(len(data), max(chunk, 1))
			if _, err := client.Write(data[:n]); err != nil {
				break
			}
			data = data[n:]
			synctest.Wait()
		}
		_ = client.CloseWrite()
	}()
	_ = client.SetReadDeadline(time.Now().Add(10 * time.Minute))
	said, err = io.ReadAll(client)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the connection lives on after its time: %v", err)
	}
	_ = server.Close()
	if err := <-done; !errors.Is(err, proxy.ErrServerClosed) {
		t.Errorf("Serve: %v", err)
	}
	var all strings.Builder
	for _, e := range logs.All() {
		all.WriteString(e.Message + "\n")
	}
	return said, all.String()
}

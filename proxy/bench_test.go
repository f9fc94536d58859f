package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"imapgate/proxy"
	"imapgate/proxy/proxytest"
)

// benchGate is a server in clear text for benchmarks, whose backend is mail1.
func benchGate(b *testing.B, warm int) *proxytest.Listener {
	b.Helper()
	network := new(proxytest.Network)
	network.Add("mail1", new(proxytest.Backend))
	cfg := oneBackend(b)
	cfg.Backends["mail1"].Warm = warm
	server, err := proxy.NewServer(cfg, proxy.Options{Dial: network.Dial})
	if err != nil {
		b.Fatal(err)
	}
	l := proxytest.NewListener(netip.MustParseAddrPort("198.51.100.1:143"))
	go func() { _ = server.Serve(b.Context(), &proxy.Listener{Listener: l, Name: "bench", TLS: proxy.TLSNone}) }()
	b.Cleanup(func() {
		_ = server.Close()
		network.Close()
	})
	return l
}

// dialogue sends lines one after the other, each when the one before has its tagged
// reply, and reads to the end behind the last one.
func dialogue(b *testing.B, l *proxytest.Listener, lines ...string) {
	b.Helper()
	nc, err := l.Connect(netip.MustParseAddrPort("192.0.2.1:40000"))
	if err != nil {
		b.Fatal(err)
	}
	in := bufio.NewReaderSize(nc, 512)
	if _, err := in.ReadString('\n'); err != nil {
		b.Fatal(err)
	}
	for _, line := range lines {
		_, _ = io.WriteString(nc, line)
		tag, _, _ := strings.Cut(line, " ")
		for reply := "*"; !strings.HasPrefix(reply, tag); {
			if reply, err = in.ReadString('\n'); err != nil {
				b.Fatal(err)
			}
		}
	}
	_, _ = io.Copy(io.Discard, in)
	_ = nc.Close()
}

// BenchmarkDialogue is a connection that ends before its login: the greeting, and what
// mail programs ask.
func BenchmarkDialogue(b *testing.B) {
	l := benchGate(b, 0)
	b.ReportAllocs()
	for b.Loop() {
		dialogue(b, l, "a CAPABILITY\r\n", "b ID (\"name\" \"Mail\" \"version\" \"1.2\" \"os\" \"Linux\")\r\n", "c NOOP\r\n", "d LOGOUT\r\n")
	}
}

// BenchmarkLogin is a connection from its greeting to its end, with a login and
// nothing else, through a connection of its own to the backend or a warm one.
func BenchmarkLogin(b *testing.B) {
	for _, warm := range []int{0, 8} {
		b.Run(fmt.Sprintf("warm=%d", warm), func(b *testing.B) {
			l := benchGate(b, warm)
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				dialogue(b, l, fmt.Sprintf("a LOGIN user%d secret\r\n", i), "b LOGOUT\r\n")
				i++
			}
		})
	}
}

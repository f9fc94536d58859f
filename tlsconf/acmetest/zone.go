package acmetest

import (
	"context"
	"encoding/base64"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// The key that updates of a Zone are signed with.
const (
	KeyName      = "acme-update"
	KeyAlgorithm = "hmac-sha256"
)

// Key is its secret, in base64.
var Key = base64.StdEncoding.EncodeToString([]byte("a key that is known to the tests"))

// Zone is a DNS server for one zone. All names in it are at 127.0.0.1; TXT records
// come from updates. See RFC 2136.
type Zone struct {
	Name    string // "example.org"
	Address string // UDP and TCP

	mu      sync.Mutex
	txt     map[string][]string // by name, with the last dot
	updates int
	gone    map[string]bool // names without an address
}

// NewZone serves a zone until the test ends.
func NewZone(tb testing.TB, name string) *Zone {
	tb.Helper()
	z := &Zone{Name: name, txt: make(map[string][]string), gone: make(map[string]bool)}
	var lc net.ListenConfig
	ctx := context.WithoutCancel(tb.Context())
	// The same port for both: the one that UDP gets may be taken for TCP.
	for range 20 {
		udp, err := lc.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		tcp, err := lc.Listen(ctx, "tcp", udp.LocalAddr().String())
		if err != nil {
			_ = udp.Close()
			continue
		}
		z.Address = tcp.Addr().String()
		z.serve(tb, &dns.Server{Listener: tcp})
		z.serve(tb, &dns.Server{PacketConn: udp})
		return z
	}
	tb.Fatal("no port is free for both UDP and TCP")
	return nil
}

func (z *Zone) serve(tb testing.TB, s *dns.Server) {
	tb.Helper()
	s.Handler = z
	s.TsigSecret = map[string]string{dns.Fqdn(KeyName): Key}
	s.MsgAcceptFunc = func(dns.Header) dns.MsgAcceptAction { return dns.MsgAccept }
	started, done := make(chan struct{}), make(chan struct{})
	s.NotifyStartedFunc = func() { close(started) }
	go func() {
		defer close(done)
		_ = s.ActivateAndServe()
	}()
	<-started
	tb.Cleanup(func() {
		_ = s.Shutdown()
		<-done
	})
}

// Updates returns how many there were.
func (z *Zone) Updates() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	return z.updates
}

// Records returns how many TXT records there are now.
func (z *Zone) Records() int {
	z.mu.Lock()
	defer z.mu.Unlock()
	n := 0
	for _, values := range z.txt {
		n += len(values)
	}
	return n
}

// Forget takes the address of a name away.
func (z *Zone) Forget(name string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.gone[dns.Fqdn(name)] = true
}

// ServeDNS implements [dns.Handler].
func (z *Zone) ServeDNS(w dns.ResponseWriter, r *dns.Msg) {
	z.mu.Lock()
	defer z.mu.Unlock()
	m := new(dns.Msg).SetReply(r)
	m.Authoritative = true
	if key := r.IsTsig(); key != nil {
		m.SetTsig(key.Hdr.Name, key.Algorithm, 300, time.Now().Unix())
	}
	switch {
	case r.Opcode == dns.OpcodeUpdate && (r.IsTsig() == nil || w.TsigStatus() != nil):
		m.Rcode = dns.RcodeRefused
	case r.Opcode == dns.OpcodeUpdate:
		z.updates++
		for _, rr := range r.Ns {
			z.update(rr)
		}
	case len(r.Question) == 1:
		z.answer(m, strings.ToLower(r.Question[0].Name), r.Question[0].Qtype)
	}
	_ = w.WriteMsg(m)
}

// update changes the records of a name. See RFC 2136, Section 2.5.
func (z *Zone) update(rr dns.RR) {
	name := strings.ToLower(rr.Header().Name)
	txt, ok := rr.(*dns.TXT)
	switch {
	case rr.Header().Class == dns.ClassANY:
		delete(z.txt, name)
	case !ok:
	case rr.Header().Class == dns.ClassNONE:
		z.txt[name] = slices.DeleteFunc(z.txt[name], func(v string) bool { return v == strings.Join(txt.Txt, "") })
	default:
		z.txt[name] = append(z.txt[name], strings.Join(txt.Txt, ""))
	}
}

// answer answers a question.
func (z *Zone) answer(m *dns.Msg, name string, kind uint16) {
	apex := dns.Fqdn(z.Name)
	header := func(name string, kind uint16) dns.RR_Header {
		return dns.RR_Header{Name: name, Rrtype: kind, Class: dns.ClassINET}
	}
	soa := &dns.SOA{Hdr: header(apex, dns.TypeSOA), Ns: "ns." + apex, Mbox: "root." + apex, Serial: 1, Minttl: 1}
	if !dns.IsSubDomain(apex, name) {
		m.Rcode = dns.RcodeNameError
		return
	}
	switch {
	case kind == dns.TypeSOA && name == apex:
		m.Answer = append(m.Answer, soa)
		return
	case kind == dns.TypeA && !z.gone[name]:
		m.Answer = append(m.Answer, &dns.A{Hdr: header(name, kind), A: net.IPv4(127, 0, 0, 1)})
	case kind == dns.TypeTXT:
		for _, v := range z.txt[name] {
			m.Answer = append(m.Answer, &dns.TXT{Hdr: header(name, kind), Txt: []string{v}})
		}
	}
	if len(m.Answer) == 0 {
		m.Ns = append(m.Ns, soa)
	}
}

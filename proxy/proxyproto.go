package proxy

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pires/go-proxyproto"
	"github.com/pires/go-proxyproto/tlvparse"
)

// proxyHeaderTimeout bounds the arrival of a PROXY header. Who is configured to
// send one sends it at once.
const proxyHeaderTimeout = 3 * time.Second

// maxProxyV1 is the longest version 1 header without its CRLF.
const maxProxyV1 = 105

// readProxyHeader reads the PROXY header of a listener that expects one. It is
// believed from configured networks only, and mandatory from them: guessing
// would let any client choose its address. See the PROXY protocol, Sections 2
// and 5.
func (c *conn) readProxyHeader() error {
	if len(c.l.ProxyFrom) == 0 {
		c.mayLogin = c.l.TLS != TLSStartTLS
		return nil
	}
	c.state = "proxy"
	if !contains(c.l.ProxyFrom, c.client.remote.Addr()) {
		return errors.New("no PROXY header is believed from this address")
	}
	c.setDeadline(earlier(time.Now().Add(proxyHeaderTimeout), c.started.Add(c.cfg.LoginTimeout)))
	raw, err := c.proxyHeaderBytes()
	if err != nil {
		return fmt.Errorf("PROXY header: %w", err)
	}
	h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(raw)))
	if err != nil {
		return fmt.Errorf("PROXY header: %w", err)
	}
	c.setDeadline(c.started.Add(c.cfg.LoginTimeout))
	// A LOCAL header, and version 1's UNKNOWN, is the sender's own connection,
	// a health check: its endpoints are the real ones.
	if src, dst, ok := h.TCPAddrs(); ok && !h.Command.IsLocal() {
		c.origin.remote, c.origin.local = addrPort(src), addrPort(dst)
	}
	c.mayLogin = c.l.TLS != TLSStartTLS && !c.l.ProxyTLS
	err = c.believeTLVs(h)
	c.client = c.origin
	return err
}

// proxyHeaderBytes reads exactly one header, whatever segments it comes in.
func (c *conn) proxyHeaderBytes() ([]byte, error) {
	first, err := c.in.Peek(1)
	if err != nil {
		return nil, err
	}
	if first[0] == proxyproto.SIGV1[0] {
		line, err := c.in.ReadLine(nil, maxProxyV1)
		return append(line, '\r', '\n'), err
	}
	const v2Head = 16 // signature, version and command, family, length
	head := make([]byte, v2Head)
	if _, err := io.ReadFull(c.in, head); err != nil {
		return nil, err
	}
	if !bytes.HasPrefix(head, proxyproto.SIGV2) {
		return nil, errors.New("not a PROXY header")
	}
	size := binary.BigEndian.Uint16(head[v2Head-2:])
	if size > proxyproto.MaxV2HeaderSize {
		return nil, fmt.Errorf("%d bytes are too many", size)
	}
	raw := append(head, make([]byte, size)...)
	_, err = io.ReadFull(c.in, raw[v2Head:])
	return raw, err
}

// believeTLVs takes what the header says of TLS, if TLS ends in front of this
// listener.
func (c *conn) believeTLVs(h *proxyproto.Header) error {
	if !c.l.ProxyTLS || h.Version != 2 {
		return nil
	}
	tlvs, err := h.TLVs()
	if err != nil {
		return fmt.Errorf("PROXY header: %w", err)
	}
	for _, t := range tlvs {
		if t.Type == proxyproto.PP2_TYPE_AUTHORITY && printable(t.Value) {
			c.origin.name = string(t.Value)
		}
	}
	ssl, ok := tlvparse.FindSSL(tlvs)
	if !ok || !ssl.ClientSSL() {
		return nil
	}
	c.mayLogin = true
	version, _ := ssl.SSLVersion()
	cipher, _ := ssl.SSLCipher()
	name, _ := ssl.ClientCN()
	c.origin.tls = tlsInfo{
		version:    strings.Replace(version, "TLSv", "TLS ", 1), // as crypto/tls writes it
		cipher:     cipher,
		commonName: name,
		verified:   ssl.ClientCertSess() && ssl.Verified(),
	}
	return nil
}

// proxyHeader returns the PROXY header that tells a backend who the client is.
// Without a client it is the proxy's own connection: LOCAL. A client and a
// backend of different address families are both written as IPv6.
func proxyHeader(version byte, cl *clientInfo, nc net.Conn) ([]byte, error) {
	src, dst := net.Addr(nil), net.Addr(nil)
	if cl != nil && cl.remote.IsValid() && cl.local.IsValid() {
		src, dst = net.TCPAddrFromAddrPort(cl.remote), net.TCPAddrFromAddrPort(cl.local)
	}
	h := proxyproto.HeaderProxyFromAddrs(version, src, dst)
	if version == 2 && src != nil && cl.tls.version != "" {
		if err := h.SetTLVs(tlvsFor(cl)); err != nil {
			return nil, fmt.Errorf("PROXY header: %w", err)
		}
	}
	b, err := h.Format()
	if err != nil {
		return nil, fmt.Errorf("PROXY header to %s: %w", nc.RemoteAddr(), err)
	}
	return b, nil
}

// tlvsFor tells a backend how the client's leg is encrypted. See the PROXY
// protocol, Section 2.2.6.
func tlvsFor(cl *clientInfo) []proxyproto.TLV {
	sub := func(t proxyproto.PP2Type, v string) proxyproto.TLV {
		return proxyproto.TLV{Type: t, Value: []byte(v)}
	}
	ssl := tlvparse.PP2SSL{
		Client: tlvparse.PP2_BITFIELD_CLIENT_SSL,
		Verify: 1, // "non-zero": no certificate was verified
		TLV:    []proxyproto.TLV{sub(proxyproto.PP2_SUBTYPE_SSL_VERSION, strings.Replace(cl.tls.version, "TLS ", "TLSv", 1))},
	}
	if cipher := cl.tls.cipherName(); cipher != "" {
		ssl.TLV = append(ssl.TLV, sub(proxyproto.PP2_SUBTYPE_SSL_CIPHER, cipher))
	}
	if cl.tls.verified {
		ssl.Client |= tlvparse.PP2_BITFIELD_CLIENT_CERT_CONN | tlvparse.PP2_BITFIELD_CLIENT_CERT_SESS
		ssl.Verify = 0
		if cl.tls.commonName != "" {
			ssl.TLV = append(ssl.TLV, sub(proxyproto.PP2_SUBTYPE_SSL_CN, cl.tls.commonName))
		}
	}
	var tlvs []proxyproto.TLV
	if cl.name != "" {
		tlvs = append(tlvs, sub(proxyproto.PP2_TYPE_AUTHORITY, cl.name))
	}
	if t, err := ssl.Marshal(); err == nil {
		tlvs = append(tlvs, t)
	}
	return tlvs
}

// contains says whether a is in one of the networks.
func contains(networks []netip.Prefix, a netip.Addr) bool {
	a = a.Unmap().WithZone("") // a prefix has none, and matches no address that has
	return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// printable says whether b is what may stand in a log and in an ID value.
func printable(b []byte) bool {
	return !slices.ContainsFunc(b, func(ch byte) bool { return ch < ' ' || ch > '~' })
}

package proxytest

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// The PROXY protocol, version 2: an implementation of its own, so that the
// proxy's is measured against something else.
// See the PROXY protocol, Section 2.2.
const (
	proxyMagic = "\r\n\r\n\x00\r\nQUIT\n"

	tlvALPN      = 0x01
	tlvAuthority = 0x02
	tlvSSL       = 0x20
	tlvSSLVer    = 0x21
	tlvSSLCN     = 0x22
	tlvSSLCipher = 0x23
)

// header is a PROXY protocol header.
type header struct {
	Local     bool
	From, To  netip.AddrPort
	Authority string
	ALPN      string

	SSL           bool
	HasCert       bool
	Verify        uint32
	Version, Name string // "TLSv1.3"; the client certificate's CN
	Cipher        string
	Others        string // TLVs that nothing is known about
}

// headerOf reads the words of an event: "FROM TO" or "local", and TLVs.
func headerOf(e event) (_ *header, err error) {
	h := new(header)
	words := e.args[min(2, len(e.args)):] // behind "v2 C"
	switch {
	case len(words) == 1 && words[0] == "local":
		h.Local = true
	case len(words) == 2:
		if h.From, err = netip.ParseAddrPort(words[0]); err != nil {
			return h, err
		}
		if h.To, err = netip.ParseAddrPort(words[1]); err != nil {
			return h, err
		}
	default:
		return h, errors.New("want two addresses, or: local")
	}
	h.Authority, h.Version, h.Cipher, h.Name = e.opts["authority"], e.opts["tls"], e.opts["cipher"], e.opts["cn"]
	h.ALPN = e.opts["alpn"]
	h.SSL = h.Version != ""
	h.HasCert = h.Name != ""
	if v, ok := e.opts["verify"]; ok {
		n, err := strconv.ParseUint(v, 10, 32)
		if err != nil {
			return h, err
		}
		h.Verify = uint32(n)
	}
	return h, nil
}

func (h *header) String() string {
	var b strings.Builder
	if h.Local {
		b.WriteString("local")
	} else {
		fmt.Fprintf(&b, "%s %s", h.From, h.To)
	}
	for _, f := range []struct{ key, value string }{
		{"authority", h.Authority},
		{"alpn", h.ALPN},
		{"tls", h.Version},
		{"cipher", h.Cipher},
		{"cn", h.Name},
		{"unknown", h.Others},
	} {
		if f.value != "" {
			fmt.Fprintf(&b, " %s=%s", f.key, f.value)
		}
	}
	if h.Verify != 0 {
		fmt.Fprintf(&b, " verify=%d", h.Verify)
	}
	return b.String()
}

func appendTLV(dst []byte, kind byte, value string) []byte {
	if value == "" {
		return dst
	}
	dst = append(dst, kind)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(value))) //nolint:gosec // short by construction
	return append(dst, value...)
}

// append writes the header behind dst.
func (h *header) append(dst []byte) []byte {
	var body []byte
	command, family := byte(0x21), byte(0x11)
	switch {
	case h.Local:
		command, family = 0x20, 0x00
	default:
		from, to := h.From.Addr(), h.To.Addr()
		if from.Is4() != to.Is4() {
			from, to = netip.AddrFrom16(from.As16()), netip.AddrFrom16(to.As16())
		}
		if !from.Is4() {
			family = 0x21
		}
		body = append(append(body, from.AsSlice()...), to.AsSlice()...)
		body = binary.BigEndian.AppendUint16(body, h.From.Port())
		body = binary.BigEndian.AppendUint16(body, h.To.Port())
	}
	body = appendTLV(body, tlvALPN, h.ALPN)
	body = appendTLV(body, tlvAuthority, h.Authority)
	if h.SSL {
		flags := byte(0x01)
		if h.HasCert {
			flags |= 0x06
		}
		ssl := binary.BigEndian.AppendUint32([]byte{flags}, h.Verify)
		ssl = appendTLV(ssl, tlvSSLVer, h.Version)
		ssl = appendTLV(ssl, tlvSSLCN, h.Name)
		ssl = appendTLV(ssl, tlvSSLCipher, h.Cipher)
		body = appendTLV(body, tlvSSL, string(ssl))
	}
	dst = append(dst, proxyMagic...)
	dst = append(dst, command, family)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(body))) //nolint:gosec // short by construction
	return append(dst, body...)
}

// parseHeader reads the header at the beginning of p, and says how long it is.
func parseHeader(p []byte) (_ *header, size int, err error) {
	h := new(header)
	if !bytes.HasPrefix(p, []byte(proxyMagic)) || len(p) < 16 {
		return h, 0, fmt.Errorf("no PROXY v2 header: %.64q", p)
	}
	command, family := p[12], p[13]
	size = 16 + int(binary.BigEndian.Uint16(p[14:]))
	if len(p) < size {
		return h, 0, fmt.Errorf("header of %d bytes is cut at %d", size, len(p))
	}
	body := p[16:size]
	width := 0
	switch {
	case command == 0x20:
		h.Local = true
	case command == 0x21 && family == 0x11:
		width = 4
	case command == 0x21 && family == 0x21:
		width = 16
	default:
		return h, size, fmt.Errorf("command %#x, family %#x", command, family)
	}
	if width > 0 {
		if len(body) < 2*width+4 {
			return h, size, errors.New("addresses are cut")
		}
		from, _ := netip.AddrFromSlice(body[:width])
		to, _ := netip.AddrFromSlice(body[width : 2*width])
		ports := body[2*width:]
		h.From = netip.AddrPortFrom(from, binary.BigEndian.Uint16(ports))
		h.To = netip.AddrPortFrom(to, binary.BigEndian.Uint16(ports[2:]))
		body = ports[4:]
	}
	return h, size, h.parseTLVs(body)
}

func (h *header) parseTLVs(p []byte) error {
	for len(p) > 0 {
		if len(p) < 3 || len(p) < 3+int(binary.BigEndian.Uint16(p[1:])) {
			return fmt.Errorf("TLVs are cut: %x", p)
		}
		kind, value := p[0], p[3:3+int(binary.BigEndian.Uint16(p[1:]))]
		p = p[3+len(value):]
		switch kind {
		case tlvALPN:
			h.ALPN = string(value)
		case tlvAuthority:
			h.Authority = string(value)
		case tlvSSL:
			if len(value) < 5 {
				return errors.New("the SSL TLV is cut")
			}
			h.SSL, h.HasCert = value[0]&1 != 0, value[0]&2 != 0
			h.Verify = binary.BigEndian.Uint32(value[1:])
			if err := h.parseTLVs(value[5:]); err != nil {
				return err
			}
		case tlvSSLVer:
			h.Version = string(value)
		case tlvSSLCN:
			h.Name = string(value)
		case tlvSSLCipher:
			h.Cipher = string(value)
		default:
			h.Others += hex.EncodeToString(append([]byte{kind}, value...))
		}
	}
	return nil
}

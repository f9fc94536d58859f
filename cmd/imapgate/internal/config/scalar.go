package config

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
)

// scalar is a type of single values: how its text is read and what is expected.
type scalar struct {
	name   string // as the reference calls it
	expect string // what a hint says
	parse  func(text string) (any, error)
}

// errExpected stands for "it is not what is expected", when there is nothing
// more helpful to say.
var errExpected = errors.New("not as expected")

// hintError says what to write instead.
type hintError string

func (e hintError) Error() string { return string(e) }

func hintf(format string, args ...any) error { return hintError(fmt.Sprintf(format, args...)) }

// scalarByName returns the type that a field tag calls name, or nil.
func scalarByName(name string) *scalar {
	switch name {
	case "text":
		return &scalar{name, "text in one line", parseText}
	case "name":
		return &scalar{name, "a name of letters, digits, '.', '_' and '-'", parseName}
	case "file":
		return &scalar{name, "a file name", parseText}
	case "listen":
		return &scalar{"address", `an address to listen on like ":993" or "192.0.2.1:993"`, parseListen}
	case "hostport":
		return &scalar{"address", `a host and a port like "10.0.0.1:993"`, parseHostPort}
	case "domain":
		return &scalar{name, `a domain like "example.org"`, parseDomain}
	case "subject":
		return &scalar{"domain", `a domain like "imap.example.org"`, parseSubject}
	case "label":
		return &scalar{name, `the first part of a domain like "imap", or "@" for the domain itself`, parseLabel}
	case "email":
		return &scalar{"e-mail address", `an e-mail address like "postmaster@example.org"`, parseEmail}
	case "https":
		return &scalar{"URL", `an address like "https://acme-v02.api.letsencrypt.org/directory"`, parseHTTPS}
	case "server":
		return &scalar{"address", `a host like "ns1.example.org", or a host and a port`, parseServer}
	case "ip":
		return &scalar{"IP address", `an IP address like "10.0.0.1"`, parseIP}
	case "network":
		return &scalar{name, `a network like "10.0.0.0/8" or an IP address`, parseNetwork}
	case "duration":
		return &scalar{name, `a duration like "30s", "5m" or "1h30m"`, func(s string) (any, error) { return parseDuration(s, 1) }}
	case "interval":
		return &scalar{"duration", `a duration like "30s", or "0s" for never`, func(s string) (any, error) { return parseDuration(s, 0) }}
	case "bool":
		return &scalar{"boolean", "true or false", parseBool}
	case "pin":
		return &scalar{name, `"sha256/" and base64, or 64 hex digits: the SHA-256 of the public key`, parsePin}
	case "atom":
		return &scalar{name, "a capability's name like IDLE", parseAtom}
	}
	return nil
}

// enumScalar is a type of a few words.
func enumScalar(words []string) *scalar {
	return &scalar{strings.Join(words, " | "), oneOf(words), func(s string) (any, error) {
		if slices.Contains(words, s) {
			return s, nil
		}
		if n := nearest(s, words); n != "" {
			return nil, hintf("did you mean %q?", n)
		}
		return nil, errExpected
	}}
}

// intScalar is a whole number within bounds.
func intScalar(low, high int) *scalar {
	expect := fmt.Sprintf("a whole number from %d to %d", low, high)
	return &scalar{"number", expect, func(s string) (any, error) {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return nil, errExpected
		}
		return n, nil
	}}
}

func parseText(s string) (any, error) {
	if s == "" {
		return nil, hintf("it is empty; leave the key out instead")
	}
	if strings.ContainsFunc(s, func(r rune) bool { return unicode.IsControl(r) }) {
		return nil, hintf("it holds a line end or a control character")
	}
	return s, nil
}

var nameForm = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func parseName(s string) (any, error) {
	if !nameForm.MatchString(s) {
		return nil, errExpected
	}
	return s, nil
}

func parseListen(s string) (any, error) {
	host, err := splitAddress(s, 0)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err != nil && host != "" && !isHostName(host) {
		return nil, errExpected
	}
	return s, nil
}

func parseHostPort(s string) (any, error) {
	host, err := splitAddress(s, 1)
	if err != nil {
		return nil, err
	}
	if _, err := netip.ParseAddr(host); err != nil && !isHostName(host) {
		return nil, errExpected
	}
	return s, nil
}

// splitAddress returns the host of host:port after a look at the port.
func splitAddress(s string, least int) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		if _, ipErr := netip.ParseAddr(s); ipErr == nil || isHostName(s) {
			return "", hintf("the port is missing: write %q", net.JoinHostPort(s, "993"))
		}
		return "", errExpected
	}
	n, err := strconv.Atoi(port)
	if err != nil || n < least || n > 65535 || port != strconv.Itoa(n) {
		return "", hintf("a port is a number up to 65535, such as 993")
	}
	return host, nil
}

var hostForm = regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.)*[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?\.?$`)

func isHostName(s string) bool { return len(s) <= 253 && hostForm.MatchString(s) }

func parseDomain(s string) (any, error) {
	if rest, ok := strings.CutPrefix(s, "@"); ok {
		return nil, hintf("write %q without the @", rest)
	}
	if !isHostName(s) {
		return nil, errExpected
	}
	return s, nil
}

func parseIP(s string) (any, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return nil, errExpected
	}
	return a, nil
}

func parseNetwork(s string) (any, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return nil, errExpected
	}
	if masked := p.Masked(); masked != p {
		return nil, hintf("bits of the host are set: write %s", masked)
	}
	return p, nil
}

func parseDuration(s string, least time.Duration) (any, error) {
	d, err := time.ParseDuration(s)
	if _, intErr := strconv.Atoi(s); intErr == nil && s != "0" {
		return nil, hintf("a unit is missing: write %q", s+"s")
	}
	if err != nil || d < least {
		return nil, errExpected
	}
	return d, nil
}

func parseBool(s string) (any, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	case "yes", "on", "Yes", "YES", "ON", "On", "True", "TRUE", "1":
		return nil, hintf("write true")
	case "no", "off", "No", "NO", "OFF", "Off", "False", "FALSE", "0":
		return nil, hintf("write false")
	}
	return nil, errExpected
}

func parsePin(s string) (any, error) {
	if b64, ok := strings.CutPrefix(s, "sha256/"); ok {
		if sum, err := base64.StdEncoding.Strict().DecodeString(b64); err == nil && len(sum) == 32 {
			return s, nil
		}
		return nil, errExpected
	}
	if sum, err := hex.DecodeString(s); err != nil || len(sum) != 32 {
		return nil, errExpected
	}
	return s, nil
}

// parseAtom takes what may stand in a CAPABILITY response. See RFC 9051,
// Section 9, capability.
func parseAtom(s string) (any, error) {
	if s == "" || len(s) > 64 || strings.ContainsFunc(s, func(r rune) bool {
		return r <= ' ' || r >= 0x7f || strings.ContainsRune(`(){%*"\]`, r)
	}) {
		return nil, errExpected
	}
	return s, nil
}

// parseSubject takes what a certificate may be for: a host name, or all those with
// one more label.
func parseSubject(s string) (any, error) {
	if _, err := netip.ParseAddr(s); err == nil {
		return nil, hintf("certificates are for names, not for addresses")
	}
	name := strings.ToLower(strings.TrimSuffix(s, "."))
	if strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
		return nil, hintf("write its ASCII form, which begins with xn--")
	}
	if !isHostName(strings.TrimPrefix(name, "*.")) || strings.Contains(name, "_") {
		return nil, errExpected
	}
	return name, nil
}

func parseLabel(s string) (any, error) {
	if s == "@" {
		return s, nil
	}
	if !isHostName(s) || strings.ContainsAny(s, "._") {
		return nil, errExpected
	}
	return strings.ToLower(s), nil
}

func parseEmail(s string) (any, error) {
	local, domain, ok := strings.Cut(s, "@")
	if !ok || local == "" || !isHostName(domain) || strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
		return nil, errExpected
	}
	return s, nil
}

func parseHTTPS(s string) (any, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Host == "":
		return nil, errExpected
	case u.Scheme != "https":
		return nil, hintf("it must begin with https://")
	}
	return s, nil
}

func parseServer(s string) (any, error) {
	if _, err := netip.ParseAddr(s); err == nil || isHostName(s) {
		return s, nil
	}
	return parseHostPort(s)
}

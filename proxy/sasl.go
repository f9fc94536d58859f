package proxy

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"

	"github.com/emersion/go-sasl"

	"imapgate/proxy/imap"
)

// commandLogin is what the LOGIN command is called where mechanisms are named.
const commandLogin = "LOGIN-COMMAND"

// attempt is one login that a client asks for.
type attempt struct {
	tag       string
	mechanism string // SASL name, or commandLogin
	authzid   string // whom to act as; "" is authcid
	authcid   string // whose credentials these are

	// secret is the password of PLAIN, LOGIN and the LOGIN command; of the other
	// mechanisms it is the client's first message. EXTERNAL has none.
	secret Secret

	// malformed is set when the message of the mechanism could not be read; the
	// login fails like one with a wrong password.
	malformed bool

	route routed
}

// newAttempt completes what a mechanism found in its messages.
func newAttempt(tag, mechanism string, a attempt) *attempt {
	a.tag, a.mechanism = tag, mechanism
	return &a
}

func (a *attempt) wipe() { a.secret.Wipe() }

// password says whether the secret is a password, that can be given to a backend
// in any mechanism that takes one.
func (a *attempt) password() bool {
	return a.mechanism == commandLogin || a.mechanism == sasl.Plain || a.mechanism == sasl.Login
}

// exchange is the client's side of one AUTHENTICATE command.
type exchange struct {
	c       *conn
	initial []byte // initial response, nil for none
}

// respond returns the client's response to a challenge, or its initial response
// when it sent one. The caller wipes it.
func (x *exchange) respond(challenge string) ([]byte, error) {
	if x.initial != nil {
		r := x.initial
		x.initial = nil
		return r, nil
	}
	return x.c.challenge(base64.StdEncoding.EncodeToString([]byte(challenge)))
}

// challenge sends a challenge, in base64, and returns the client's response. The
// space stands behind the plus even before nothing.
func (c *conn) challenge(encoded string) ([]byte, error) {
	c.say("+ " + encoded)
	line, err := c.in.ReadLine(nil, imap.MaxAuthLine)
	defer clear(line[:cap(line)])
	if err != nil {
		return nil, err
	}
	n := c.taken()
	if t := c.traced(); t != nil {
		t.say("C", octets("response, octets", n))
	}
	if string(line) == "*" {
		return nil, errCancelled
	}
	r, err := imap.ParseBase64([]byte{}, line)
	if err != nil {
		return nil, errBase64
	}
	return r, nil
}

// mechanism reads the messages of one SASL mechanism up to the point where the
// user is known. The errors are those of the dialogue with the client.
type mechanism func(x *exchange) (attempt, error)

// mechanisms are those that can be routed: the client names its user before the
// server has to say anything of substance. CRAM-MD5, DIGEST-MD5 and GSSAPI do
// not.
var mechanisms = map[string]mechanism{
	sasl.Plain:       plain,
	sasl.Login:       login,
	sasl.External:    external,
	sasl.OAuthBearer: oauthBearer,
	"XOAUTH2":        xoauth2,
	"SCRAM-SHA-1":    scram,
	"SCRAM-SHA-256":  scram,
}

// plain is PLAIN: authzid NUL authcid NUL password. See RFC 4616, Section 2. It
// is taken apart in place: a library would leave copies of the password behind
// that nobody can wipe.
func plain(x *exchange) (attempt, error) {
	msg, err := x.respond("")
	if err != nil {
		return attempt{}, err
	}
	defer clear(msg)
	parts := bytes.Split(msg, []byte{0})
	if len(parts) != 3 {
		return attempt{malformed: true}, nil
	}
	return attempt{authzid: string(parts[0]), authcid: string(parts[1]), secret: NewSecret(parts[2])}, nil
}

// login is LOGIN, whose prompts are those that clients expect. See
// draft-murchison-sasl-login, Section 2.
func login(x *exchange) (attempt, error) {
	user, err := x.respond("Username:")
	if err != nil {
		return attempt{}, err
	}
	defer clear(user)
	pass, err := x.respond("Password:")
	if err != nil {
		return attempt{}, err
	}
	defer clear(pass)
	return attempt{authcid: string(user), secret: NewSecret(pass)}, nil
}

// external is EXTERNAL: the user is the one that the client's verified
// certificate names. What the client sends is an authzid alone. See RFC 4422,
// Appendix A.
func external(x *exchange) (attempt, error) {
	msg, err := x.respond("")
	if err != nil {
		return attempt{}, err
	}
	var a attempt
	server := sasl.NewExternalServer(func(authzid string) error {
		a.authzid = authzid
		return nil
	})
	if _, done, err := server.Next(msg); err != nil || !done {
		return attempt{malformed: true}, nil //nolint:nilerr // the login fails; the connection goes on
	}
	a.authcid, err = x.c.certificateUser()
	a.malformed = err != nil
	return a, nil
}

// certificateUser returns the user of the client's verified certificate.
func (c *conn) certificateUser() (string, error) {
	if c.l.CertificateUser == nil || c.tlsState == nil || len(c.tlsState.VerifiedChains) == 0 {
		return "", errors.New("no verified client certificate")
	}
	return c.l.CertificateUser(c.tlsState.PeerCertificates[0])
}

// xoauth2 is Google's XOAUTH2: user=NAME ^A auth=Bearer TOKEN ^A ^A. The token is
// the backend's to judge.
func xoauth2(x *exchange) (attempt, error) {
	msg, err := x.respond("")
	if err != nil {
		return attempt{}, err
	}
	defer clear(msg)
	rest, ok := bytes.CutPrefix(msg, []byte("user="))
	user, rest, ok2 := bytes.Cut(rest, []byte{1})
	if !ok || !ok2 || !bytes.HasPrefix(rest, []byte("auth=")) || !bytes.HasSuffix(rest, []byte{1, 1}) || !cleanFields(rest) ||
		namesUser(rest) { // a second one, which a backend could prefer
		return attempt{malformed: true}, nil
	}
	return attempt{authcid: string(user), secret: NewSecret(msg)}, nil
}

// namesUser says whether one of the fields behind the first is a user, in upper or
// lower case. It makes no copy, which would have to be wiped.
func namesUser(fields []byte) bool {
	const key = "user="
	_, rest, more := bytes.Cut(fields, []byte{1})
	for more {
		var field []byte
		field, rest, more = bytes.Cut(rest, []byte{1})
		if len(field) >= len(key) && bytes.EqualFold(field[:len(key)], []byte(key)) {
			return true
		}
	}
	return false
}

// oauthBearer is OAUTHBEARER: a GS2 header with the authzid, then key=value pairs
// that end in ^A. Keys that are not known are the backend's to ignore. See RFC
// 7628, Section 3.1.
func oauthBearer(x *exchange) (attempt, error) {
	msg, err := x.respond("")
	if err != nil {
		return attempt{}, err
	}
	defer clear(msg)
	g, ok := parseGS2(msg)
	if !ok || g.flag != "n" || !bytes.HasPrefix(g.rest, []byte{1}) || !bytes.HasSuffix(g.rest, []byte{1, 1}) ||
		!bytes.Contains(g.rest, []byte("\x01auth=")) || !cleanFields(g.rest) {
		return attempt{malformed: true}, nil
	}
	return attempt{authcid: g.authzid, secret: NewSecret(msg)}, nil
}

// scram is SCRAM, up to the client's first message, which names the user; the
// rest of the exchange is between the client and its backend. See RFC 5802,
// Section 7.
func scram(x *exchange) (attempt, error) {
	msg, err := x.respond("")
	if err != nil {
		return attempt{}, err
	}
	defer clear(msg)
	g, ok := parseGS2(msg)
	if !ok || !cleanFields(msg) {
		return attempt{malformed: true}, nil
	}
	if strings.HasPrefix(g.flag, "p") {
		// Channel binding binds to the client's TLS, which ends here.
		return attempt{}, errCannot
	}
	name, ok := bytes.CutPrefix(g.rest, []byte("n="))
	name, _, ok2 := bytes.Cut(name, []byte{','})
	user, ok3 := unescapeSASLName(name)
	if !ok || !ok2 || !ok3 { // "m=", a mandatory extension, is among these
		return attempt{malformed: true}, nil
	}
	return attempt{authzid: g.authzid, authcid: user, secret: NewSecret(msg)}, nil
}

// gs2 is a message with a GS2 header taken off. See RFC 5801, Section 4.
type gs2 struct {
	flag    string // "n", "y" or "p=…"
	authzid string // unescaped, "" for none
	rest    []byte
}

func parseGS2(msg []byte) (g gs2, ok bool) {
	flag, rest, ok := bytes.Cut(msg, []byte{','})
	authzid, rest, ok2 := bytes.Cut(rest, []byte{','})
	if !ok || !ok2 {
		return gs2{}, false
	}
	g.flag, g.rest = string(flag), rest
	if g.flag != "n" && g.flag != "y" && !strings.HasPrefix(g.flag, "p=") {
		return gs2{}, false
	}
	if len(authzid) == 0 {
		return g, true
	}
	name, ok := bytes.CutPrefix(authzid, []byte("a="))
	if !ok || len(name) == 0 {
		return gs2{}, false
	}
	g.authzid, ok = unescapeSASLName(name)
	return g, ok
}

// unescapeSASLName undoes the escapes of "," and "=", the only ones there are.
// See RFC 5802, Section 5.1.
func unescapeSASLName(b []byte) (string, bool) {
	if !bytes.ContainsRune(b, '=') {
		return string(b), true
	}
	var out strings.Builder
	for len(b) > 0 {
		switch {
		case bytes.HasPrefix(b, []byte("=2C")):
			out.WriteByte(',')
			b = b[3:]
		case bytes.HasPrefix(b, []byte("=3D")):
			out.WriteByte('=')
			b = b[3:]
		case b[0] == '=':
			return "", false
		default:
			out.WriteByte(b[0])
			b = b[1:]
		}
	}
	return out.String(), true
}

// escapeSASLName is the reverse of unescapeSASLName.
func escapeSASLName(s string) string {
	return strings.NewReplacer("=", "=3D", ",", "=2C").Replace(s)
}

// cleanFields says whether msg is free of control characters other than ^A, the
// separator of the OAuth messages.
func cleanFields(msg []byte) bool {
	for _, ch := range msg {
		if ch != 1 && (ch < ' ' || ch == 0x7f) {
			return false
		}
	}
	return true
}

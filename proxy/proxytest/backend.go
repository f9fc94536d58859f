package proxytest

import (
	"bytes"
	"cmp"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net"
	"strings"

	"imapgate/proxy/imap"
)

// Capabilities of a [Backend] that says nothing else, before and after a login.
const (
	DefaultCapabilities      = "IMAP4rev1 SASL-IR LITERAL+ ID ENABLE IDLE AUTH=PLAIN AUTH=LOGIN"
	DefaultLoginCapabilities = "IMAP4rev1 LITERAL+ ID ENABLE IDLE NAMESPACE"
)

// Backend is an IMAP server for tests, on a [Network]. The zero value greets,
// answers ID and CAPABILITY, lets everybody in, and then answers every command
// with OK. Its exported fields must not change once the proxy knows it.
type Backend struct {
	// Greeting is the first line without CRLF; "" is an OK with Capabilities.
	Greeting string

	// Capabilities and LoginCapabilities are those before and after the login;
	// "" means the defaults.
	Capabilities, LoginCapabilities string

	// TLS makes the backend speak TLS: from the first byte with ImplicitTLS,
	// else after STARTTLS, which Capabilities then have to list.
	TLS         *tls.Config
	ImplicitTLS bool

	// Login judges a login: it returns what follows the tag in the tagged
	// reply, or "" to let the user in. Nil lets everybody in.
	Login func(Login) string

	// Serve, when not nil, replaces the whole dialogue. The connection is closed
	// when it returns.
	Serve func(*BackendConn)

	// Buffer bounds what the backend can write ahead of the proxy, and the other
	// way round; 0 means no limit.
	Buffer int
}

// Login is what a client of a [Backend] tried to log in with.
type Login struct {
	Mechanism string // "LOGIN-COMMAND" for the LOGIN command
	Authzid   string
	User      string
	Secret    string // password, or the client's whole first message
}

// BackendConn is a connection to a [Backend]. It belongs to the goroutine that
// serves it.
type BackendConn struct {
	// Raw is the connection itself, what TLS runs over.
	Raw *Conn

	b        *Backend
	nc       net.Conn
	in       *imap.Reader
	commands imap.CommandReader
	secure   bool
}

func (b *Backend) serve(raw *Conn) {
	c := &BackendConn{Raw: raw, b: b, nc: raw}
	c.in = imap.NewReader(raw)
	c.commands = imap.CommandReader{R: c.in, Continue: func(string, string) error { return c.Say("+ OK") }}
	defer func() { _ = c.nc.Close() }()
	if b.Serve != nil {
		b.Serve(c)
		return
	}
	c.Converse()
}

// Say sends lines, each with CRLF, in one write.
func (c *BackendConn) Say(lines ...string) error {
	_, err := c.nc.Write([]byte(strings.Join(lines, "\r\n") + "\r\n"))
	return err
}

// Write sends bytes as they are.
func (c *BackendConn) Write(p []byte) (int, error) { return c.nc.Write(p) }

// ReadLine returns the next line of the proxy without CRLF.
func (c *BackendConn) ReadLine() (string, error) {
	line, err := c.in.ReadLine(nil, imap.MaxAuthLine)
	return string(line), err
}

// ReadTag returns the tag of the next line, and the line.
func (c *BackendConn) ReadTag() (tag, line string, err error) {
	line, err = c.ReadLine()
	tag, _, _ = strings.Cut(line, " ")
	return tag, line, err
}

// StartTLS makes the server's side of a handshake.
func (c *BackendConn) StartTLS(config *tls.Config) error {
	tc := tls.Server(c.nc, config)
	if err := tc.Handshake(); err != nil { //nolint:noctx // the network closes the connection
		return err
	}
	c.nc, c.secure = tc, true
	c.in.Reset(tc)
	return nil
}

// Converse is the dialogue of a Backend without Serve, from the greeting to the
// end. A Serve function may end with it.
func (c *BackendConn) Converse() {
	if c.b.TLS != nil && c.b.ImplicitTLS {
		if c.StartTLS(c.b.TLS) != nil {
			return
		}
	}
	if c.Say(cmp.Or(c.b.Greeting, "* OK [CAPABILITY "+c.capabilities()+"] Hello.")) != nil {
		return
	}
	for {
		cmd, err := c.commands.ReadCommand()
		if err != nil {
			return
		}
		in, err := c.answer(cmd)
		if err != nil {
			return
		}
		if in {
			c.answerAll()
			return
		}
	}
}

func (c *BackendConn) capabilities() string { return cmp.Or(c.b.Capabilities, DefaultCapabilities) }

// answer answers one command before the login, and says whether it was one that
// succeeded.
func (c *BackendConn) answer(cmd *imap.Command) (loggedIn bool, err error) {
	switch cmd.Name {
	case "CAPABILITY":
		return false, c.Say("* CAPABILITY "+c.capabilities(), cmd.Tag+" OK Done.")
	case "ID":
		if _, err := cmd.ID(); err != nil {
			return false, c.Say(cmd.Tag + " BAD " + err.Error())
		}
		return false, c.Say(`* ID ("name" "proxytest")`, cmd.Tag+" OK Done.")
	case "STARTTLS":
		if c.b.TLS == nil || c.secure {
			return false, c.Say(cmd.Tag + " BAD No.")
		}
		if err := c.Say(cmd.Tag + " OK Begin."); err != nil {
			return false, err
		}
		return false, c.StartTLS(c.b.TLS)
	case "LOGIN":
		user, pass, err := cmd.Login()
		if err != nil {
			return false, c.Say(cmd.Tag + " BAD " + err.Error())
		}
		return c.judge(cmd.Tag, Login{Mechanism: "LOGIN-COMMAND", User: string(user), Secret: string(pass)})
	case "AUTHENTICATE":
		return c.authenticate(cmd)
	case "LOGOUT":
		_ = c.Say("* BYE Bye.", cmd.Tag+" OK Done.")
		return false, net.ErrClosed
	}
	return false, c.Say(cmd.Tag + " BAD No.")
}

// authenticate takes PLAIN and LOGIN apart; of all other mechanisms the first
// message is the secret, and what the user is called in it is not looked at.
func (c *BackendConn) authenticate(cmd *imap.Command) (bool, error) {
	mechanism, ir, hasIR, err := cmd.Authenticate()
	if err != nil {
		return false, c.Say(cmd.Tag + " BAD " + err.Error())
	}
	first := bytes.Clone(ir)
	if !hasIR {
		challenge := ""
		if mechanism == "LOGIN" {
			challenge = base64.StdEncoding.EncodeToString([]byte("Username:"))
		}
		if first, err = c.challenge(challenge); err != nil {
			return false, err
		}
	}
	msg, err := imap.ParseBase64([]byte{}, first)
	if err != nil {
		return false, c.Say(cmd.Tag + " BAD " + err.Error())
	}
	l := Login{Mechanism: mechanism, Secret: string(msg)}
	switch mechanism {
	case "PLAIN":
		parts := strings.Split(l.Secret, "\x00")
		if len(parts) != 3 {
			return false, c.Say(cmd.Tag + " BAD No PLAIN message.")
		}
		l.Authzid, l.User, l.Secret = parts[0], parts[1], parts[2]
	case "LOGIN":
		l.User = l.Secret
		pass, err := c.challenge(base64.StdEncoding.EncodeToString([]byte("Password:")))
		if err != nil {
			return false, err
		}
		plain, err := imap.ParseBase64(nil, pass)
		if err != nil {
			return false, c.Say(cmd.Tag + " BAD " + err.Error())
		}
		l.Secret = string(plain)
	}
	return c.judge(cmd.Tag, l)
}

func (c *BackendConn) challenge(s string) ([]byte, error) {
	if err := c.Say("+ " + s); err != nil {
		return nil, err
	}
	line, err := c.ReadLine()
	return []byte(line), err
}

func (c *BackendConn) judge(tag string, l Login) (bool, error) {
	if c.b.Login != nil {
		if refusal := c.b.Login(l); refusal != "" {
			return false, c.Say(tag + " " + refusal)
		}
	}
	return true, c.Say(fmt.Sprintf("%s OK [CAPABILITY %s] Logged in.", tag,
		cmp.Or(c.b.LoginCapabilities, DefaultLoginCapabilities)))
}

// answerAll answers every line with OK until LOGOUT or the end.
func (c *BackendConn) answerAll() {
	for {
		tag, line, err := c.ReadTag()
		if err != nil {
			return
		}
		if strings.EqualFold(strings.TrimPrefix(line, tag), " LOGOUT") {
			_ = c.Say("* BYE Bye.", tag+" OK Done.")
			return
		}
		if c.Say(tag+" OK Done.") != nil {
			return
		}
	}
}

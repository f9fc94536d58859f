package proxy

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"imapgate/proxy/imap"
)

// maxBad is how many bad commands a client may send before its login.
const maxBad = 3

// greet queues the greeting. See RFC 9051, Section 7.1.5.
func (c *conn) greet() {
	c.state = "greeting"
	c.advertise()
	c.say("* OK [CAPABILITY " + strings.Join(c.caps, " ") + "] " + c.cfg.Greeting)
}

// readLogin answers commands until one of them asks for a login. The error says
// why the connection ends before that.
func (c *conn) readLogin(ctx context.Context) (*attempt, error) {
	for {
		if c.bad >= maxBad {
			return nil, errTooManyBad
		}
		c.state = "command"
		cmd, err := c.commands.ReadCommand()
		n := c.taken()
		if t := c.traced(); t != nil && (err == nil || !isEnd(err)) {
			var text string
			text, c.tag = maskCommand(cmd, n)
			t.say("C", text)
		}
		if err == nil {
			var a *attempt
			a, err = c.command(ctx, cmd)
			cmd.Wipe()
			if a != nil {
				c.in.Wipe()
				return a, nil
			}
		}
		c.in.Wipe() // a line that was no command may be a password
		if err != nil {
			if err := c.commandError(err); err != nil {
				return nil, err
			}
		}
	}
}

// command answers one command, or returns the login that it asks for.
func (c *conn) command(ctx context.Context, cmd *imap.Command) (*attempt, error) {
	switch cmd.Name {
	case "CAPABILITY":
		if err := cmd.NoArgs(); err != nil {
			return nil, err
		}
		c.say("* CAPABILITY " + strings.Join(c.caps, " "))
		c.ok(cmd.Tag, "Capability completed.")
	case "NOOP":
		if err := cmd.NoArgs(); err != nil {
			return nil, err
		}
		c.ok(cmd.Tag, "NOOP completed.")
	case "LOGOUT":
		if err := cmd.NoArgs(); err != nil {
			return nil, err
		}
		c.say("* BYE Logging out.")
		c.ok(cmd.Tag, "Logout completed.")
		return nil, errLogout
	case "ID":
		return nil, c.commandID(cmd)
	case "STARTTLS":
		return nil, c.commandStartTLS(ctx, cmd)
	case "LOGIN":
		return c.commandLogin(cmd)
	case "AUTHENTICATE":
		return c.commandAuthenticate(cmd)
	case "ENABLE": // only after login. See RFC 5161, Section 3.1.
		return nil, &imap.SyntaxError{Tag: cmd.Tag, Name: cmd.Name, Text: "Log in first."}
	default:
		return nil, &imap.SyntaxError{Tag: cmd.Tag, Name: cmd.Name, Text: "Unknown command."}
	}
	return nil, nil
}

// commandError answers a command that could not be obeyed. It returns the errors
// that end the connection.
func (c *conn) commandError(err error) error {
	var (
		syntax   *imap.SyntaxError
		tooBig   *imap.TooBigError
		rejected *imap.RejectedError
		reply    *replyError
	)
	switch {
	case errors.As(err, &rejected) && errors.As(err, &reply):
		c.no(rejected.Tag, reply)
	case errors.As(err, &syntax):
		if c.bad == 0 && otherProtocol(syntax.Tag) {
			return errNotIMAP
		}
		c.badSyntax(syntax)
	case errors.As(err, &tooBig) && !tooBig.Fatal:
		c.no(tooBig.Tag, &replyError{"NO", "TOOBIG", "Literal too big."})
	default:
		return err
	}
	return nil
}

// isEnd says whether an error is that of the connection, and not of a command.
func isEnd(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || isTimeout(err)
}

// otherProtocol says whether the first word of a bad line is how an HTTP request
// or an SMTP dialogue begins. Answering those would let a web page or a mail
// server be tricked into speaking IMAP.
func otherProtocol(word string) bool {
	word, _, _ = strings.Cut(word, "-") // "220-" begins a greeting of several lines
	switch strings.ToUpper(word) {
	case "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PATCH", "PRI",
		"EHLO", "HELO", "LHLO", "220":
		return true
	}
	return false
}

// continueLiteral asks for a synchronizing literal, unless the command that
// wants to send one is going to be refused anyway: then the literal, which may be
// a password, is better not sent at all.
func (c *conn) continueLiteral(_, name string) error {
	if name == "LOGIN" && !c.mayLogin {
		return c.privacy()
	}
	c.say("+ OK") // the space and a text: some clients need them
	return nil
}

// privacy is the reply to a login that came before TLS.
func (c *conn) privacy() error {
	if c.l.TLS == TLSStartTLS {
		return errPrivacy
	}
	return errNoTLS // TLS ends in front of here, and this client had none
}

// commandStartTLS begins TLS. See RFC 9051, Section 6.2.1.
func (c *conn) commandStartTLS(ctx context.Context, cmd *imap.Command) error {
	if err := cmd.NoArgs(); err != nil {
		return err
	}
	if c.l.TLS != TLSStartTLS || c.tlsState != nil {
		return &imap.SyntaxError{Tag: cmd.Tag, Name: cmd.Name, Text: "TLS is not available now."}
	}
	c.ok(cmd.Tag, "Begin TLS negotiation now.")
	if err := c.startTLS(ctx); err != nil {
		return err
	}
	if err := c.countAddress(); err != nil { // what ID told is forgotten
		return err
	}
	c.mayLogin = true
	c.advertise()
	return nil
}

// commandID takes what the client tells of itself. See RFC 2971.
func (c *conn) commandID(cmd *imap.Command) error {
	pairs, err := cmd.ID()
	if err != nil {
		return err
	}
	c.takeID(pairs)
	if err := c.countAddress(); err != nil {
		return err
	}
	answer := "NIL"
	if len(c.cfg.ID) > 0 {
		var own []imap.Pair
		for kv := range slices.Chunk(c.cfg.ID, 2) {
			own = append(own, imap.Pair{Key: kv[0], Value: kv[len(kv)-1]})
		}
		answer = string(imap.AppendID(nil, own))
	}
	c.say("* ID " + answer)
	c.ok(cmd.Tag, "ID completed.")
	return nil
}

// takeID keeps the client's harmless keys, to be told to its backend. What other
// proxies tell is believed from trusted networks alone: a backend believes us, so
// a client must not be able to forge anything.
func (c *conn) takeID(pairs []imap.Pair) {
	c.client.id = nil
	trusted := contains(c.cfg.TrustedNetworks, c.origin.remote.Addr())
	for _, p := range pairs {
		key := strings.ToLower(p.Key)
		switch key {
		case "name", "version", "vendor", "os", "os-version", "support-url":
			// No name may come twice: the first counts. See RFC 2971, Section 3.3.
			if !slices.ContainsFunc(c.client.id, func(had imap.Pair) bool { return had.Key == key }) {
				c.client.id = append(c.client.id, imap.Pair{Key: key, Value: p.Value, Nil: p.Nil})
			}
		default:
			if trusted && !p.Nil && printable([]byte(p.Value)) {
				c.client.believe(key, p.Value)
			}
		}
	}
}

// believe takes one pair of a trusted proxy's ID. Values that make no sense are
// left out: the proxy's own knowledge stands.
func (cl *clientInfo) believe(key, value string) {
	switch key {
	case "x-originating-ip":
		if a, err := netip.ParseAddr(value); err == nil {
			cl.remote = netip.AddrPortFrom(a.Unmap(), cl.remote.Port())
		}
	case "x-originating-port":
		if p, err := strconv.ParseUint(value, 10, 16); err == nil {
			cl.remote = netip.AddrPortFrom(cl.remote.Addr(), uint16(p))
		}
	case "x-session-id":
		if value != "" && len(value) <= 64 {
			cl.session = value
		}
	case "x-proxy-ttl":
		if n, err := strconv.ParseUint(value, 10, 8); err == nil {
			cl.ttl = min(int(n), cl.ttl)
		}
	case "x-connected-name":
		cl.name = value
	}
}

// commandLogin makes a login of LOGIN. See RFC 9051, Section 6.2.3.
func (c *conn) commandLogin(cmd *imap.Command) (*attempt, error) {
	if !c.mayLogin {
		return nil, &imap.RejectedError{Tag: cmd.Tag, Err: c.privacy()}
	}
	if slices.Contains(c.caps, "LOGINDISABLED") {
		return nil, &imap.RejectedError{Tag: cmd.Tag, Err: errCannot}
	}
	user, pass, err := cmd.Login()
	if err != nil {
		return nil, err
	}
	return newAttempt(cmd.Tag, commandLogin, attempt{authcid: string(user), secret: NewSecret(pass)}), nil
}

// commandAuthenticate makes a login of AUTHENTICATE. See RFC 9051, Section
// 6.2.2, and RFC 4959 for the initial response.
func (c *conn) commandAuthenticate(cmd *imap.Command) (*attempt, error) {
	if !c.mayLogin {
		return nil, &imap.RejectedError{Tag: cmd.Tag, Err: c.privacy()}
	}
	name, ir, hasIR, err := cmd.Authenticate()
	if err != nil {
		return nil, err
	}
	m := mechanisms[name]
	if m == nil || !slices.Contains(c.caps, "AUTH="+name) {
		return nil, &imap.RejectedError{Tag: cmd.Tag, Err: errCannot}
	}
	x := &exchange{c: c}
	if hasIR {
		if x.initial, err = imap.ParseBase64([]byte{}, ir); err != nil {
			return nil, &imap.RejectedError{Tag: cmd.Tag, Err: errBase64}
		}
	}
	c.state = "sasl"
	a, err := m(x)
	if err != nil {
		if reply, ok := errors.AsType[*replyError](err); ok {
			err = &imap.RejectedError{Tag: cmd.Tag, Err: reply}
		}
		return nil, err
	}
	return newAttempt(cmd.Tag, name, a), nil
}

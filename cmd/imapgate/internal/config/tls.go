package config

import (
	"errors"
	"io/fs"
	"time"

	"imapgate/tlsconf"
)

// compatible is the profile for old clients.
const compatible = "compatible"

// checkTLS looks at what is said of clients' TLS as a whole.
func (p *Parsed) checkTLS() {
	t := &p.TLS
	if t.Profile.V == compatible && t.MinVersion.Given() {
		p.fail(t.MinVersion.Pos, "remove one of them", "min_version %s contradicts profile: compatible, which begins at TLS 1.0", t.MinVersion.V)
	}
	resumes := false
	for i := range p.Listen {
		resumes = resumes || p.Listen[i].TLS.V != "none" && !p.Listen[i].asks()
	}
	p.pointless(t.TicketKeys.Given() && !resumes, t.TicketKeys.Pos, "tls.ticket_keys",
		"without a listener that has TLS and asks for no client certificates")
}

// asks says whether a listener asks clients for certificates.
func (l *Listen) asks() bool { return l.ClientAuth.V == "request" || l.ClientAuth.V == "require" }

// ticketKeys reads the keys of session tickets, if there are any.
func (c *compiler) ticketKeys() *tlsconf.TicketKeys {
	if !c.TLS.TicketKeys.Given() {
		return nil
	}
	keys, err := tlsconf.NewTicketKeys(c.path(c.TLS.TicketKeys))
	if err != nil {
		e := &Error{File: c.name, Pos: c.TLS.TicketKeys.Pos, Msg: "tls.ticket_keys cannot be used", Err: err}
		if errors.Is(err, fs.ErrNotExist) {
			e.Hint = "imapgate ticket-key rotate makes it"
		}
		c.errs = append(c.errs, e)
		return nil
	}
	return keys
}

// stale warns of certificates that clients will not accept today, and of session
// ticket keys that have been in use for too long.
func (c *compiler) stale(out *Compiled) Errors {
	var warnings Errors
	if out.Certificates != nil {
		for i, info := range out.Certificates.Info() {
			if text := info.Warning(time.Now()); text != "" && i < len(c.TLS.Certificates) {
				warnings = append(warnings, &Error{File: c.name, Pos: c.TLS.Certificates[i].Cert.Pos, Msg: text})
			}
		}
	}
	if out.TicketKeys != nil {
		if text := out.TicketKeys.Warning(time.Now()); text != "" {
			warnings = append(warnings, &Error{File: c.name, Pos: c.TLS.TicketKeys.Pos, Msg: text})
		}
	}
	return warnings
}

// clientTLS makes the TLS configuration for connections to a backend.
func (c *compiler) clientTLS(name string, b *Backend) *tlsconf.ClientFiles {
	ca, caOK := c.readable(b.CA)
	cert, certOK := c.readable(b.Cert)
	key, keyOK := c.readable(b.Key)
	if !caOK || !certOK || !keyOK {
		return nil
	}
	files, err := tlsconf.NewClientFiles(tlsconf.ClientOptions{
		ServerName: b.tlsName(), CAFile: ca, Pins: values(b.Pins),
		VerifyNone: b.Verify.V == "none", CertFile: cert, KeyFile: key,
	})
	if err != nil {
		c.fail(b.TLS.Pos, err, "TLS of backend %s", name)
		return nil
	}
	return files
}

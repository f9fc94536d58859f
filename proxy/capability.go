package proxy

import (
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"imapgate/proxy/imap"
)

// advertise settles what this connection offers. It is settled once before TLS
// and once after it, so that what was offered is not refused a moment later when
// the backends have changed.
func (c *conn) advertise() {
	known, all := c.srv.live.known()
	caps := []string{"IMAP4rev1"}
	if all && len(known) > 0 && everywhere(known, "IMAP4REV2") {
		caps = append(caps, "IMAP4rev2")
	}
	caps = append(caps, "SASL-IR", "LITERAL-", "ID", "ENABLE", "IDLE")
	switch {
	case !c.mayLogin && c.l.TLS == TLSStartTLS:
		caps = append(caps, "STARTTLS", "LOGINDISABLED")
	case !c.mayLogin:
		caps = append(caps, "LOGINDISABLED")
	case len(c.cfg.Capabilities) > 0:
		caps = c.pinned(known)
	default:
		caps = append(caps, c.offered(known)...)
	}
	c.caps = caps
}

// offered returns AUTH= for the mechanisms that are enabled and that every
// backend announces, and LOGINDISABLED if passwords are not taken at all. As long
// as no backend was heard, these are the ones that every backend can be given in
// some form.
func (c *conn) offered(known [][]string) []string {
	var caps []string
	for _, m := range c.cfg.Mechanisms {
		var ok bool
		switch {
		case m == sasl.External:
			ok = c.offersExternal(known)
		case len(known) > 0:
			ok = everywhere(known, "AUTH="+m)
		default:
			ok = m == sasl.Plain || m == sasl.Login
		}
		if ok {
			caps = append(caps, "AUTH="+m)
		}
	}
	if !slices.Contains(c.cfg.Mechanisms, sasl.Plain) && !slices.Contains(c.cfg.Mechanisms, sasl.Login) {
		caps = append(caps, "LOGINDISABLED")
	}
	return caps
}

// offersExternal says whether EXTERNAL can succeed: this client has a verified
// certificate, and every backend can log a user in on the proxy's word.
func (c *conn) offersExternal(known [][]string) bool {
	if c.l.CertificateUser == nil || c.tlsState == nil || len(c.tlsState.VerifiedChains) == 0 {
		return false
	}
	for _, b := range c.cfg.Backends {
		if b.MasterUser == "" {
			return false
		}
	}
	return everywhere(known, "AUTH="+sasl.Plain) // what says it is PLAIN with an authzid
}

// pinned returns the operator's own list, without what this proxy does not do.
func (c *conn) pinned(known [][]string) []string {
	return slices.DeleteFunc(slices.Clone(c.cfg.Capabilities), func(name string) bool {
		up := strings.ToUpper(name)
		if m, ok := strings.CutPrefix(up, "AUTH="); ok {
			return !slices.Contains(c.cfg.Mechanisms, m) || m == sasl.External && !c.offersExternal(known)
		}
		switch up {
		case "STARTTLS", "LITERAL+", "LOGIN-REFERRALS", "MAILBOX-REFERRALS", "UNAUTHENTICATE", "COMPRESS=DEFLATE":
			return true
		}
		return false
	})
}

func everywhere(all [][]string, name string) bool {
	return !slices.ContainsFunc(all, func(caps []string) bool { return !imap.HasCapability(caps, name) })
}

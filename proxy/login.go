package proxy

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"imapgate/proxy/imap"
)

// Errors of the dialogue between client and backend.
var (
	errNoMechanism   = errors.New("the backend does not offer the mechanism")
	errLoginDisabled = errors.New("the backend says LOGINDISABLED: it wants TLS")
	errNoRename      = errors.New("SCRAM cannot log in under another name")
	errNoMaster      = errors.New("no master user is configured for the backend")
	errNoMasterPlain = errors.New("a master login needs AUTH=PLAIN on the backend")
)

// login logs the client in by deadline. ID goes before the login, and in one write with it
// unless the backend is configured to want one command at a time.
func (bc *backendConn) login(c *conn, a *attempt, deadline time.Time) *failure {
	const state = "login/authenticate"
	sc, err := bc.script(a, &c.cfg.Names)
	switch {
	case errors.Is(err, errNoMechanism):
		return &failure{reply: errCannot, result: resultCannot, state: state, reason: "mechanism", err: err}
	case err != nil:
		return misconfigured(state, "login", err)
	}
	x := loginExchange{bc: bc, c: c, script: sc, deadline: deadline}
	defer sc.wipe()

	var (
		inFlight []string
		out      []byte
		first    []imap.Response
	)
	if imap.HasCapability(bc.caps, "ID") {
		if bc.warm {
			// ID is answered at once, however long the login takes: a backend that
			// has come to a standstill is noticed as when it does not greet.
			bc.expect(time.Now().Add(c.cfg.ConnectTimeout))
		}
		tag := newTag()
		out = append(imap.AppendID([]byte(tag+" ID "), idPairs(&c.client)), "\r\n"...)
		bc.trace.say("P", tag+" ID "+octets("octets", len(out)))
		inFlight = append(inFlight, tag)
		if bc.b.NoPipelining {
			if _, err := bc.nc.Write(out); err != nil {
				return unavailable("login/id", "closed", err)
			}
			if _, first, err = bc.await(nil, inFlight...); err != nil {
				return unavailable("login/id", "closed", err)
			}
			out, inFlight = nil, nil
		}
	}
	tag := newTag()
	if bc.trace != nil {
		bc.trace.say("P", maskLogin(tag, sc.line))
	}
	if err := bc.send(out, []byte(tag+" "), sc.line); err != nil {
		return unavailable(state, "closed", err)
	}
	r, untagged, err := bc.await(x.next, append(inFlight, tag)...)
	if err != nil {
		return x.broken(err)
	}
	if r.Name != "OK" || r.Code == "REFERRAL" || !oneLine(r) {
		fail := x.refused(r)
		fail.untagged = passedOn(first, untagged)
		return fail
	}
	bc.untagged = passedOn(first, untagged)
	bc.okLine = strings.TrimPrefix(r.Line, r.Tag)
	return bc.learnAfterLogin(r)
}

// send writes the parts and CRLF in one piece, and forgets it.
func (bc *backendConn) send(parts ...[]byte) error {
	b := slices.Concat(append(parts, []byte("\r\n"))...)
	defer clear(b)
	_, err := bc.nc.Write(b)
	return err
}

// learnAfterLogin makes sure that the client learns the capabilities after its
// login: r brings them, or the backend is asked. UNAUTHENTICATE is never shown:
// it would let a session become another user's on this backend; nor is COMPRESS
// beside it, which would hide it. See RFC 8437.
func (bc *backendConn) learnAfterLogin(r imap.Response) *failure {
	if caps, ok := r.Capabilities(); ok {
		bc.loginCaps = caps
		if imap.HasCapability(caps, "UNAUTHENTICATE") {
			bc.okLine = strings.Replace(bc.okLine, r.CodeArgs, shownCapabilities(r.CodeArgs), 1)
		}
		return nil
	}
	tag := newTag()
	bc.trace.say("P", tag+" CAPABILITY")
	err := bc.send([]byte(tag + " CAPABILITY"))
	var untagged []imap.Response
	if err == nil {
		_, untagged, err = bc.await(nil, tag)
	}
	if err != nil {
		f := unavailable("login/capability", "closed", err)
		f.retry = false
		return f
	}
	for _, u := range untagged {
		if u.Name == "CAPABILITY" {
			bc.loginCaps, _ = u.Capabilities()
			bc.capsLine = shownCapabilities(u.Text)
		}
	}
	bc.untagged = append(bc.untagged, passedOn(untagged)...)
	return nil
}

// passedOn returns the lines of the status responses that a client is shown: an
// alert, say. Capabilities would be those from before the login, and a referral
// would send the client around the proxy.
func passedOn(groups ...[]imap.Response) []string {
	var lines []string
	for _, r := range slices.Concat(groups...) {
		if (r.Name == "OK" || r.Name == "NO" || r.Name == "BAD") && r.Code != "CAPABILITY" && r.Code != "REFERRAL" && oneLine(r) {
			lines = append(lines, r.Line)
		}
	}
	return lines
}

// oneLine says whether a status response ends with its first line. One with a
// literal in its code does not; its first line alone would make a client take
// what follows for the literal.
func oneLine(r imap.Response) bool {
	return r.Code != "" || !strings.HasPrefix(r.Text, "[")
}

// loginExchange is the dialogue from the login's first line to its tagged reply.
type loginExchange struct {
	bc        *backendConn
	c         *conn
	script    *script
	deadline  time.Time   // of the whole login
	rounds    int         // challenges the client answered
	cancelled *replyError // how the client ended the exchange
	client    error       // what the client's connection ended with
}

// maxRounds is how many challenges a mechanism may have; SCRAM has two.
const maxRounds = 4

// next answers a continuation request of the backend.
func (x *loginExchange) next(r imap.Response) error {
	if len(x.script.answers) > 0 {
		x.bc.trace.say("P", octets("response, octets", len(x.script.answers[0])))
		return x.script.answer(x.bc)
	}
	if !x.script.relay || x.cancelled != nil || x.rounds == maxRounds {
		return errNoAnswer
	}
	if _, err := imap.ParseBase64(nil, []byte(r.Text)); err != nil {
		return errors.New("a challenge that is not base64")
	}
	x.rounds++
	// The client answers within the login's budget: a backend, and the user's
	// place there, are held for it. Others need not wait for a client that is slow.
	x.bc.leave(nil)
	x.c.setDeadline(x.deadline)
	response, err := x.c.challenge(r.Text)
	x.c.setDeadline(x.c.started.Add(x.c.cfg.LoginTimeout))
	defer clear(response)
	var reply *replyError
	switch {
	case errors.As(err, &reply):
		x.cancelled = reply
		x.bc.trace.say("P", "*")
		return x.bc.send([]byte("*"))
	case err != nil:
		x.client = err
		return err
	}
	encoded := base64.StdEncoding.AppendEncode(nil, response)
	defer clear(encoded)
	x.bc.trace.say("P", octets("response, octets", len(encoded)))
	return x.bc.send(encoded)
}

// broken is the failure of a login that got no tagged reply.
func (x *loginExchange) broken(err error) *failure {
	f := unavailable("login/authenticate", "closed", err)
	f.retry = x.rounds == 0 // a client cannot be asked the same twice
	f.client = x.client
	if x.cancelled != nil {
		f.reply, f.result, f.retry = x.cancelled, resultCancelled, false
	}
	return f
}

// refused is the failure that a tagged reply other than OK stands for. See RFC
// 5530, Section 3.
func (x *loginExchange) refused(r imap.Response) *failure {
	const state = "login/authenticate"
	err := fmt.Errorf("the backend says %s [%s]", r.Name, loggedCode(r.Code))
	switch {
	case x.cancelled != nil:
		return &failure{reply: x.cancelled, result: resultCancelled, state: state, reason: "cancelled", err: err}
	case r.Code == "REFERRAL":
		// Credentials never follow a backend's word.
		f := unavailable(state, "referral", err)
		f.retry = false
		return f
	case r.Name != "NO" && r.Name != "BAD" || !oneLine(r):
		return x.broken(errors.New("a tagged reply that is neither OK, NO nor BAD"))
	case r.Name == "BAD", r.Code == "", r.Code == "AUTHENTICATIONFAILED":
		return rejected(resultRejected, err)
	case r.Code == "UNAVAILABLE":
		f := unavailable(state, "unavailable", err)
		f.reply, f.retry = passOn(r), x.rounds == 0
		return f
	}
	return &failure{reply: passOn(r), result: resultRefused, state: state, reason: "refused", err: err}
}

// loggedCode returns a response code for the log. One that is not known could
// hold anything that the backend was told, a password too.
func loggedCode(code string) string {
	switch code {
	case "", "ALERT", "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "CANNOT", "CONTACTADMIN", "EXPIRED", "INUSE",
		"LIMIT", "NOPERM", "PRIVACYREQUIRED", "REFERRAL", "SERVERBUG", "UNAVAILABLE":
		return code
	}
	return "another code"
}

// idPairs are what a backend is told of a client: what it said of itself, then
// what Dovecot understands from a proxy that it trusts.
func idPairs(cl *clientInfo) []imap.Pair {
	pairs := slices.Clone(cl.id)
	add := func(key, value string) {
		if value != "" {
			pairs = append(pairs, imap.Pair{Key: key, Value: value})
		}
	}
	endpoint := func(side string, ap netip.AddrPort) {
		if ap.IsValid() {
			add("x-"+side+"-ip", ap.Addr().String())
			add("x-"+side+"-port", strconv.Itoa(int(ap.Port())))
		}
	}
	add("x-session-id", cl.session)
	endpoint("originating", cl.remote)
	endpoint("connected", cl.local)
	add("x-proxy-ttl", strconv.Itoa(cl.ttl-1))
	transport := "insecure"
	if cl.tls.version != "" {
		transport = "TLS"
	}
	add("x-client-transport", transport)
	add("x-connected-name", cl.name)
	return pairs
}

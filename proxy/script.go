package proxy

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-sasl"

	"imapgate/proxy/imap"
	"imapgate/route"
)

// script is how a login is said to a backend, in whatever form the backend takes.
type script struct {
	line    []byte   // the command behind its tag, without CRLF; holds the secret
	answers [][]byte // to the continuation requests, without CRLF; hold it too
	relay   bool     // further challenges are the client's to answer
}

func (s *script) wipe() {
	clear(s.line)
	for _, a := range s.answers {
		clear(a)
	}
}

// script writes the login of a for this backend.
func (bc *backendConn) script(a *attempt, names *route.Names) (*script, error) {
	authzid, authcid := a.backendNames(names)
	switch {
	case a.mechanism == sasl.External:
		if bc.b.MasterUser == "" {
			return nil, errNoMaster
		}
		if authzid == "" {
			authzid = authcid
		}
		return bc.masterScript(authzid, bc.b.MasterUser, bc.b.MasterPassword)
	case !a.password():
		if authzid != "" && authzid != a.authzid {
			return nil, errNoRename // the name is part of what SCRAM proves
		}
		return bc.relayScript(a, authcid)
	case authzid != "":
		return bc.masterScript(authzid, authcid, a.secret)
	}
	mechanism, err := bc.passwordMechanism(a.mechanism)
	if err != nil {
		return nil, err
	}
	return bc.passwordScript(mechanism, authcid, a.secret), nil
}

// passwordMechanism returns the form in which the backend is given a password:
// the client's own where it is offered, else PLAIN, which has no quoting.
func (bc *backendConn) passwordMechanism(clients string) (string, error) {
	switch {
	case clients != commandLogin && bc.offers(clients):
		return clients, nil
	case bc.offers(sasl.Plain):
		return sasl.Plain, nil
	case !imap.HasCapability(bc.caps, "LOGINDISABLED"):
		return commandLogin, nil
	case bc.offers(sasl.Login):
		return sasl.Login, nil
	}
	return "", errLoginDisabled
}

// errNoAnswer is the end of a script that has nothing more to say.
var errNoAnswer = errors.New("a continuation request that nothing called for")

// answer sends the next answer to a continuation request.
func (s *script) answer(bc *backendConn) error {
	if len(s.answers) == 0 {
		return errNoAnswer
	}
	answer := s.answers[0]
	s.answers = s.answers[1:]
	defer clear(answer)
	return bc.send(answer)
}

func (bc *backendConn) offers(mechanism string) bool {
	return imap.HasCapability(bc.caps, "AUTH="+mechanism)
}

// backendNames returns the names for the backend: as typed, unless the row says
// otherwise. The authzid is "" when it is the authcid.
func (a *attempt) backendNames(names *route.Names) (authzid, authcid string) {
	who := a.route.user
	if a.route.place.Login != "" {
		who = a.route.place.Login
	}
	if a.route.master != "" {
		who += names.MasterSeparator + a.route.master
	}
	if a.authzid == "" || a.authzid == a.authcid {
		return "", who
	}
	return who, a.authcid
}

// masterScript logs authcid in to act as authzid: only PLAIN can say that
// everywhere.
func (bc *backendConn) masterScript(authzid, authcid string, secret Secret) (*script, error) {
	if !bc.offers(sasl.Plain) {
		return nil, errNoMasterPlain
	}
	return bc.plainScript(authzid, authcid, secret), nil
}

func (bc *backendConn) plainScript(authzid, authcid string, secret Secret) *script {
	msg := slices.Concat([]byte(authzid), []byte{0}, []byte(authcid), []byte{0}, secret.b)
	defer clear(msg)
	return bc.withInitial(sasl.Plain, msg)
}

// passwordScript says a name and a password in a mechanism that takes them.
func (bc *backendConn) passwordScript(mechanism, user string, secret Secret) *script {
	switch mechanism {
	case sasl.Plain:
		return bc.plainScript("", user, secret)
	case sasl.Login:
		// Whatever the two prompts say: there are several spellings of them.
		return &script{
			line:    []byte("AUTHENTICATE LOGIN"),
			answers: [][]byte{encode([]byte(user)), encode(secret.b)},
		}
	}
	return bc.commandScript([]byte(user), secret.b)
}

// commandScript is the LOGIN command: quoted strings where they can say it, else
// literals.
func (bc *backendConn) commandScript(user, pass []byte) *script {
	if imap.Quotable(user) && imap.Quotable(pass) {
		line := make([]byte, 0, len("LOGIN \"\" \"\"")+2*len(user)+2*len(pass))
		line = imap.AppendQuoted(append(line, "LOGIN "...), user)
		return &script{line: imap.AppendQuoted(append(line, ' '), pass)}
	}
	if imap.HasCapability(bc.caps, "LITERAL+") ||
		imap.HasCapability(bc.caps, "LITERAL-") && max(len(user), len(pass)) <= imap.MaxLiteral {
		return &script{line: slices.Concat(
			fmt.Appendf(nil, "LOGIN {%d+}\r\n", len(user)), user,
			fmt.Appendf(nil, " {%d+}\r\n", len(pass)), pass)}
	}
	return &script{
		line:    fmt.Appendf(nil, "LOGIN {%d}", len(user)),
		answers: [][]byte{fmt.Appendf(slices.Clone(user), " {%d}", len(pass)), slices.Clone(pass)},
	}
}

// relayScript begins a mechanism whose messages the client makes.
func (bc *backendConn) relayScript(a *attempt, user string) (*script, error) {
	if !bc.offers(a.mechanism) {
		return nil, errNoMechanism
	}
	msg := bytes.Clone(a.secret.b)
	if user != a.authcid {
		renamed, err := rename(a, msg, user)
		clear(msg)
		if err != nil {
			return nil, err
		}
		msg = renamed
	}
	defer clear(msg)
	sc := bc.withInitial(a.mechanism, msg)
	sc.relay = true
	return sc, nil
}

// rename puts another user name into a client's first message.
func rename(a *attempt, msg []byte, user string) ([]byte, error) {
	switch a.mechanism {
	case "XOAUTH2":
		_, rest, _ := bytes.Cut(msg, []byte{1})
		return slices.Concat([]byte("user="+user+"\x01"), rest), nil
	case sasl.OAuthBearer:
		g, _ := parseGS2(msg)
		return slices.Concat([]byte("n,a="+escapeSASLName(user)+","), g.rest), nil
	}
	return nil, errNoRename // the name is part of what SCRAM proves
}

// withInitial begins a mechanism with the client's first message: in the command
// where the backend has SASL-IR (RFC 4959), else as the answer to its first
// continuation request.
func (bc *backendConn) withInitial(mechanism string, msg []byte) *script {
	line := []byte("AUTHENTICATE " + strings.ToUpper(mechanism))
	encoded := encode(msg)
	if !imap.HasCapability(bc.caps, "SASL-IR") {
		return &script{line: line, answers: [][]byte{encoded}}
	}
	defer clear(encoded)
	return &script{line: slices.Concat(line, []byte(" "), encoded)}
}

func encode(msg []byte) []byte {
	return base64.StdEncoding.AppendEncode(make([]byte, 0, base64.StdEncoding.EncodedLen(len(msg))), msg)
}

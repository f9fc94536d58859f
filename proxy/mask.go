package proxy

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"imapgate/proxy/imap"
)

// What a trace shows is put together from words that are known, and from lengths.
// Nothing is shown because it looks harmless: a client may send its password where
// its tag should be, and a backend may repeat it in a capability.

// octets says how long something is that is not shown.
func octets(what string, n int) string { return "[" + what + ": " + strconv.Itoa(n) + "]" }

// maskCommand returns what is shown of a client's command of n octets, literals
// included, and its tag if that is one. nil is a command that was not understood.
func maskCommand(cmd *imap.Command, n int) (text, tag string) {
	if cmd == nil {
		return octets("not understood, octets", n), ""
	}
	head := cmd.Tag + " " + cmd.Name
	switch cmd.Name {
	case "CAPABILITY", "NOOP", "LOGOUT", "STARTTLS":
		if cmd.NoArgs() == nil {
			return head, cmd.Tag
		}
	case "LOGIN", "ID":
		return head + " " + octets("octets in all", n), cmd.Tag
	case "AUTHENTICATE":
		name, ir, has, err := cmd.Authenticate()
		switch {
		case err != nil || !slices.Contains(knownMechanisms, name):
		case has:
			return head + " " + name + " " + octets("initial response, octets", len(ir)), cmd.Tag
		default:
			return head + " " + name, cmd.Tag
		}
		return head + " " + octets("octets in all", n), cmd.Tag
	}
	return octets("not understood, octets", n), ""
}

// maskResponse returns what is shown of a response, whoever makes it: its tag, if
// that is the one that is expected, its name, its code and capabilities, as far as
// they are known, and the length of the rest.
func maskResponse(line, tag string) string {
	first, rest, _ := strings.Cut(line, " ")
	switch {
	case first == "+":
		return "+ " + octets("octets", len(rest))
	case first == "*", first == tag && tag != "":
	default:
		return octets("not understood, octets", len(line))
	}
	name, text, _ := strings.Cut(rest, " ")
	name = strings.ToUpper(name)
	switch name {
	case "OK", "NO", "BAD", "BYE", "PREAUTH":
	case "CAPABILITY":
		return first + " CAPABILITY" + knownCapabilities(text)
	case "ID", "LIST", "NAMESPACE", "FLAGS", "ENABLED":
		return first + " " + name + " " + octets("octets", len(text))
	default:
		return first + " " + octets("octets", len(rest))
	}
	shown := first + " " + name
	if inner, ok := strings.CutPrefix(text, "["); ok {
		if code, after, ok := strings.Cut(inner, "]"); ok {
			word, arguments, _ := strings.Cut(code, " ")
			word = strings.ToUpper(word)
			switch {
			case word == "CAPABILITY":
				shown += " [CAPABILITY" + knownCapabilities(arguments) + "]"
			case slices.Contains(knownCodes, word):
				shown += " [" + word + "]"
			default:
				shown += " [" + strconv.Itoa(len(code)) + "]"
			}
			text = strings.TrimPrefix(after, " ")
		}
	}
	return shown + " " + octets("octets", len(text))
}

// knownCodes are the response codes that can be shown.
var knownCodes = []string{
	"ALERT", "AUTHENTICATIONFAILED", "AUTHORIZATIONFAILED", "CANNOT", "CONTACTADMIN", "EXPIRED", "INUSE", "LIMIT", "NOPERM",
	"PRIVACYREQUIRED", "REFERRAL", "SERVERBUG", "TOOBIG", "UNAVAILABLE",
}

// knownMechanisms are the mechanisms that can be shown.
var knownMechanisms = []string{
	"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER", "EXTERNAL", "SCRAM-SHA-1", "SCRAM-SHA-256", "CRAM-MD5", "DIGEST-MD5", "GSSAPI",
}

// knownWords are the capabilities that can be shown.
var knownWords = []string{
	"IMAP4REV1", "IMAP4REV2", "SASL-IR", "LITERAL+", "LITERAL-", "ID", "ENABLE", "IDLE", "STARTTLS", "LOGINDISABLED", "UNAUTHENTICATE",
	"COMPRESS=DEFLATE", "NAMESPACE", "UIDPLUS", "MOVE", "CONDSTORE", "QRESYNC", "QUOTA",
}

// knownCapabilities returns the capabilities that are known, and how many others
// there are.
func knownCapabilities(list string) string {
	var b strings.Builder
	others := 0
	for word := range strings.FieldsSeq(list) {
		word = strings.ToUpper(word)
		mechanism, isAuth := strings.CutPrefix(word, "AUTH=")
		if slices.Contains(knownWords, word) || isAuth && slices.Contains(knownMechanisms, mechanism) {
			b.WriteString(" " + word)
		} else {
			others++
		}
	}
	if others > 0 {
		b.WriteString(" " + octets("others", others))
	}
	return b.String()
}

// maskLogin returns what is shown of a command that logs in at a backend.
func maskLogin(tag string, line []byte) string {
	command, rest, _ := bytes.Cut(line, []byte(" "))
	if string(command) == "LOGIN" {
		return tag + " LOGIN " + octets("octets", len(rest))
	}
	mechanism, initial, has := bytes.Cut(rest, []byte(" "))
	if string(command) != "AUTHENTICATE" || !slices.Contains(knownMechanisms, string(mechanism)) {
		return tag + " " + octets("octets", len(line))
	}
	shown := tag + " AUTHENTICATE " + string(mechanism)
	if has {
		shown += " " + octets("initial response, octets", len(initial))
	}
	return shown
}

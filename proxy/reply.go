package proxy

import (
	"slices"
	"strings"

	"imapgate/proxy/imap"
)

// ok answers a command.
func (c *conn) ok(tag, text string) { c.say(tag + " OK " + text) }

// no turns a reply error into the tagged response that it is.
func (c *conn) no(tag string, r *replyError) {
	c.say(tag + " " + r.Error())
	if r.Status == "BAD" {
		c.bad++
	}
}

// badSyntax answers a line that is no command. A tag that could not be read is
// never echoed: it could hold anything.
func (c *conn) badSyntax(e *imap.SyntaxError) {
	tag := e.Tag
	if tag == "" {
		tag = "*"
	}
	c.no(tag, &replyError{Status: "BAD", Text: e.Text})
}

// passOn makes the reply to a client from a refusal of a backend that carries a
// response code of its own.
func passOn(r imap.Response) *replyError {
	code := r.Code
	if r.CodeArgs != "" {
		code += " " + r.CodeArgs
	}
	text := r.Text
	if text == "" {
		text = "Login refused."
	}
	return &replyError{Status: "NO", Code: code, Text: text}
}

// shownCapabilities returns the capabilities after login that a client may see:
// the list as it is, unless it holds UNAUTHENTICATE.
func shownCapabilities(list string) string {
	if !imap.HasCapability(imap.ParseCapabilities(list), "UNAUTHENTICATE") {
		return list
	}
	return strings.Join(slices.DeleteFunc(strings.Fields(list), func(name string) bool {
		return strings.EqualFold(name, "UNAUTHENTICATE") || strings.EqualFold(name, "COMPRESS=DEFLATE")
	}), " ")
}

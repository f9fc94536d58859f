package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/emersion/go-imap/v2"
)

// demoMessage is one mail in an INBOX of the demo.
type demoMessage struct {
	text     []byte
	flags    []imap.Flag
	received time.Time
}

// demoMail is what a user of the demo finds in INBOX on a backend.
func demoMail(backend, user string, now time.Time) []demoMessage {
	name, _, _ := strings.Cut(user, "@")
	name = strings.ToUpper(name[:1]) + name[1:]
	var mail []demoMessage
	add := func(age time.Duration, from, subject, rest string, flags ...imap.Flag) {
		received := now.Add(-age)
		text := fmt.Sprintf("Date: %s\nFrom: %s\nTo: %s <%s>\nSubject: %s\nMessage-ID: <%d.%s@example.org>\nMIME-Version: 1.0\n%s",
			received.Format(time.RFC1123Z), from, name, user, subject, len(mail)+1, backend, rest)
		mail = append(mail, demoMessage{[]byte(strings.ReplaceAll(text, "\n", "\r\n")), flags, received})
	}

	add(49*time.Hour, "Postmaster <postmaster@example.org>", "Your mail lives on "+backend, fmt.Sprintf(`Content-Type: text/plain; charset=utf-8

Hello %s,

you have logged in to a proxy, and this mail comes from the server behind it that
is called %s. The proxy knew that from your name: a line of its table says

    %s    %s

Nobody else's mail is on this server.
`, name, backend, user, backend), imap.FlagSeen)

	add(5*time.Hour, "=?utf-8?q?Ren=C3=A9e_M=C3=BCller?= <renee@example.net>", "=?utf-8?b?R3LDvMOfZSBhdXMgS8O2bG4g4piA?=", `Content-Type: text/plain; charset=utf-8
Content-Transfer-Encoding: quoted-printable

Sch=C3=B6ne Gr=C3=BC=C3=9Fe! Whatever a message holds, the proxy passes it on=
 byte for byte.
`)

	add(25*time.Minute, "Build <build@example.com>", "Report 4711: 1289 passed", `Content-Type: multipart/mixed; boundary=b4711

--b4711
Content-Type: text/plain; charset=us-ascii

All tests have passed. The figures are attached.

--b4711
Content-Type: text/csv; name=figures.csv
Content-Disposition: attachment; filename=figures.csv

suite,passed,failed
login,412,0
fetch,877,0

--b4711--
`, imap.FlagFlagged)
	return mail
}

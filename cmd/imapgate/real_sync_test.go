package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestRealMbsyncSynchronizesBothWays(t *testing.T) {
	t.Parallel()
	mbsync := realTool(t, "mbsync")
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	for _, port := range w.entrances(t) {
		for _, mechanism := range []string{"*", "LOGIN"} {
			t.Run(port.Name+" "+mechanism, func(t *testing.T) {
				dir := t.TempDir()
				kind := "STARTTLS"
				if port.Implicit {
					kind = "IMAPS"
				}
				config := filepath.Join(dir, "mbsyncrc")
				writeRealFile(t, config, fmt.Sprintf(`
IMAPAccount gate
Host localhost
Port %s
User %s
Pass %s
SSLType %s
SystemCertificates no
CertificateFile %s
AuthMechs %s
Timeout 30

IMAPStore far
Account gate

MaildirStore near
Path %[7]s/mail/
Inbox %[7]s/mail/INBOX

Channel inbox
Far :far:
Near :near:
Patterns INBOX
Create Near
SyncState *
`, port.Port, port.Account.Name, port.Account.Password, kind, w.ca.File, mechanism, dir))
				if err := os.Mkdir(filepath.Join(dir, "mail"), 0o700); err != nil {
					t.Fatal(err)
				}
				subject := strings.ReplaceAll(t.Name(), "/", "-")
				w.seed(t, port.Account, subject+"-1", subject+"-2", subject+"-3")
				sync := realProgram{Path: mbsync, Dir: dir, Args: []string{"--config", config, "--all"}}
				sync.Run(t)
				var got []string
				for _, mail := range realMaildir(t, filepath.Join(dir, "mail", "INBOX")) {
					if s := realSubjectOf(mail); strings.HasPrefix(s, subject) {
						got = append(got, s)
					}
				}
				slices.Sort(got)
				if want := []string{subject + "-1", subject + "-2", subject + "-3"}; !slices.Equal(got, want) {
					t.Errorf("got %q, want %q", got, want)
				}

				mail := strings.ReplaceAll(realMail(subject+"-local"), "\r\n", "\n")
				writeRealFile(t, filepath.Join(dir, "mail", "INBOX", "cur", "1.local.test:2,S"), mail)
				sync.Run(t)
				w.has(t, port.Account, subject+"-local")
			})
		}
	}
}

// realMaildir reads the mails of a maildir.
func realMaildir(t *testing.T, dir string) (mails []string) {
	t.Helper()
	for _, sub := range []string{"new", "cur"} {
		files, err := os.ReadDir(filepath.Join(dir, sub))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			text, err := os.ReadFile(filepath.Join(dir, sub, f.Name()))
			if err != nil {
				t.Fatal(err)
			}
			mails = append(mails, string(text))
		}
	}
	return mails
}

func realSubjectOf(mail string) string {
	_, rest, _ := strings.Cut(mail, "\nSubject: ")
	subject, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(subject)
}

func TestRealFetchmailDeliversMail(t *testing.T) {
	t.Parallel()
	fetchmail := realTool(t, "fetchmail")
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	for _, port := range w.entrances(t) {
		t.Run(port.Name, func(t *testing.T) {
			dir := t.TempDir()
			w.seed(t, port.Account, "fetchmail-1", "fetchmail-2")
			ssl := "" // then it insists on STARTTLS, because of sslproto
			if port.Implicit {
				ssl = "ssl"
			}
			inbox, config := filepath.Join(dir, "inbox"), filepath.Join(dir, "fetchmailrc")
			writeRealFile(t, config, fmt.Sprintf(`
poll localhost protocol IMAP port %s timeout 30
  username "%s" password "%s"
  options %s sslproto "TLS1.2+" sslcertck sslcertfile "%s" fetchall no keep
  mda "cat >> %s"
`, port.Port, port.Account.Name, port.Account.Password, ssl, w.ca.File, inbox))
			out := realProgram{Path: fetchmail, Dir: dir, Args: []string{
				"--fetchmailrc", config, "--nodetach", "--nosyslog", "--pidfile", filepath.Join(dir, "pid"), "--verbose",
			}}.Run(t)
			text, err := os.ReadFile(inbox)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			for _, want := range []string{"This is fetchmail-1.", "This is fetchmail-2."} {
				if strings.Count(string(text), want) != 1 {
					t.Errorf("%q was not delivered once:\n%s\n%s", want, text, out)
				}
			}
			// It has deleted what it delivered.
			c := w.Dial(t)
			c.Login(port.Account)
			if found := c.Search("fetchmail"); len(found) != 0 {
				t.Errorf("mails: %q", found)
			}
			c.Logout()
		})
	}
}

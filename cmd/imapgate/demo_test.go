package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/emersion/go-imap/v2"
	"github.com/emersion/go-imap/v2/imapclient"
)

// insecure is what clients of the demo use: nobody has signed its certificate.
var insecure = &imapclient.Options{TLSConfig: &tls.Config{InsecureSkipVerify: true}}

// runningDemo starts the demo on free ports and returns what it printed.
func runningDemo(t *testing.T) (printed, tlsAddress, startTLSAddress string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	var log bytes.Buffer // read after the end only
	exit := make(chan int, 1)
	go func() {
		exit <- run(ctx, []string{"demo", "--tls-port", "0", "--starttls-port", "0", "--admin-port", "0"}, in, &log)
		in.Close()
	}()
	t.Cleanup(func() {
		cancel()
		if code := <-exit; code != exitOK {
			t.Errorf("exit code %d\n%s", code, &log)
		}
		for _, bad := range []string{"ERROR", "panic", demoPassword + `"`} {
			if strings.Contains(log.String(), bad) {
				t.Errorf("the log has %q:\n%s", bad, &log)
			}
		}
	})
	var text []byte
	buf := make([]byte, 4096)
	for !bytes.Contains(text, []byte("The log follows.")) {
		n, err := out.Read(buf)
		text = append(text, buf[:n]...)
		if err != nil {
			t.Fatalf("the demo ended: %s", text)
		}
	}
	m := regexp.MustCompile(`clients connect to +(\S+) \(TLS\) and (\S+) \(STARTTLS\)`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no addresses in\n%s", text)
	}
	return string(text), string(m[1]), string(m[2])
}

func TestDemoServesBothUsersOnBothPorts(t *testing.T) {
	_, tlsAddress, startTLSAddress := runningDemo(t)
	for _, tc := range []struct{ user, backend string }{{"alice@example.org", "mail1"}, {"bob@example.org", "mail2"}, {"Alice", "mail1"}} {
		for _, port := range []struct {
			name, address string
			dial          func(string, *imapclient.Options) (*imapclient.Client, error)
		}{{"TLS", tlsAddress, imapclient.DialTLS}, {"STARTTLS", startTLSAddress, imapclient.DialStartTLS}} {
			t.Run(tc.user+" "+port.name, func(t *testing.T) {
				c, err := port.dial(port.address, insecure)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				if err := c.Login(tc.user, demoPassword).Wait(); err != nil {
					t.Fatal(err)
				}
				if subject := firstSubject(t, c); subject != "Your mail lives on "+tc.backend {
					t.Errorf("the first mail is %q, want that of %s", subject, tc.backend)
				}
				if err := c.Logout().Wait(); err != nil {
					t.Error(err)
				}
			})
		}
	}
}

// firstSubject returns the subject of the first mail in INBOX.
func firstSubject(t *testing.T, c *imapclient.Client) string {
	t.Helper()
	inbox, err := c.Select("INBOX", nil).Wait()
	if err != nil {
		t.Fatal(err)
	}
	if inbox.NumMessages < 3 {
		t.Errorf("%d mails in INBOX", inbox.NumMessages)
	}
	mail, err := c.Fetch(imap.SeqSetNum(1), &imap.FetchOptions{Envelope: true}).Collect()
	if err != nil || len(mail) != 1 {
		t.Fatalf("fetched %d mails: %v", len(mail), err)
	}
	return mail[0].Envelope.Subject
}

func TestDemoRefusesWrongPasswords(t *testing.T) {
	_, address, _ := runningDemo(t)
	c, err := imapclient.DialTLS(address, insecure)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Login("alice@example.org", "wrong").Wait(); err == nil || !strings.Contains(err.Error(), "AUTHENTICATIONFAILED") {
		t.Errorf("wrong password: %v", err)
	}
	if err := c.Login("alice@example.org", demoPassword).Wait(); err != nil {
		t.Errorf("then the right one: %v", err)
	}
}

func TestDemoPrintsWhatToType(t *testing.T) {
	printed, tlsAddress, startTLSAddress := runningDemo(t)
	for _, want := range []string{
		fmt.Sprintf("curl -k --user alice@example.org:imapgate 'imaps://%s/INBOX;MAILINDEX=1'", tlsAddress),
		fmt.Sprintf("curl -k --user bob@example.org:imapgate --ssl-reqd 'imap://%s/INBOX;MAILINDEX=1'", startTLSAddress),
		"openssl s_client -quiet -crlf -connect " + tlsAddress,
	} {
		if !strings.Contains(printed, want) {
			t.Errorf("not printed: %s", want)
		}
	}
	m := regexp.MustCompile(`imapgate lookup -c (\S+) (\S+) --explain`).FindStringSubmatch(printed)
	if m == nil {
		t.Fatal("no lookup is printed")
	}
	for _, args := range [][]string{
		{"lookup", "-c", m[1], m[2]},
		{"lookup", "-c", m[1], m[2], "--explain"},
		{"status", "-c", m[1]},
		{"backends", "-c", m[1]},
		{"drain", "-c", m[1], "mail2"},
		{"ready", "-c", m[1], "mail2"},
	} {
		if code, stdout, stderr := command(t, args...); code != exitOK || !strings.Contains(stdout, "mail2") && args[0] != "status" {
			t.Errorf("%s: exit code %d\n%s%s", args[0], code, stdout, stderr)
		}
	}
	page := regexp.MustCompile(`browser at (\S+) `).FindStringSubmatch(printed)
	if page == nil {
		t.Fatal("no web page is printed")
	}
	response, err := http.Get(page[1])
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if kind := response.Header.Get("Content-Type"); response.StatusCode != http.StatusOK || !strings.HasPrefix(kind, "text/html") {
		t.Errorf("the page: %s, %s", response.Status, kind)
	}
	if info, err := os.Stat(filepath.Dir(m[1])); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the demo's directory: %v, %v", info.Mode(), err)
	}
}

func TestDemoWithPortsInUse(t *testing.T) {
	_, tlsAddress, startTLSAddress := runningDemo(t)
	_, tlsPort, _ := strings.Cut(tlsAddress, ":")
	_, startTLSPort, _ := strings.Cut(startTLSAddress, ":")
	code, stdout, stderr := command(t, "demo", "--tls-port", tlsPort, "--starttls-port", startTLSPort)
	want := "imapgate: cannot listen on " + tlsAddress + ": address already in use; cannot listen on " + startTLSAddress +
		": address already in use (choose other ports with --tls-port, --starttls-port and --admin-port)\n"
	if code != exitFailed || stdout != "" || stderr != want {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
}

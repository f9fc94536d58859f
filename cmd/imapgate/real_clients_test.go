package main_test

import (
	"bytes"
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// realEntrance is one of the two ways by which mail programs come: TLS from the
// start, or STARTTLS.
type realEntrance struct {
	Name     string
	Implicit bool
	Scheme   string // of URLs
	Port     string
	Account  realAccount
}

func (w *realWorld) entrances(t *testing.T) []realEntrance {
	t.Helper()
	_, implicit, err := net.SplitHostPort(w.TLS)
	if err != nil {
		t.Fatal(err)
	}
	_, starttls, err := net.SplitHostPort(w.STARTTLS)
	if err != nil {
		t.Fatal(err)
	}
	return []realEntrance{
		{"TLS", true, "imaps", implicit, realAlice},
		{"STARTTLS", false, "imap", starttls, realBob},
	}
}

// realProgram is a mail program that a test runs.
type realProgram struct {
	Path  string
	Args  []string
	Dir   string // its working directory and home
	Stdin string
}

// command prepares the program with an environment of its own.
func (p realProgram) command(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, p.Path, p.Args...)
	cmd.Dir = p.Dir
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + p.Dir, "LC_ALL=C", "TERM=vt100"}
	cmd.Stdin = strings.NewReader(p.Stdin)
	cmd.WaitDelay = time.Second // for pipes that its children keep open
	return cmd
}

// Run runs the program, which must succeed, and returns its standard output.
func (p realProgram) Run(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*realPatience)
	defer cancel()
	cmd := p.command(ctx)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\n%s\n%s", filepath.Base(p.Path), p.Args, err, &stdout, &stderr)
	}
	return stdout.String()
}

// seed stores mails with these subjects.
func (w *realWorld) seed(t *testing.T, account realAccount, subjects ...string) {
	t.Helper()
	c := w.Dial(t)
	c.Login(account)
	for _, s := range subjects {
		c.Append(s)
	}
	c.Logout()
}

// has fails the test unless exactly one mail has the subject.
func (w *realWorld) has(t *testing.T, account realAccount, subject string) {
	t.Helper()
	c := w.Dial(t)
	c.Login(account)
	if found := c.Search(subject); len(found) != 1 {
		t.Errorf("mails with the subject %q: %q", subject, found)
	}
	c.Logout()
}

func TestRealCurlReadsAndStoresMail(t *testing.T) {
	t.Parallel()
	curl := realTool(t, "curl")
	const aliceToken, bobToken = "Xq7.alices-token.Vw2", "Xq7.bobs-token.Vw2"
	w := startRealWorld(t,
		realDovecotConfig{
			Mechanisms: "plain login xoauth2 oauthbearer",
			OAuth:      startRealOAuth(t, map[string]string{aliceToken: realAlice.Name, bobToken: realBob.Name}),
		},
		realGateConfig{
			Login:   realMap{"mechanisms": []string{"PLAIN", "LOGIN", "XOAUTH2", "OAUTHBEARER"}},
			Secrets: []string{aliceToken, bobToken},
		})
	w.WaitMechanism(t, "OAUTHBEARER")
	tokens := map[string]string{realAlice.Name: aliceToken, realBob.Name: bobToken}
	for _, port := range w.entrances(t) {
		url := port.Scheme + "://localhost:" + port.Port + "/INBOX"
		with := func(user string, more ...string) []string {
			return append([]string{"--silent", "--show-error", "--max-time", "30", "--cacert", w.ca.File, "--ssl-reqd", "--user", user}, more...)
		}
		password := func(more ...string) []string { return with(port.Account.Name+":"+port.Account.Password, more...) }
		token := func(more ...string) []string {
			return with(port.Account.Name, append(more, "--oauth2-bearer", tokens[port.Account.Name])...)
		}
		t.Run(port.Name+" stores", func(t *testing.T) {
			dir := t.TempDir()
			writeRealFile(t, filepath.Join(dir, "mail"), realMail("curl"))
			realProgram{Path: curl, Dir: dir, Args: password("--upload-file", "mail", url)}.Run(t)
			w.has(t, port.Account, "curl")
		})
		for name, args := range map[string][]string{
			"any mechanism":               password(),
			"PLAIN":                       password("--login-options", "AUTH=PLAIN"),
			"PLAIN, initial response":     password("--login-options", "AUTH=PLAIN", "--sasl-ir"),
			"LOGIN":                       password("--login-options", "AUTH=LOGIN"),
			"XOAUTH2":                     token("--login-options", "AUTH=XOAUTH2"),
			"OAUTHBEARER":                 token("--login-options", "AUTH=OAUTHBEARER"),
			"OAUTHBEARER, first response": token("--login-options", "AUTH=OAUTHBEARER", "--sasl-ir"),
		} {
			t.Run(port.Name+" reads by "+name, func(t *testing.T) {
				if mail := (realProgram{Path: curl, Dir: t.TempDir(), Args: append(args, url+";MAILINDEX=1")}).Run(t); mail != realMail("curl") {
					t.Errorf("got %q", mail)
				}
			})
		}
		t.Run(port.Name+" with a wrong password", func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), realPatience)
			defer cancel()
			p := realProgram{Path: curl, Dir: t.TempDir(), Args: with(port.Account.Name+":wrong", url+";MAILINDEX=1")}
			out, err := p.command(ctx).CombinedOutput()
			const loginDenied = 67
			if exit := new(exec.ExitError); !errors.As(err, &exit) || exit.ExitCode() != loginDenied {
				t.Errorf("got %v, want exit status %d: %s", err, loginDenied, out)
			}
		})
	}
}

const realIMAPLib = `
import imaplib, ssl, sys
port, implicit, name, password, ca, mail = int(sys.argv[1]), sys.argv[2] == "implicit", *sys.argv[3:7]
context = ssl.create_default_context(cafile=ca)

def connect():
    if implicit:
        return imaplib.IMAP4_SSL("localhost", port, ssl_context=context, timeout=30)
    c = imaplib.IMAP4("localhost", port, timeout=30)
    assert "LOGINDISABLED" in c.capabilities, c.capabilities
    c.starttls(context)
    assert "LOGINDISABLED" not in c.capabilities, c.capabilities
    return c

def refused(f, *args):
    try:
        f(*args)
    except imaplib.IMAP4.error as e:
        assert "AUTHENTICATIONFAILED" in str(e), e
    else:
        assert False, "the wrong password logged in"

c = connect()
refused(c.login, name, "wrong")
refused(c.authenticate, "PLAIN", lambda _: ("\0" + name + "\0wrong").encode())
c.login(name, password)
typ, data = c.capability()
assert b"UIDPLUS" in data[0], data
typ, data = c.append("INBOX", r"(\Seen)", None, mail.encode())
assert typ == "OK", data
typ, data = c.select("INBOX")
assert typ == "OK" and data == [b"1"], data
typ, data = c.search(None, "SUBJECT", '"imaplib"')
assert data == [b"1"], data
typ, data = c.fetch("1", "(BODY.PEEK[])")
assert data[0][1] == mail.encode(), data
typ, data = c.store("1", "+FLAGS", r"(\Flagged)")
assert typ == "OK", data
c.close()
assert c.logout()[0] == "BYE"

c = connect()
c.authenticate("PLAIN", lambda _: ("\0" + name + "\0" + password).encode())
assert c.status("INBOX", "(MESSAGES)")[1] == [b"INBOX (MESSAGES 1)"]
c.logout()

if "AUTH=LOGIN" in connect().capabilities:
    c = connect()
    answers = iter([name, password])
    c.authenticate("LOGIN", lambda _: next(answers).encode())
    c.select("INBOX", readonly=True)
    c.logout()
print("done")
`

func TestRealPythonReadsAndStoresMail(t *testing.T) {
	t.Parallel()
	python := realTool(t, "python3")
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	w.WaitMechanism(t, "LOGIN")
	for _, port := range w.entrances(t) {
		t.Run(port.Name, func(t *testing.T) {
			kind := "starttls"
			if port.Implicit {
				kind = "implicit"
			}
			p := realProgram{Path: python, Dir: t.TempDir(), Stdin: realIMAPLib, Args: []string{
				"-", port.Port, kind, port.Account.Name, port.Account.Password, w.ca.File, realMail("imaplib"),
			}}
			if out := p.Run(t); strings.TrimSpace(out) != "done" {
				t.Errorf("got %q", out)
			}
			w.has(t, port.Account, "imaplib")
		})
	}
}

func TestRealOpenSSLHoldsADialogue(t *testing.T) {
	t.Parallel()
	openssl := realTool(t, "openssl")
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	for _, port := range w.entrances(t) {
		for _, version := range []string{"-tls1_2", "-tls1_3"} {
			t.Run(port.Name+" "+version, func(t *testing.T) {
				args := []string{
					"s_client", "-quiet", version, "-connect", "localhost:" + port.Port, "-servername", "localhost", "-alpn", "imap",
					"-CAfile", w.ca.File, "-verify_hostname", "localhost", "-verify_return_error",
				}
				if !port.Implicit {
					args = append(args, "-starttls", "imap")
				}
				c := realProgram{Path: openssl, Dir: t.TempDir(), Args: args}.Talk(t)
				if port.Implicit {
					c.greeting()
				}
				c.OK("CAPABILITY")
				c.OK("LOGIN " + port.Account.Name + " " + port.Account.Password)
				subject := "openssl" + version
				c.Append(subject)
				if found := c.Search(subject); len(found) != 1 {
					t.Errorf("mails: %q", found)
				}
				c.OK("LOGOUT")
				c.EOF()
			})
		}
	}
}

// Talk starts a program whose standard input and output are a connection.
func (p realProgram) Talk(t *testing.T) *realConn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*realPatience)
	t.Cleanup(cancel)
	stdin, toProgram, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromProgram, stdout, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd := p.command(ctx)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stdin.Close()
	stdout.Close()
	t.Cleanup(func() { // after the connection is closed
		err := cmd.Wait()
		if t.Failed() {
			t.Logf("%s: %v\n%s", p.Path, err, &stderr)
		}
	})
	return newRealConn(t, &realPipes{in: fromProgram, out: toProgram})
}

// realPipes is a connection through a program.
type realPipes struct {
	net.Conn // has no addresses
	in, out  *os.File
}

func (p *realPipes) Read(b []byte) (int, error)  { return p.in.Read(b) }
func (p *realPipes) Write(b []byte) (int, error) { return p.out.Write(b) }

func (p *realPipes) Close() error {
	p.out.Close()
	return p.in.Close()
}

func (p *realPipes) SetDeadline(at time.Time) error {
	return errors.Join(p.out.SetDeadline(at), p.in.SetDeadline(at))
}

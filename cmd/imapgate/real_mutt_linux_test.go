package main_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestRealMuttCopiesMailBothWays(t *testing.T) {
	t.Parallel()
	mutt := realTool(t, "mutt")
	w := startRealWorld(t, realDovecotConfig{}, realGateConfig{})
	for _, port := range w.entrances(t) {
		t.Run(port.Name, func(t *testing.T) {
			dir := t.TempDir()
			config := filepath.Join(dir, "muttrc")
			writeRealFile(t, config, fmt.Sprintf(`
set imap_user="%s"
set imap_pass="%s"
set ssl_ca_certificates_file="%s"
set ssl_starttls=yes ssl_force_tls=yes ssl_verify_host=yes
set imap_authenticators="plain:login"
set mbox_type=mbox folder="" spoolfile="" record="" postponed=""
set confirmappend=no confirmcreate=no quit=yes move=no delete=no mark_old=no wait_key=no sleep_time=0 timeout=5
`, port.Account.Name, port.Account.Password, w.ca.File))
			inbox := port.Scheme + "://localhost:" + port.Port + "/INBOX"
			w.seed(t, port.Account, "mutt-1", "mutt-2")

			out := filepath.Join(dir, "out")
			run := func(mailbox, keys string) string {
				t.Helper()
				return realProgram{Path: mutt, Dir: dir, Args: []string{"-n", "-F", config, "-f", mailbox, "-e", `push "` + keys + `"`}}.Terminal(t)
			}
			screen := run(inbox, "<tag-pattern>~A<enter><tag-prefix><copy-message><kill-line>"+out+"<enter><quit>")
			text, err := os.ReadFile(out)
			if err != nil {
				t.Fatalf("%v\n%q", err, screen)
			}
			for _, want := range []string{"This is mutt-1.", "This is mutt-2."} {
				if strings.Count(string(text), want) != 1 {
					t.Errorf("%q was not copied once:\n%s\n%q", want, text, screen)
				}
			}

			local := filepath.Join(dir, "local")
			writeRealFile(t, local, "From test@example.org Mon Jan  2 15:04:05 2006\n"+strings.ReplaceAll(realMail("mutt-local"), "\r\n", "\n"))
			screen = run(local, "<copy-message><kill-line>"+inbox+"<enter><quit>")
			w.has(t, port.Account, "mutt-local")
			if t.Failed() {
				t.Logf("%q", screen)
			}
		})
	}
}

// Terminal runs a program on a pseudo-terminal and returns what it wrote there.
func (p realProgram) Terminal(t *testing.T) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*realPatience)
	defer cancel()
	screen, err := os.OpenFile("/dev/ptmx", os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer screen.Close()
	fd := int(screen.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 80}); err != nil {
		t.Fatal(err)
	}
	terminal, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer terminal.Close()

	cmd := p.command(ctx)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = terminal, terminal, terminal
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	terminal.Close()
	var out bytes.Buffer
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		_, _ = io.Copy(&out, screen) // ends with EIO when the program has gone
	}()
	err = cmd.Wait()
	<-drained
	if err != nil {
		t.Fatalf("%s: %v\n%q", p.Path, err, &out)
	}
	return out.String()
}

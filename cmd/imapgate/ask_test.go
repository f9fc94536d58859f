package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
)

// stub is an API that answers with what a test says, and notes what it is asked.
type stub struct {
	socket string

	mu      sync.Mutex
	answers map[string]stubAnswer // by method and path
	asked   []string
}

type stubAnswer struct {
	code int
	body string
}

func newStub(t *testing.T) *stub {
	t.Helper()
	s := &stub{socket: filepath.Join(t.TempDir(), "admin.sock"), answers: make(map[string]stubAnswer)}
	l, err := net.Listen("unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: s}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l)
	}()
	t.Cleanup(func() {
		server.Close()
		<-done
	})
	return s
}

// ServeHTTP implements [http.Handler].
func (s *stub) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.asked = append(s.asked, strings.TrimSpace(r.Method+" "+r.URL.String()+" "+strings.ReplaceAll(strings.TrimSpace(string(body)), "\n", "\\n")))
	a, ok := s.answers[r.Method+" "+r.URL.EscapedPath()]
	if !ok {
		a = stubAnswer{http.StatusNotImplemented, `{"error":"the test has no answer"}`}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(a.code)
	_, _ = io.WriteString(w, a.body)
}

// TestAsking runs testdata/ask/*.txtar. In each, files called like requests hold
// the answers of the API, behind another code than 200 if there is one; others are
// written to a directory, in which the commands of `run` are run. Below each stand
// what it asked for, what it printed (! is standard error), and its exit code if
// that is not 0.
func TestAsking(t *testing.T) {
	files, err := filepath.Glob("testdata/ask/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	covered := make(map[string]bool)
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(file)
			if err != nil {
				t.Fatal(err)
			}
			s, dir := newStub(t), t.TempDir()
			var script *txtar.File
			for i := range archive.Files {
				f := &archive.Files[i]
				words := strings.Fields(f.Name)
				code := http.StatusOK
				if n, err := strconv.Atoi(words[0]); err == nil {
					code, words = n, words[1:]
				}
				switch {
				case f.Name == "run":
					script = f
				case len(words) == 2:
					s.answers[strings.Join(words, " ")] = stubAnswer{code, string(f.Data)}
				default:
					writeFiles(t, dir, map[string]string{f.Name: string(f.Data)})
				}
			}
			if script == nil {
				t.Fatal("there is nothing to run")
			}
			got := s.run(t, dir, string(script.Data), covered)
			switch {
			case got == string(script.Data):
			case *update:
				script.Data = []byte(got)
				if err := os.WriteFile(file, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
			default:
				t.Errorf("(-want +got):\n%s", cmp.Diff(string(script.Data), got))
			}
			for line := range strings.Lines(got) {
				if n := len([]rune(line)) - 1; n > 80 && !strings.HasPrefix(line, "$") && !strings.HasPrefix(line, ">") && !strings.HasPrefix(line, "!") && !strings.HasPrefix(line, "  ") {
					t.Errorf("%d columns: %s", n, line)
				}
			}
		})
	}
	for _, cmd := range newRoot().Commands() {
		if (cmd.GroupID == "ask" || cmd.GroupID == "change") && !covered[cmd.Name()] {
			t.Errorf("%s is not run", cmd.Name())
		}
	}
}

// run runs the commands of a script, and returns it with what they did.
func (s *stub) run(t *testing.T, dir, script string, covered map[string]bool) string {
	t.Helper()
	var b strings.Builder
	for line := range strings.Lines(script) {
		rest, ok := strings.CutPrefix(line, "$ imapgate ")
		if !ok {
			continue
		}
		b.WriteString(line)
		args := splitWords(strings.TrimSpace(rest))
		covered[args[0]] = true
		for i, arg := range args {
			args[i] = strings.ReplaceAll(arg, "DIR", dir)
		}
		code, stdout, stderr := command(t, append(args, "--socket", s.socket)...)
		s.mu.Lock()
		slices.Sort(s.asked) // some are asked at the same time
		for _, asked := range s.asked {
			b.WriteString("> " + asked + "\n")
		}
		s.asked = nil
		s.mu.Unlock()
		b.WriteString(stdout)
		for line := range strings.Lines(stderr) {
			b.WriteString("! " + strings.ReplaceAll(line, dir, "DIR"))
		}
		if code != exitOK {
			fmt.Fprintf(&b, "[exit %d]\n", code)
		}
		b.WriteString("\n")
	}
	return b.String()
}

// splitWords splits a command line; quotes keep blanks together.
func splitWords(line string) []string {
	var words []string
	quoted := false
	for _, word := range strings.FieldsFunc(line, func(r rune) bool {
		if r == '\'' {
			quoted = !quoted
		}
		return r == ' ' && !quoted
	}) {
		words = append(words, strings.ReplaceAll(word, "'", ""))
	}
	return words
}

func TestNobodyToAsk(t *testing.T) {
	dir := t.TempDir()
	writeFiles(t, dir, map[string]string{
		"no.yaml":     "listen: []\n",
		"socket.yaml": "admin: {socket: none.sock}\n",
		"broken.yaml": "admin: [\n",
	})
	for _, tc := range []struct {
		args string
		code int
		want string
	}{
		{"status -c DIR/nowhere.yaml", exitUsage, "imapgate: cannot tell the socket from DIR/nowhere.yaml: no such file or directory; see --socket\n"},
		{"status -c DIR/no.yaml", exitUsage, "imapgate: cannot tell the socket from DIR/no.yaml: it has no admin.socket; see --socket\n"},
		{"drain -c DIR/broken.yaml mail1", exitUsage, "imapgate: cannot tell the socket from DIR/broken.yaml: it is not valid YAML; see --socket\n"},
		{"who -c DIR/socket.yaml", exitUnreachable, "imapgate: cannot reach imapgate at DIR/none.sock: there is no such socket: is imapgate running?\n"},
		{"lookup --explain alice --socket DIR/s", exitUnreachable, "imapgate: cannot reach imapgate at DIR/s: there is no such socket: is imapgate running?\n"},
		{"move --file DIR/no.yaml mail1 --socket DIR/s", exitUnreachable, "imapgate: cannot reach imapgate at DIR/s: there is no such socket: is imapgate running?\n"},
	} {
		code, stdout, stderr := command(t, strings.Fields(strings.ReplaceAll(tc.args, "DIR", dir))...)
		if got := strings.ReplaceAll(stderr, dir, "DIR"); code != tc.code || stdout != "" || got != tc.want {
			t.Errorf("%s: exit code %d\n%s%s", tc.args, code, stdout, got)
		}
	}
}

func TestNamesAreCompleted(t *testing.T) {
	s := newStub(t)
	s.answers["GET /v1/backends"] = stubAnswer{200, `{"backends":[{"name":"mail1","address":"10.0.0.1:993"},{"name":"mail2","address":"10.0.0.2:993"},{"name":"old"}]}`}
	s.answers["GET /v1/sessions"] = stubAnswer{200, `{"sessions":[{"user":"alice@example.org"},{"user":"alan@example.org"},{"user":"alice@example.org"}]}`}
	s.answers["GET /v1/overrides"] = stubAnswer{200, `{"overrides":[{"kind":"pin","name":"bob@example.org"}]}`}
	for args, want := range map[string]string{
		"drain ma":                "mail1 mail2",
		"weight ma":               "mail1 mail2",
		"weight mail1 ":           "",
		"move al":                 "alice@example.org alan@example.org",
		"move alice@example.org ": "mail1 mail2 old",
		"move --file x o":         "old",
		"unpin b":                 "bob@example.org",
		"kick --backend mail2":    "mail2",
		"who al":                  "alice@example.org alan@example.org",
		"lookup al":               "alice@example.org alan@example.org",
		"status ":                 "",
	} {
		words := strings.Split(args, " ")
		line := append([]string{"__complete", words[0], "--socket", s.socket}, words[1:]...)
		code, stdout, _ := command(t, line...)
		var got []string
		for line := range strings.Lines(stdout) {
			if name, _, _ := strings.Cut(strings.TrimSpace(line), "\t"); name != "" && !strings.HasPrefix(name, ":") {
				got = append(got, name)
			}
		}
		if code != exitOK || strings.Join(got, " ") != want || !strings.Contains(stdout, ":4\n") {
			t.Errorf("%q: exit code %d, %q", args, code, stdout)
		}
	}
	if code, stdout, _ := command(t, "__complete", "drain", "--socket", "/nowhere", ""); code != exitOK || stdout != ":4\n" {
		t.Errorf("nobody to ask: exit code %d, %q", code, stdout)
	}
}

func TestMomentsAreRead(t *testing.T) {
	now := time.Date(2026, 11, 22, 18, 0, 30, 0, time.UTC)
	for text, want := range map[string]string{
		"2h":                   "2026-11-22T20:00:30Z",
		"90s":                  "2026-11-22T18:02:00Z",
		"18:30":                "2026-11-22T18:30:00Z",
		"18:00":                "2026-11-23T18:00:00Z",
		"2026-12-01 07:15":     "2026-12-01T07:15:00Z",
		"2027-01-01T00:00:00Z": "2027-01-01T00:00:00Z",
		"-2h":                  "", "0s": "", "tomorrow": "", "": "", "25:00": "",
	} {
		got, err := parseWhen(text, now)
		if want == "" && err == nil || want != "" && (err != nil || got.Format(time.RFC3339) != want) {
			t.Errorf("%q: %s, %v", text, got, err)
		}
	}
}

func TestPrintingForPeople(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Second: "0s", 59 * time.Second: "59s", 61 * time.Second: "1m", 3*time.Hour + 5*time.Minute: "3h05m", 50 * time.Hour: "2d2h",
	} {
		if got := age(d); got != want {
			t.Errorf("age of %s: %s", d, got)
		}
	}
	for n, want := range map[int64]string{0: "0", 1023: "1023", 1024: "1.0K", 10_240: "10K", 5 << 30: "5.0G", 1 << 60: "1024P"} {
		if got := size(n); got != want {
			t.Errorf("size of %d: %s", n, got)
		}
	}
	for n, want := range map[int]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000"} {
		if got := thousands(n); got != want {
			t.Errorf("%d: %s", n, got)
		}
	}
	var b strings.Builder
	p := newPrinter(&b)
	p.colours = true
	p.table(header("A", ">N"), []cell{{text: "é", colour: red}, number(1000)}, []cell{text("x\x1b[2J"), {text: "", right: true}, text("more")})
	if err := p.flush(); err != nil {
		t.Fatal(err)
	}
	want := "\x1b[1mA\x1b[0m          \x1b[1mN\x1b[0m\n\x1b[31mé\x1b[0m      1,000\nx\uFFFD[2J         more\n"
	if b.String() != want {
		t.Errorf("got %q\nwant %q", b.String(), want)
	}
}

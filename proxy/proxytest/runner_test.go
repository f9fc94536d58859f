package proxytest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

// transcript makes a transcript of a conversation with a listener without TLS.
func transcript(t *testing.T, conversation, log string) string {
	t.Helper()
	text := "A rule.\n\n-- config --\nlisten: none\nbackend mail1: tls=none\nroute *: mail1\nexempt: 192.0.2.0/24\n-- conversation --\n" + conversation
	if log != "" {
		text += "-- log --\n" + log
	}
	file := filepath.Join(t.TempDir(), "t.txtar")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const (
	hello  = "[connect]\nS: * OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL- ID ENABLE IDLE AUTH=PLAIN AUTH=LOGIN] IMAP server ready.\n"
	dialed = hello + "C: a1 LOGIN alice secret\n[dial mail1]\nB: * OK [CAPABILITY IMAP4rev1] Hello.\n"
	asked  = dialed + "P: t1 LOGIN \"alice\" \"secret\"\n"
	within = asked + "B: t1 OK [CAPABILITY IMAP4rev1] In.\nS: a1 OK [CAPABILITY IMAP4rev1] In.\n"
)

func TestTranscriptsThatAreWrongFail(t *testing.T) {
	tests := []struct {
		name, conversation, log string
		want                    string
	}{
		{"right", within, "info login user=alice", ""},
		{"nothing is told", "[connect]\n", "", "at the end: unexpected, to client 1:\n\t\"* OK [CAPABILITY"},
		{"another line", "[connect]\nS: * OK Hello.\n", "", "t.txtar:10: S: * OK Hello.\nexpected: * OK Hello.\ngot:      * OK [CAPABILITY"},
		{"one line too many", hello + "C: a1 NOOP\nS: a1 OK NOOP completed.\nS: a2 OK\n", "", "t.txtar:13: S: a2 OK\nexpected: a2 OK\nbut client 1 has got:\nnothing"},
		{"one line too few", hello + "C: a1 ID NIL\nS: * ID NIL\nC: a2 NOOP\n", "", "t.txtar:13: C: a2 NOOP\nunexpected, to client 1:\n\t\"a1 OK"},
		{"other bytes", hello + "C: a1 NOOP\n[raw S \"a1 OK\\t\"]\n", "", "expected, to client 1:\n\t\"a1 OK\\t\"\ngot:\n\t\"a1 OK NOOP"},
		{"a dial is not told", hello + "C: a1 LOGIN alice secret\n[sleep 1ms]\n", "", "unexpected: the proxy dialled mail1"},
		{"another dial", hello + "C: a1 LOGIN alice secret\n[dial mail2]\n", "", "the proxy has dialled mail1 instead"},
		{"no dial", hello + "[dial mail1]\n", "", "the proxy has not dialled"},
		{"a close is not told", hello + "C: a1 LOGOUT\nS: * BYE Logging out.\nS: a1 OK Logout completed.\n", "", "the proxy closed client 1"},
		{"no close", hello + "[closed C]\n", "", "the proxy has not closed client 1"},
		{"no half-close", hello + "[eof S]\n", "", "the proxy has not ended its direction to client 1"},
		{"a half-close is not told", within + "[eof C]\n[sleep 1s]\n", "", "the proxy ended its direction to backend 1 (mail1)"},
		{"another line to the backend", dialed + "P: t1 LOGIN \"bob\" \"secret\"\n", "", "expected: t1 LOGIN \"bob\" \"secret\"\ngot:"},
		{"another tag", asked + "B: t1 NO No.\n[closed B]\nS: a1 NO [AUTHENTICATIONFAILED] Authentication failed.\n" +
			"C: a2 LOGIN alice secret\n[dial mail1]\nB: * OK Hello.\nP: t1 CAPABILITY\nB: * CAPABILITY IMAP4rev1\nB: t1 OK Done.\n" +
			"P: t1 LOGIN \"alice\" \"secret\"\n", "", "t1 is the tag"},
		{"a tag that is not there", asked + "B: t2 OK In.\n", "", "the proxy has not used the tag t2 yet"},
		{"no handshake", hello + "C: a1 LOGIN alice secret\n[dial mail1]\n[tls B]\n", "", "the proxy has not begun a handshake"},
		{"not logged", within, "info login user=bob", "not logged, or not in this order: info login user=bob"},
		{"logged in another order", within, "info login\ninfo listening", "not logged, or not in this order: info listening"},
		{"a dial that does not come in time", "[dial mail1 within=10s]\n", "", "the proxy has not dialled"},
		{"nobody to release", "[release alice]\n", "", "that changes nothing"},
		{"a pin to nowhere", "[pin alice mail9]\n", "", "unknown backend"},
		{"a bye that is not told", within + "[kick alice]\n", "", "unexpected, to client 1:\n\t\"* BYE"},
		{"a kick of somebody else", within + "[kick bob]\n[closed C]\n", "", "the proxy has not closed client 1"},
		{"another number of sessions", within + "[sessions alice count=2]\n", "", "there are 1"},
		{"no such event", "[dance]\n", "", "no such event: dance"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := readScript(transcript(t, tt.conversation, tt.log))
			if err != nil {
				t.Fatal(err)
			}
			synctest.Test(t, func(t *testing.T) {
				err := perform(t, s, false)
				switch {
				case tt.want == "" && err != nil:
					t.Error(err)
				case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
					t.Errorf("no %q in:\n%v", tt.want, err)
				}
			})
		})
	}
}

func TestUpdateWritesWhatTheProxySays(t *testing.T) {
	const noop = "C: a2 NOOP\nP: a2 NOOP\nB: a2 OK Done.\nS: a2 OK Done.\n"
	right := transcript(t, within+"[repeat 2]\n"+noop+"[end]\n\n# the end\n[eof C]\n[eof P]\n[close B]\n[closed C]\n", "")
	want, err := os.ReadFile(right)
	if err != nil {
		t.Fatal(err)
	}
	var without []string
	for line := range strings.Lines(string(want)) {
		if !strings.HasPrefix(line, "S:") && !strings.HasPrefix(line, "P:") {
			without = append(without, line)
		}
	}
	changes := map[string]string{
		"nothing":     string(want),
		"no lines":    strings.Join(without, ""),
		"other lines": strings.NewReplacer("S: * OK", "S: * NO", "P: a2 NOOP\n", "P: x\nP: y\n").Replace(string(want)),
	}
	for name, text := range changes {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "t.txtar")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			Update(t, file)
			got, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			Run(t, file)
		})
	}
}

package main_test

import (
	"bytes"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"
)

// stay is one session of a user at a Dovecot, as the logs tell.
type stay struct {
	user, backend, session string
	from                   time.Time // Dovecot's Login
	logout                 time.Time // Dovecot's, zero for none
	dropped                time.Time // when imapgate had closed its connection, zero: not yet
}

// to returns the end of a stay: Dovecot's own word, or that imapgate has closed
// the connection, whichever is first. A Dovecot that is stopped learns of that
// when it goes on, a busy one when it comes to it, and one that was killed never
// does; but with the connection the session is over for everybody else.
func (s *stay) to() time.Time {
	end := time.Now()
	for _, at := range []time.Time{s.logout, s.dropped} {
		if !at.IsZero() && at.Before(end) {
			end = at
		}
	}
	return end
}

// dovecotLine is a line of a Dovecot's log that tells of a connection.
type dovecotLine struct {
	time          time.Time
	event         dovecotEvent
	user, session string
}

type dovecotEvent int

const (
	dovecotLogin      dovecotEvent = iota + 1
	dovecotLogout                  // a session ended
	dovecotConnection              // a connection ended without a login
)

// crowdLogTime is how Dovecots of a crowd write the time.
const crowdLogTime = "2006-01-02T15:04:05.000000"

// Lines reads a Dovecot's log as far as it tells of connections. Regular
// expressions would take most of a test's time.
func (d *realDovecot) Lines(t *testing.T) []dovecotLine {
	t.Helper()
	var lines []dovecotLine
	for text := range strings.Lines(d.Log(t)) {
		at, text, _ := strings.Cut(text, " ")
		who, text, ok := strings.Cut(text, ": Info: ")
		if !ok {
			continue
		}
		l := dovecotLine{event: dovecotConnection}
		if who, ok := strings.CutPrefix(who, "imap("); ok { // imap(USER)<PID><SESSION>
			if !strings.HasPrefix(text, "Disconnected") && !strings.HasPrefix(text, "Logged out") && !strings.HasPrefix(text, "Connection closed") {
				continue
			}
			l.event = dovecotLogout
			l.user, who, _ = strings.Cut(who, ")<")
			_, who, _ = strings.Cut(who, "><")
			l.session = strings.TrimSuffix(who, ">")
		} else if who != "imap-login" {
			continue
		} else if text, ok := strings.CutPrefix(text, "Login: user=<"); ok {
			l.event = dovecotLogin
			l.user, text, _ = strings.Cut(text, ">")
			_, text, _ = strings.Cut(text, " session=<")
			l.session, _, _ = strings.Cut(text, ">")
		}
		var err error
		if l.time, err = time.ParseInLocation(crowdLogTime, at, time.Local); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines
}

// gateLine is a line of imapgate's log.
type gateLine struct {
	Time    time.Time `json:"time"`
	Msg     string    `json:"msg"`
	User    string    `json:"user"`
	Backend string    `json:"backend"`
	Session string    `json:"session"`
}

// lines returns the lines of imapgate's log so far that have one of the messages.
func (g *realGate) lines(t *testing.T, messages ...string) []gateLine {
	t.Helper()
	text, err := os.ReadFile(g.log)
	if err != nil {
		t.Fatal(err)
	}
	var lines []gateLine
	for line := range bytes.Lines(text) {
		for _, msg := range messages {
			var l gateLine
			if bytes.Contains(line, []byte(msg)) && json.Unmarshal(line, &l) == nil && l.Msg == msg {
				lines = append(lines, l)
			}
		}
	}
	return lines
}

// readStays reads from the logs who was where, in the order of the logins.
func readStays(t *testing.T, g *realGate, dovecots map[string]*realDovecot) []*stay {
	t.Helper()
	type at struct{ backend, session string }
	found := make(map[at]*stay)
	var all []*stay
	logouts := make(map[at]time.Time) // the log may have them before the logins
	for name, d := range dovecots {
		for _, l := range d.Lines(t) {
			switch l.event {
			case dovecotLogin:
				s := &stay{user: l.user, backend: name, session: l.session, from: l.time}
				found[at{name, s.session}] = s
				all = append(all, s)
			case dovecotLogout:
				logouts[at{name, l.session}] = l.time
			case dovecotConnection:
			}
		}
	}
	for where, s := range found {
		s.logout = logouts[where]
	}
	// The latter is a login that failed: the connection is closed by then.
	for _, l := range g.lines(t, "session ended", "backend failed") {
		if s := found[at{l.Backend, l.Session}]; s != nil {
			s.dropped = l.Time
		}
	}
	slices.SortStableFunc(all, func(a, b *stay) int { return a.from.Compare(b.from) })
	return all
}

// homes says where users logged in last.
func (w *balance) homes(t *testing.T) map[string]string {
	t.Helper()
	homes, last := make(map[string]string), make(map[string]time.Time)
	for name, d := range w.dovecots {
		for _, l := range d.Lines(t) {
			if l.event == dovecotLogin && l.time.After(last[l.user]) {
				homes[l.user], last[l.user] = name, l.time
			}
		}
	}
	return homes
}

// awaitHealth waits until imapgate has logged that it found a backend up or down.
func (w *balance) awaitHealth(t *testing.T, o *outage, msg string) {
	t.Helper()
	if !realEventually(t, func() bool {
		return slices.ContainsFunc(w.lines(t, msg), func(l gateLine) bool { return l.Backend == o.name })
	}) {
		t.Fatalf("%s: no %q", o.name, msg)
	}
	t.Logf("%s: %s after %v", o.name, msg, time.Since(o.began).Round(time.Millisecond))
}

// calm shows that imapgate itself sends nobody to a backend that is back: that log
// has no logins, and no connections but the looks at it, what was on its way to it
// when it was away, and those of this test.
func (w *balance) calm(t *testing.T, o *outage, back time.Time) {
	t.Helper()
	logins, connections := 0, 0
	for _, l := range o.d.Lines(t) {
		switch {
		case l.time.Before(back), l.event == dovecotLogout:
		case l.event == dovecotLogin:
			logins++
		default:
			connections++
		}
	}
	if logins > 0 {
		t.Errorf("%d logins at %s, to which nobody came", logins, o.name)
	}
	allowed := 8 + int(2*time.Since(back)/balanceLook+back.Sub(o.began)/balanceConnect)
	for _, l := range w.lines(t, "backend failed", "backend not reached") {
		if l.Backend == o.name {
			allowed++
		}
	}
	t.Logf("%d connections to %s in the first %v", connections, o.name, time.Since(back).Round(time.Millisecond))
	if connections > allowed {
		t.Errorf("that is more than %d", allowed)
	}
}

// review goes through the logs: nobody was on two backends at once, and there are
// no sessions that no client asked for.
func (w *balance) review(t *testing.T) {
	w.Stop(t)
	var all []*stay
	var looked time.Time
	if !realEventually(t, func() bool {
		if time.Since(looked) < balanceLook {
			return false // to look takes a while
		}
		all, looked = w.stays(t), time.Now()
		return !slices.ContainsFunc(all, func(s *stay) bool { return s.logout.IsZero() && !w.wasKilled(s) })
	}) {
		t.Error("a Dovecot has sessions that imapgate has not")
		for _, s := range all {
			if !s.logout.IsZero() || w.wasKilled(s) {
				continue
			}
			t.Logf("%s on %s since %v, session %s", s.user, s.backend, s.from, s.session)
			for line := range strings.Lines(w.dovecots[s.backend].Log(t)) {
				if strings.Contains(line, s.session) {
					t.Log(strings.TrimSpace(line))
				}
			}
		}
	}
	logins := 0
	for _, u := range w.users {
		logins += u.logins
	}
	if len(all) != logins {
		t.Errorf("%d sessions in the logs, and %d logins", len(all), logins)
	}
	backends := make(map[string][]*stay)
	unaware := 0
	var longest time.Duration
	for _, s := range all {
		for _, other := range backends[s.user] {
			if other.backend == s.backend {
				continue
			}
			if s.from.Before(other.to()) {
				t.Errorf("%s was on %s from %v to %v, and on %s from %v on",
					s.user, other.backend, other.from, other.to(), s.backend, s.from)
			} else if s.from.Before(other.logout) {
				unaware++
				longest = max(longest, other.logout.Sub(s.from))
			}
		}
		backends[s.user] = append(backends[s.user], s)
	}
	t.Logf("%d sessions; %d began while another Dovecot had yet to notice, for %v at the most, that its connection was closed",
		len(all), unaware, longest)
}

// wasKilled says whether a session ended with its Dovecot.
func (w *balance) wasKilled(s *stay) bool {
	at := w.killed[s.backend]
	return !at.IsZero() && s.from.Before(at)
}

// stays is all that the logs tell by now.
func (w *balance) stays(t *testing.T) []*stay {
	t.Helper()
	all := readStays(t, w.realGate, w.dovecots)
	for _, s := range all {
		if at := w.killed[s.backend]; w.wasKilled(s) && (s.dropped.IsZero() || at.Before(s.dropped)) {
			s.dropped = at
		}
	}
	return all
}

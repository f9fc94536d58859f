//go:build linux

package bench

import (
	"strconv"
	"time"
)

// linkDelay is what a slow line to the backend takes in each direction.
const linkDelay = 10 * time.Millisecond

// setup is how a target is started for a test.
type setup struct {
	cores      int
	backendTLS bool
	delay      time.Duration // of the line to the backend, in each direction
	rows       int           // of the table
}

// test is one thing that is measured.
type test struct {
	name     string
	kind     string   // the command of imapload
	flags    []string // its flags
	setup    setup
	sessions int  // that a proxy has to hold
	memory   bool // of that: noise does not matter
	half     bool // at half the logins a second that the target has managed
	same     bool // at half of those of the best peer instead, if they are known
	direct   bool // says something without a proxy, too
	admin    bool // needs a target that can be told to reload
	once     bool // one round is enough: it takes long, and differs little
}

// TestNames lists the tests.
func TestNames() []string {
	var names []string
	for _, t := range tests(Options{}) {
		names = append(names, t.name)
	}
	return names
}

// tests returns all that there are; quick ones show that they work, and nothing else.
func tests(o Options) []test {
	lasting := func(d time.Duration) string {
		if o.Quick {
			d = min(d, 200*time.Millisecond)
		}
		return d.String()
	}
	number := func(full, small int) int {
		if o.Quick {
			return small
		}
		return full
	}
	count := func(full, small int) string { return strconv.Itoa(number(full, small)) }

	one := setup{cores: 1}
	timed := []string{"--warm-up", lasting(o.Duration / 4), "--duration", lasting(o.Duration)}
	logins := append([]string{"--workers", count(128, 8)}, timed...)
	bulk := append([]string{"--connections", "4", "--size", count(16<<20, 1<<20)}, timed...)
	ping := func(connections int) []string {
		return append([]string{"--connections", strconv.Itoa(connections)}, timed...)
	}
	idle := func(sessions int) []string {
		return []string{"--sessions", strconv.Itoa(sessions), "--settle", lasting(5 * time.Second)}
	}
	all := []test{
		{name: "logins", kind: "logins", flags: logins, setup: one, direct: true},
		{name: "resumed", kind: "logins", flags: append([]string{"--resume"}, logins...), setup: one, direct: true},
		{name: "half", kind: "logins", flags: append([]string{"--workers", count(200, 8)}, timed...), setup: one, direct: true, half: true},
		{name: "same", kind: "logins", flags: append([]string{"--workers", count(200, 8)}, timed...), setup: one, direct: true, half: true, same: true},
		{name: "download", kind: "download", flags: bulk, setup: one, direct: true},
		{name: "upload", kind: "upload", flags: bulk, setup: one, direct: true},
		{name: "ping1", kind: "ping", flags: ping(1), setup: one, direct: true},
		{name: "ping50", kind: "ping", flags: ping(number(50, 5)), setup: one, direct: true},
	}
	for _, n := range []int{1_000, 3_000, 10_000, 40_000} {
		sessions := number(n, n/500)
		all = append(all, test{
			name: "idle" + strconv.Itoa(n), kind: "idle", flags: idle(sessions), sessions: sessions,
			setup: one, direct: true, memory: true, once: n > 10_000,
		})
	}
	sessions := number(10_000, 20)
	return append(
		all,
		test{
			name: "idletls", kind: "idle", flags: idle(sessions), sessions: sessions,
			setup: setup{cores: 1, backendTLS: true}, memory: true,
		},
		test{
			name: "append", kind: "idle", sessions: number(1_000, 10), setup: one, memory: true, once: true,
			flags: append(idle(number(1_000, 10)), "--uploaders", count(32, 2), "--upload-size", count(32<<20, 1<<20), "--silence", lasting(time.Minute)),
		},
		test{
			name: "wake", kind: "wake", sessions: sessions, setup: one,
			flags: []string{
				"--sessions", strconv.Itoa(sessions), "--settle", lasting(5 * time.Second), "--rest", lasting(3 * time.Second),
				"--rate", "1000", "--duration", lasting(10 * time.Second),
			},
		},
		test{
			name: "link", kind: "logins", setup: setup{cores: 1, delay: linkDelay},
			flags: []string{"--workers", "20", "--rate", "20", "--warm-up", lasting(2 * time.Second), "--duration", lasting(5 * time.Second)},
		},
		test{name: "logins2", kind: "logins", flags: logins, setup: setup{cores: 2}},
		test{
			name: "reload", kind: "logins", flags: append([]string{"--workers", count(200, 8)}, timed...),
			setup: setup{cores: 1, rows: number(1_000_000, 1_000)}, half: true, admin: true,
		},
	)
}

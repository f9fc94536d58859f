package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"imapgate/route"
)

// refused expects a status code and a text.
func (f *fake) refused(t *testing.T, target, body string, wantCode int, want string) {
	t.Helper()
	code, answer := f.ask(http.MethodPost, target, body)
	var fail Failure
	if err := json.Unmarshal([]byte(answer), &fail); err != nil {
		t.Fatalf("%s: %d %s", target, code, answer)
	}
	if code != wantCode || fail.Error != want {
		t.Errorf("%s %s: %d %q, want %d %q", target, body, code, fail.Error, wantCode, want)
	}
}

func TestChangesAreNotedWithWhoAndWhy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.post(t, "/v1/backends/mail1/drain", `{"why":"disk","until":"2000-01-01T01:00:00+00:30"}`)
		f.post(t, "/v1/backends/mail2/maint", ``)
		f.post(t, "/v1/backends/mail2/weight", `{"weight":7}`)
		f.post(t, "/v1/users/Alice/pin", `{"backend":"mail3","why":"ticket 5"}`)
		f.post(t, "/v1/users/bob@example.org/hold", `{"until":"2000-01-01T03:00:00Z"}`)
		equal(t, `admin mail1 drain by root: disk until 00:30:00
admin mail2 maint by root: 
hold bob@example.org  by root:  until 03:00:00
pin alice@example.org mail3 by root: ticket 5
weight mail2 7 by root: 
`, f.overridesOf())
		got := f.get(t, "/v1/overrides?kind=pin")
		equal(t, `{
  "now": "2000-01-01T00:00:00Z",
  "total": 1,
  "overrides": [
    {
      "kind": "pin",
      "name": "alice@example.org",
      "value": "mail3",
      "by": "root",
      "why": "ticket 5",
      "since": "2000-01-01T00:00:00Z"
    }
  ]
}
`, got)
		f.post(t, "/v1/backends/mail1/ready", ``)
		f.post(t, "/v1/backends/mail2/ready", `{"why":"done"}`)
		f.post(t, "/v1/backends/mail2/weight", `{"weight":0}`)
		f.post(t, "/v1/users/alice/unpin", ``)
		f.post(t, "/v1/users/bob/release", ``)
		equal(t, "", f.overridesOf())
		var actions []string
		for _, entry := range f.log.FilterMessage("operator").All() {
			m := entry.ContextMap()
			actions = append(actions, fmt.Sprint(m["action"], " ", m["name"], " by ", m["by"]))
		}
		want := []string{
			"drain mail1 by root", "maint mail2 by root", "weight mail2 by root", "pin alice@example.org by root", "hold bob@example.org by root",
			"ready mail1 by root", "ready mail2 by root", "weight mail2 by root", "unpin alice@example.org by root", "release bob@example.org by root",
		}
		if diff := cmp.Diff(want, actions); diff != "" {
			t.Errorf("log (-want +got):\n%s", diff)
		}
	})
}

func TestChangesThatAreRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		const past = "1999-12-31T23:59:59Z"
		for _, tc := range []struct {
			target, body string
			code         int
			want         string
		}{
			{"/v1/backends/mail9/drain", "", 404, `unknown backend "mail9"`},
			{"/v1/backends/mail1/drain", `{"until":"` + past + `"}`, 400, "until (" + past + ") is in the past"},
			{"/v1/backends/mail1/drain", `{"deadline":"` + past + `"}`, 400, "the deadline (" + past + ") is in the past: use maint"},
			{"/v1/backends/mail1/drain", `{"deadline":"2000-01-01T02:00:00Z","until":"2000-01-01T01:00:00Z"}`, 400, "the deadline (2000-01-01T02:00:00Z) is not before the end of the drain (2000-01-01T01:00:00Z)"},
			{"/v1/backends/mail1/maint", `{"why":"a\nb"}`, 400, "why is one line of 500 bytes at the most"},
			{"/v1/backends/mail1/weight", `{"weight":-1}`, 400, "weight -1 is not between 1 and 1000000"},
			{"/v1/backends/mail9/weight", `{"weight":1}`, 404, `unknown backend "mail9"`},
			{"/v1/users/alice/pin", `{}`, 400, "backend is missing"},
			{"/v1/users/alice/pin", `{"backend":"mail9"}`, 404, `unknown backend "mail9"`},
			{"/v1/users/alcie/pin", `{"backend":"mail1"}`, 404, "unknown user: there is no row for alcie@example.org, none for its domain, and no default"},
			{"/v1/users/alice*root/hold", `{}`, 400, `"alice*root" names a master user too: give the user alone`},
			{"/v1/users/alice/unpin", ``, 404, "alice@example.org is not pinned"},
			{"/v1/users/alice/release", ``, 404, "alice@example.org is not held"},
			{"/v1/users/alice/move", `{"backend":"mail9"}`, 404, `unknown backend "mail9"`},
			{"/v1/users/alice/move", `{"backend":"new","timeout_seconds":601}`, 400, "timeout_seconds is not between 0 and 600"},
			{"/v1/kick", `{}`, 400, "say whom: user, ip, backend or id"},
			{"/v1/kick", `{"ip":"host"}`, 400, `ip="host" is neither an address nor a network`},
			{"/v1/kick", `{"user":"*","rate":-1}`, 400, "rate is a number of sessions a second"},
		} {
			f.refused(t, tc.target, tc.body, tc.code, tc.want)
		}
		equal(t, "", f.overridesOf())
	})
}

func TestABackendThatIsGoneCanOnlyBeTakenBack(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprintf("restart %v", restart), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFake(t)
				kept := filepath.Join(t.TempDir(), "overrides.json")
				if err := f.table.State().Persist(kept); err != nil {
					t.Fatal(err)
				}
				f.post(t, "/v1/backends/new/drain", `{"deadline":"2000-01-01T01:00:00Z"}`)
				f.post(t, "/v1/backends/new/weight", `{"weight":7}`)
				f.post(t, "/v1/users/alice/pin", `{"backend":"new"}`)
				f.post(t, "/v1/backends/old/drain", "{}")
				def := definition
				def.Backends = def.Backends[:4]
				if restart {
					f = newFake(t)
					f.table = route.New()
					if err := f.table.Load(def, nil, true); err != nil {
						t.Fatal(err)
					}
					if err := f.table.State().Persist(kept); err != nil {
						t.Fatal(err)
					}
					f.resume(t.Context())
				} else if err := f.table.Load(def, nil, true); err != nil {
					t.Fatal(err)
				}
				const gone = `unknown backend "new"`
				f.refused(t, "/v1/backends/new/maint", "{}", 404, gone)
				f.refused(t, "/v1/backends/new/weight", `{"weight":8}`, 404, gone)
				f.refused(t, "/v1/users/alice/pin", `{"backend":"new"}`, 404, gone)
				f.refused(t, "/v1/backends/never/ready", "{}", 404, `unknown backend "never"`)
				var list Overrides
				if err := json.Unmarshal([]byte(f.get(t, "/v1/overrides?limit=3")), &list); err != nil {
					t.Fatal(err)
				}
				var got []string
				for _, o := range list.Overrides {
					got = append(got, fmt.Sprint(o.Kind, " ", o.Name, " ", o.Value, " ", o.Stale))
				}
				if want := []string{"admin new drain true", "admin old drain false", "pin alice@example.org new true"}; list.Total != 4 || !slices.Equal(got, want) {
					t.Errorf("of %d: %q, want %q", list.Total, got, want)
				}
				pass(time.Hour) // its deadline
				if got := f.overridesOf(); !strings.HasPrefix(got, "admin new maint by root: \n") {
					t.Errorf("after the deadline: %s", got)
				}
				if got := f.post(t, "/v1/backends/new/ready", "{}"); !strings.Contains(got, `"unconfigured": true`) {
					t.Errorf("ready: %s", got)
				}
				f.post(t, "/v1/backends/new/weight", `{"weight":0}`)
				f.post(t, "/v1/users/alice/unpin", "")
				f.post(t, "/v1/backends/old/ready", "{}")
				equal(t, "", f.overridesOf())
			})
		})
	}
}

func TestMaintEndsSessionsSpreadAndUserByUser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		for range 2 {
			f.login(t, "alice@example.org", "192.0.2.1:4001")
			f.login(t, "bob@example.org", "192.0.2.2:4002")
			f.login(t, "x@example.com", "192.0.2.3:4003")
		}
		if got := f.post(t, "/v1/backends/old/maint", `{}`); !strings.Contains(got, `"ending": 4`) {
			t.Errorf("got %s", got)
		}
		pass(time.Minute)
		want := []string{
			"00:00:00 alice@example.org maintenance 0", "00:00:00 alice@example.org maintenance 0",
			"00:00:15 bob@example.org maintenance 0", "00:00:15 bob@example.org maintenance 0",
		}
		if diff := cmp.Diff(want, f.kicks); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if len(f.leaving) != 0 {
			t.Errorf("still leaving: %v", f.leaving)
		}
	})
}

func TestReadyStopsEndingSessions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.login(t, "alice@example.org", "192.0.2.1:4001")
		f.login(t, "bob@example.org", "192.0.2.2:4002")
		f.post(t, "/v1/backends/old/maint", `{}`)
		pass(10 * time.Second)
		f.post(t, "/v1/backends/old/ready", `{}`)
		pass(time.Minute)
		if len(f.kicks) != 1 || len(f.sessions) != 1 {
			t.Errorf("kicked: %q", f.kicks)
		}
	})
}

func TestADrainBecomesMaintenanceAtItsDeadline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.login(t, "alice@example.org", "192.0.2.1:4001")
		got := f.post(t, "/v1/backends/old/drain", `{"why":"kernel","deadline":"2000-01-01T01:00:00Z"}`)
		if !strings.Contains(got, `"deadline": "2000-01-01T01:00:00Z"`) || !strings.Contains(got, `"ending": 0`) {
			t.Errorf("got %s", got)
		}
		pass(59 * time.Minute)
		f.login(t, "alice@example.org", "192.0.2.1:4002") // has sessions there, and may open more
		equal(t, "admin old drain by root: kernel\n", f.overridesOf())
		pass(2 * time.Minute)
		equal(t, "admin old maint by root: kernel\n", f.overridesOf())
		want := []string{"01:00:00 alice@example.org maintenance 0", "01:00:00 alice@example.org maintenance 0"}
		if diff := cmp.Diff(want, f.kicks); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

func TestADeadlineOutlivesTheProcess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		kept := filepath.Join(t.TempDir(), "overrides.json")
		if err := f.table.State().Persist(kept); err != nil {
			t.Fatal(err)
		}
		f.post(t, "/v1/backends/old/drain", `{"why":"kernel","deadline":"2000-01-01T01:00:00Z","until":"2000-01-01T03:00:00Z"}`)
		f.post(t, "/v1/backends/new/drain", `{"deadline":"2000-01-01T02:00:00Z"}`)
		f.stopLeaving()
		f.wg.Wait()
		pass(90 * time.Minute)

		f = newFake(t)
		if err := f.table.State().Persist(kept); err != nil {
			t.Fatal(err)
		}
		serving, stop := context.WithCancel(t.Context())
		served := make(chan error)
		go func() { served <- f.Serve(serving) }()
		synctest.Wait()
		equal(t, "admin new drain by root: \nadmin old maint by root: kernel until 03:00:00\n", f.overridesOf())
		if got := f.get(t, "/v1/backends"); !strings.Contains(got, `"deadline": "2000-01-01T02:00:00Z"`) {
			t.Errorf("got %s", got)
		}
		pass(31 * time.Minute)
		equal(t, "admin new maint by root: \nadmin old maint by root: kernel until 03:00:00\n", f.overridesOf())
		stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

func TestADeadlineGoesWithItsDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.login(t, "alice@example.org", "192.0.2.1:4001")
		for _, change := range []string{"drain", "ready"} {
			f.post(t, "/v1/backends/old/drain", `{"deadline":"`+time.Now().Add(time.Hour).Format(time.RFC3339)+`"}`)
			f.post(t, "/v1/backends/old/"+change, `{}`)
			pass(2 * time.Hour)
			if len(f.kicks) != 0 || strings.Contains(f.get(t, "/v1/backends"), "deadline") {
				t.Errorf("%s: kicked %q", change, f.kicks)
			}
		}
	})
}

func TestMove(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.login(t, "alice@example.org", "192.0.2.1:4001")
		f.login(t, "alice@example.org", "192.0.2.1:4002")
		equal(t, `{
  "user": "alice@example.org",
  "from": "old",
  "to": "new",
  "sessions": 2,
  "held": false,
  "dry_run": true
}
`, f.post(t, "/v1/users/alice/move", `{"backend":"new","dry_run":true}`))
		if len(f.kicks) != 0 || f.overridesOf() != "" {
			t.Error("a dry run did something")
		}
		equal(t, `{
  "user": "alice@example.org",
  "from": "old",
  "to": "new",
  "sessions": 2,
  "held": false,
  "dry_run": false
}
`, f.post(t, "/v1/users/alice/move", `{"backend":"new","why":"new disks"}`))
		equal(t, "pin alice@example.org new by root: new disks\n", f.overridesOf())
		if at := f.login(t, "alice@example.org", "192.0.2.1:4003"); at != "new" {
			t.Errorf("alice is at %s", at)
		}
		// Sessions that are where they should be go on.
		if got := f.post(t, "/v1/users/alice/move", `{"backend":"new"}`); !strings.Contains(got, `"sessions": 0`) || len(f.sessions) != 1 {
			t.Errorf("moved to where she is: %s", got)
		}
	})
}

func TestLoginsWaitWhileTheirUserIsMoved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.stuck = true
		f.login(t, "alice@example.org", "192.0.2.1:4001")
		moved := make(chan string)
		go func() {
			_, body := f.ask(http.MethodPost, "/v1/users/alice/move", `{"backend":"new","why":"x"}`)
			moved <- body
		}()
		synctest.Wait()
		equal(t, "hold alice@example.org  by root: move to new until 00:00:40\n", f.overridesOf())
		for _, action := range []string{`move {"backend":"mail1"}`, `pin {"backend":"mail1"}`, "release {}", "hold {}", "unpin {}"} {
			action, body, _ := strings.Cut(action, " ")
			f.refused(t, "/v1/users/alice/"+action, body, 409, "alice@example.org is being moved or changed by somebody else just now")
		}
		lease, err := f.table.Begin("alice@example.org")
		if err != nil || lease.Held() == nil {
			t.Fatalf("a login does not wait: %v", err)
		}
		held := lease.Held()
		lease.End()
		f.sessions[0].lease.End()
		if body := <-moved; !strings.Contains(body, `"sessions":1`) {
			t.Errorf("got %s", body)
		}
		<-held
		if at, err := f.table.Lookup("alice@example.org"); err != nil || at.Backends[0] != "new" {
			t.Errorf("%v, %v", at, err)
		}
	})
}

func TestAMoveThatFailsLeavesTheUserWhereTheyWere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.stuck = true
		f.login(t, "alice@example.org", "192.0.2.1:4001")
		f.refused(t, "/v1/users/alice/move", `{"backend":"new","timeout_seconds":5}`, 504, "alice@example.org was not moved: 1 sessions were told to end, and are not gone")
		equal(t, "", f.overridesOf())
		if elapsed := time.Now().UTC().Format("15:04:05"); elapsed != "00:00:05" {
			t.Errorf("it took until %s", elapsed)
		}

		ctx, hangUp := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, hangUp)
		if code, body := f.askWith(ctx, http.MethodPost, "/v1/users/alice/move", `{"backend":"new"}`); code != 503 {
			t.Errorf("the caller hung up: %d %s", code, body)
		}
		equal(t, "", f.overridesOf())

		f.table.State().SetHealth("new", false, "")
		f.refused(t, "/v1/users/bob/move", `{"backend":"new"}`, 409, "new is down: nobody would be served there")
		f.post(t, "/v1/backends/mail1/maint", "")
		f.refused(t, "/v1/users/bob/move", `{"backend":"mail1"}`, 409, "mail1 is in maintenance: nobody would be served there")
		if at, err := f.table.Lookup("alice@example.org"); err != nil || at.Backends[0] != "old" {
			t.Errorf("%v, %v", at, err)
		}
	})
}

func TestAMoveLeavesTheHoldsOfPeople(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.login(t, "alice@example.org", "192.0.2.1:4001")
		f.post(t, "/v1/users/alice/hold", `{"why":"copying"}`)
		if got := f.post(t, "/v1/users/alice/move", `{"backend":"new"}`); !strings.Contains(got, `"held": true`) {
			t.Errorf("got %s", got)
		}
		equal(t, "hold alice@example.org  by root: copying\npin alice@example.org new by root: \n", f.overridesOf())
	})
}

func TestKickAsksForAllThatIsGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.login(t, "alice@example.org", "192.0.2.1:4001")
		f.login(t, "bob@example.org", "192.0.2.1:4002")
		f.login(t, "bob@example.org", "192.0.2.2:4003")
		equal(t, "{\n  \"sessions\": 1\n}\n", f.post(t, "/v1/kick", `{"user":"b*","ip":"192.0.2.1","backend":"old","rate":2.5}`))
		equal(t, "{\n  \"sessions\": 0\n}\n", f.post(t, "/v1/kick", `{"user":"alice","backend":"new"}`))
		equal(t, "{\n  \"sessions\": 1\n}\n", f.post(t, "/v1/kick", `{"id":"S001"}`))
		want := []string{"00:00:00 bob@example.org kick 2.5", "00:00:00 alice@example.org kick 0"}
		if diff := cmp.Diff(want, f.kicks); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// pass lets time pass, and what happens then.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

package route_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"imapgate/route"
)

// changed returns a state with an override of each kind, kept in a new file.
func changed(t *testing.T) (*route.State, string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "overrides.json")
	state := route.New().State()
	by := route.Change{By: "op", Why: "disk is failing"}
	later := route.Change{By: "op", Until: time.Now().Add(time.Hour)}
	for _, err := range []error{
		state.Persist(path),
		state.SetAdmin("mail1", route.AdminDrain, route.Change{By: "op", Why: "disk is failing", Deadline: time.Now().Add(30 * time.Minute)}),
		state.SetAdmin("mail2", route.AdminMaint, later),
		state.SetWeight("mail1", 250, by),
		state.Pin("alice@example.org", "mail2", later),
		state.Pin("älice \"x\"@example.org", "mail2", by),
		state.Hold("bob@example.org", by),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return state, path
}

func TestOverridesOutliveTheProcess(t *testing.T) {
	state, path := changed(t)
	if n := len(state.Overrides()); n != 6 {
		t.Fatalf("%d overrides", n)
	}
	again := route.New().State()
	if err := again.Persist(path); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(state.Overrides(), again.Overrides()); d != "" {
		t.Errorf("-before +after:\n%s", d)
	}
	// They are in force, and not only listed.
	table := route.New()
	if err := table.State().Persist(path); err != nil {
		t.Fatal(err)
	}
	def := route.Definition{Backends: []route.Backend{{Name: "mail1"}, {Name: "mail2"}, {Name: "mail3"}}, Default: "mail3"}
	if err := table.Load(def, nil, false); err != nil {
		t.Fatal(err)
	}
	if l, err := table.Begin("bob@example.org"); err != nil || l.Held() == nil {
		t.Errorf("bob is not held: %v", err)
	}
	if p, err := table.Explain("alice@example.org"); err == nil || p.Reason != route.ReasonPin {
		t.Errorf("%+v, %v", p, err)
	}
	if b := table.Backends()[0]; b.Admin != route.AdminDrain || b.Weight != 250 || b.AdminChange.Why != "disk is failing" {
		t.Errorf("%+v", b)
	}
	// What is taken back is gone for good.
	if !table.State().Release("bob@example.org") || !table.State().Unpin("alice@example.org") {
		t.Error("nothing to take back")
	}
	for _, err := range []error{
		table.State().SetAdmin("mail1", route.AdminReady, route.Change{}),
		table.State().SetAdmin("mail2", route.AdminReady, route.Change{}),
		table.State().SetWeight("mail1", 0, route.Change{}),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	last := route.New().State()
	if err := last.Persist(path); err != nil {
		t.Fatal(err)
	}
	if got := last.Overrides(); len(got) != 1 || got[0].Kind != route.OverridePin {
		t.Errorf("%+v", got)
	}
}

func TestChangesBeforePersistWinOverTheFile(t *testing.T) {
	_, path := changed(t)
	state := route.New().State()
	if err := state.SetAdmin("mail1", route.AdminMaint, route.Change{By: "start"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := state.Persist(path); err != nil {
			t.Fatal(err)
		}
		if got := state.Overrides(); len(got) != 6 || got[0].Value != "maint" || got[0].By != "start" {
			t.Errorf("%+v", got)
		}
		state = route.New().State()
	}
}

func TestOverridesExpireWhileNobodyRuns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state, path := changed(t)
		<-time.After(30 * time.Minute)
		again := route.New().State()
		if err := again.Persist(path); err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(state.Overrides(), again.Overrides()); d != "" {
			t.Errorf("-before +after:\n%s", d)
		}
		<-time.After(30 * time.Minute)
		synctest.Wait()
		late := route.New().State()
		if err := late.Persist(path); err != nil {
			t.Fatal(err)
		}
		for _, s := range []*route.State{state, again, late} {
			got := s.Overrides()
			if len(got) != 4 {
				t.Errorf("%+v", got)
			}
			for _, o := range got {
				if !o.Until.IsZero() {
					t.Errorf("%+v has expired", o)
				}
			}
		}
	})
}

func TestManyOverridesExpireAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		state := route.New().State()
		const n = 1000
		for i := range n {
			until := time.Now().Add(time.Minute + time.Duration(i%3)*time.Second)
			if err := state.Hold(chaosUser(i), route.Change{Until: until}); err != nil {
				t.Fatal(err)
			}
		}
		for i, want := range []int{n, n * 2 / 3, n / 3, 0} {
			if got := len(state.Overrides()); got-want > 1 || want-got > 1 {
				t.Errorf("after %d steps %d are left, want %d", i, got, want)
			}
			wait := time.Second
			if i == 0 {
				wait = time.Minute
			}
			<-time.After(wait)
			synctest.Wait()
		}
		if state.Release(chaosUser(0)) {
			t.Error("a hold that expired was released")
		}
	})
}

// A file that is cut anywhere, or damaged, is refused, and named.
func TestBrokenOverridesChangeNothing(t *testing.T) {
	state, path := changed(t)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	end := strings.TrimSuffix(string(whole), "\n")
	contents := []string{
		"null", "[]", "{}", `""`, "\x00\x00\x00\x00",
		`{"version": 2, "overrides": []}`,
		`{"version": 1, "overrides": [], "x": 1}`,
		`{"version": 1, "overrides": []} {}`,
		`{"version": 1, "overrides": [{"kind": "admin", "name": "mail1", "value": "off"}]}`,
		`{"version": 1, "overrides": [{"kind": "admin", "name": "", "value": "drain"}]}`,
		`{"version": 1, "overrides": [{"kind": "weight", "name": "mail1", "value": "1000001"}]}`,
		`{"version": 1, "overrides": [{"kind": "weight", "name": "mail1", "value": "x"}]}`,
		`{"version": 1, "overrides": [{"kind": "pin", "name": "alice", "value": ""}]}`,
		`{"version": 1, "overrides": [{"kind": "hold", "name": "alice", "value": "x"}]}`,
		`{"version": 1, "overrides": [{"kind": "hold", "name": "alice", "until": "tomorrow"}]}`,
		`{"version": 1, "overrides": [{"kind": "move", "name": "alice"}]}`,
		`{"version": 1, "overrides": [{"kind": "hold", "name": "alice", "deadline": "2036-01-01T00:00:00Z"}]}`,
		`{"version": 1, "overrides": [{"kind": "admin", "name": "mail1", "value": "maint", "deadline": "2036-01-01T00:00:00Z"}]}`,
		`{"version": 1, "overrides": [{"kind": "admin", "name": "mail1", "value": "drain", "deadline": "2036-01-01T00:00:00Z", "until": "2035-12-31T00:00:00Z"}]}`,
		`{"version": 1, "overrides": [{"kind": "hold", "name": "alice"}, {"kind": "hold", "name": "alice"}]}`,
	}
	for cut := range len(end) {
		contents = append(contents, end[:cut])
	}
	before := state.Overrides()
	for _, text := range contents {
		broken := filepath.Join(t.TempDir(), "broken.json")
		if err := os.WriteFile(broken, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := state.Persist(broken)
		if err == nil || !strings.Contains(err.Error(), broken) {
			t.Errorf("%s: %v", text, err)
		}
		if got, err := os.ReadFile(broken); err != nil || string(got) != text {
			t.Errorf("%s became %s, %v", text, got, err)
		}
	}
	if d := cmp.Diff(before, state.Overrides()); d != "" {
		t.Errorf("-before +after:\n%s", d)
	}
	// The good file is still the one in use.
	if err := state.Hold("carol@example.org", route.Change{}); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(path); err != nil || !strings.Contains(string(got), "carol") {
		t.Errorf("%s, %v", got, err)
	}
}

func TestLeftoversOfKilledProcessesAreNotRead(t *testing.T) {
	_, path := changed(t)
	dir := filepath.Dir(path)
	stale := filepath.Join(dir, ".overrides.json.123.tmp")
	fresh := filepath.Join(dir, ".overrides.json.456.tmp")
	other := filepath.Join(dir, ".other.json.123.tmp")
	for _, name := range []string{stale, fresh, other} {
		if err := os.WriteFile(name, []byte(`{"version": 1, "overri`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	long := time.Now().Add(-time.Hour)
	for _, name := range []string{stale, other} {
		if err := os.Chtimes(name, long, long); err != nil {
			t.Fatal(err)
		}
	}
	state := route.New().State()
	if err := state.Persist(path); err != nil {
		t.Fatal(err)
	}
	if n := len(state.Overrides()); n != 6 {
		t.Errorf("%d overrides", n)
	}
	left, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff([]string{other, fresh, path}, left); d != "" { // fresh may be somebody's who is writing
		t.Errorf("-want +got:\n%s", d)
	}
}

func TestChangeThatCannotBeSavedIsInForceAndSavedLater(t *testing.T) {
	state, path := changed(t)
	dir := filepath.Dir(path)
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	err := state.SetAdmin("mail3", route.AdminMaint, route.Change{})
	if err == nil || !strings.Contains(err.Error(), dir) || state.SaveError() == nil {
		t.Errorf("%v, %v", err, state.SaveError())
	}
	if !state.Release("bob@example.org") || len(state.Overrides()) != 6 {
		t.Errorf("%+v", state.Overrides())
	}
	if err := os.Rename(dir+".away", dir); err != nil {
		t.Fatal(err)
	}
	if err := state.Hold("carol@example.org", route.Change{}); err != nil || state.SaveError() != nil {
		t.Errorf("%v, %v", err, state.SaveError())
	}
	again := route.New().State()
	if err := again.Persist(path); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(state.Overrides(), again.Overrides()); d != "" {
		t.Errorf("-before +after:\n%s", d)
	}
	// That there is no such place is found at the start.
	missing := filepath.Join(dir, "missing", "overrides.json")
	if err := route.New().State().Persist(missing); err == nil || !strings.Contains(err.Error(), filepath.Dir(missing)) {
		t.Error(err)
	}
}

func TestConcurrentChangesAreAllSaved(t *testing.T) {
	state, path := changed(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			user := chaosUser(i)
			if err := state.Pin(user, "mail1", route.Change{}); err != nil {
				t.Error(err)
			}
			if data, err := os.ReadFile(path); err != nil || !strings.Contains(string(data), `"`+user+`"`) {
				t.Errorf("%s is not saved: %v", user, err)
			}
			if i%2 == 0 {
				state.Unpin(user)
				if data, err := os.ReadFile(path); err != nil || strings.Contains(string(data), `"`+user+`"`) {
					t.Errorf("%s is still there: %v", user, err)
				}
			}
		})
	}
	wg.Wait()
}

// killedEnv makes the test below the process that is killed.
const killedEnv = "ROUTE_TEST_OVERRIDES"

// A process makes changes as fast as it can, says so after each, and is killed:
// whatever it said is in the file.
func TestOverridesOutliveKill(t *testing.T) {
	if path := os.Getenv(killedEnv); path != "" {
		state := route.New().State()
		if err := state.Persist(path); err != nil {
			t.Fatal(err)
		}
		for i := range 100_000 {
			if err := state.Pin(chaosUser(i%500), fmt.Sprintf("mail%d", i), route.Change{}); err != nil {
				t.Fatal(err)
			}
			_, _ = fmt.Fprintf(os.Stdout, "saved %d\n", i)
		}
		return
	}
	path := filepath.Join(t.TempDir(), "overrides.json")
	kills := 6
	if testing.Short() {
		kills = 2
	}
	for kill := range kills {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestOverridesOutliveKill$", "-test.timeout=60s")
		cmd.Env = append(os.Environ(), killedEnv+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		last := -1
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if n, err := fmt.Sscanf(lines.Text(), "saved %d", &last); n != 1 || err != nil {
				t.Errorf("the process says %s", lines.Text())
				break
			}
			if last == 20+kill*13 {
				// It goes on meanwhile, and is killed wherever it is.
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		state := route.New().State()
		if err := state.Persist(path); err != nil {
			t.Fatalf("after change %d: %v", last, err)
		}
		got := make(map[string]string)
		for _, o := range state.Overrides() {
			got[o.Name] = o.Value
		}
		if len(got) < min(last+1, 500) {
			t.Errorf("%d pins after change %d", len(got), last)
		}
		var seen int
		if _, err := fmt.Sscanf(got[chaosUser(last%500)], "mail%d", &seen); err != nil || seen < last {
			t.Errorf("after change %d the file has %s", last, got[chaosUser(last%500)])
		}
	}
}

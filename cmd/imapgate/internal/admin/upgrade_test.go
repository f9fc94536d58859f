package admin

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestUpgradeSaysWhyNot(t *testing.T) {
	f := newFake(t)
	f.upgrade = func(_ context.Context, o UpgradeOptions) (Upgraded, error) {
		if o.By != "root" {
			t.Errorf("by %s", o.By)
		}
		return Upgraded{}, errors.Join(errors.New("it gave up"), errors.New("line 5: no"))
	}
	code, body := f.ask(http.MethodPost, "/v1/upgrade", "{}")
	if want := `{"error":"not upgraded, the old process serves on: it gave up","details":["line 5: no"]}`; code != http.StatusBadGateway || strings.TrimSpace(body) != want {
		t.Errorf("%d %s", code, body)
	}

	// Unless there is a new program, --if-changed is a reload.
	f.reload = func(context.Context, ReloadOptions) (Reload, error) { return Reload{OK: true, Rows: 7}, nil }
	if answer := f.post(t, "/v1/upgrade", `{"if_changed":true}`); !strings.Contains(answer, `"rows": 7`) {
		t.Errorf("answer: %s", answer)
	}
	f.newProgram = true
	if code, _ := f.ask(http.MethodPost, "/v1/upgrade", `{"if_changed":true}`); code != http.StatusBadGateway {
		t.Errorf("a new program: %d", code)
	}
}

func TestUpgradeIsForTheSocketAlone(t *testing.T) {
	f := newFake(t)
	w := f.tcp(http.MethodPost, "/v1/upgrade", "localhost", "127.0.0.1:9143", "")
	if w.Code != http.StatusForbidden {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestNothingChangesWhileAnotherProcessTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		f.login(t, "alice@example.org", "192.0.2.1:1")
		f.stuck = true // so that a move takes its time
		moved := make(chan int)
		go func() {
			code, _ := f.ask(http.MethodPost, "/v1/users/alice@example.org/move", `{"backend":"new","timeout_seconds":20}`)
			moved <- code
		}()
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := f.Freeze(short); err == nil {
			t.Error("frozen while a move was under way")
		}
		frozen := make(chan error)
		go func() { frozen <- f.Freeze(t.Context()) }()
		synctest.Wait()
		if code, body := f.ask(http.MethodPost, "/v1/users/bob@example.org/hold", "{}"); code != http.StatusServiceUnavailable {
			t.Errorf("hold: %d %s", code, body)
		}
		<-moved
		if err := <-frozen; err != nil {
			t.Error(err)
		}
		f.Thaw()
		f.post(t, "/v1/users/bob@example.org/hold", "{}")
	})
}

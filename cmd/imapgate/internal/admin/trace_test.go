package admin

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTraceIsForTheSocketAloneAndEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(t)
		began := time.Now()
		r := httptest.NewRequestWithContext(context.WithValue(t.Context(), peerKey{}, peer{name: "root", root: true}), http.MethodGet, "/v1/trace?user=Alice&seconds=90", nil)
		w := httptest.NewRecorder()
		f.local.ServeHTTP(w, r)
		want := `"session":"S1","ip":"192.0.2.1","port":7,"user":"alice@example.org","who":"C","text":"a1 NOOP invalid Prefix"}`
		if got := w.Body.String(); w.Code != http.StatusOK || !strings.Contains(got, want) {
			t.Errorf("%d %s", w.Code, got)
		}
		if took := time.Since(began); took != 90*time.Second {
			t.Errorf("it lasted %s", took)
		}
		if n := f.log.FilterMessage("operator").FilterFieldKey("for").Len(); n != 1 {
			t.Errorf("logged %d times", n)
		}
		if w := f.tcp(http.MethodGet, "/v1/trace?user=alice", "localhost", "127.0.0.1:9143", ""); w.Code != http.StatusForbidden {
			t.Errorf("over TCP: %d", w.Code)
		}
		for _, query := range []string{"", "?user=a*", "?user=a&ip=192.0.2.1", "?ip=x", "?user=a&seconds=-1", "?user=a&seconds=NaN", "?user=a&x=1"} {
			if code, body := f.ask(http.MethodGet, "/v1/trace"+query, ""); code != http.StatusBadRequest {
				t.Errorf("%s: %d %s", query, code, body)
			}
		}
	})
}

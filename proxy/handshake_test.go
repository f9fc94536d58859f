package proxy

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// queue is a turnstile with one place, which is taken, and who has got one since.
type queue struct {
	t turnstile

	mu   sync.Mutex
	came []string
}

func newQueue(t *testing.T) *queue {
	t.Helper()
	q := new(queue)
	q.t.setPlaces(1)
	if err := q.t.enter(&passage{until: time.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	return q
}

// wait makes somebody wait for up to 10 s.
func (q *queue) wait(t *testing.T, name string, answered bool) {
	t.Helper()
	go func() {
		w := &passage{t: &q.t, until: time.Now().Add(10 * time.Second), answered: answered}
		switch err := q.t.enter(w); {
		case err == nil:
			q.mu.Lock()
			defer q.mu.Unlock()
			q.came = append(q.came, name)
		case !errors.Is(err, os.ErrDeadlineExceeded) || w.waited != 10*time.Second:
			t.Errorf("%s: %v after %v", name, err, w.waited)
		}
	}()
	synctest.Wait()
}

// leave gives n places back, one after the other.
func (q *queue) leave(n int) {
	for range n {
		q.t.leave()
		synctest.Wait()
	}
}

func (q *queue) expect(t *testing.T, names ...string) {
	t.Helper()
	if !slices.Equal(q.came, names) {
		t.Errorf("got a place: %v, want %v", q.came, names)
	}
	q.came = nil
}

func TestHandshakesThatHaveBegunComeFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		q.wait(t, "new 1", false)
		q.wait(t, "new 2", false)
		q.wait(t, "begun 1", true)
		q.wait(t, "begun 2", true)
		if got := q.t.waiting(); got != 4 {
			t.Errorf("%d wait, want 4", got)
		}
		q.leave(5)
		q.expect(t, "begun 1", "begun 2", "new 1", "new 2")
		if q.t.taken != 0 || q.t.waiting() != 0 {
			t.Errorf("in the end %d places are taken, and %d wait", q.t.taken, q.t.waiting())
		}
	})
}

// TestNewestHandshakeComesFirstWhenThereAreTooMany has the oldest wait for more than
// half of its time: serving it now would serve nobody else in time.
func TestNewestHandshakeComesFirstWhenThereAreTooMany(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		q.wait(t, "1", false)
		<-time.After(4 * time.Second)
		q.wait(t, "2", false)
		q.wait(t, "3", false)
		q.leave(1)
		q.expect(t, "1") // its 5 s are not over
		<-time.After(5*time.Second + 1)
		q.wait(t, "4", false)
		q.wait(t, "5", false)
		q.leave(2)
		q.expect(t, "5", "4")
		<-time.After(5 * time.Second)
		q.leave(1)
		q.expect(t) // the time of 2 and 3 is over
		if q.t.taken != 0 || q.t.waiting() != 0 {
			t.Errorf("in the end %d places are taken, and %d wait", q.t.taken, q.t.waiting())
		}
	})
}

func TestHandshakeWaitsNoLongerThanItsConnectionLives(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		ctx, cancel := context.WithCancel(t.Context())
		err := make(chan error)
		go func() { err <- q.t.enter(&passage{until: time.Now().Add(time.Hour), done: ctx.Done()}) }()
		synctest.Wait()
		cancel()
		if got := <-err; !errors.Is(got, context.Canceled) || q.t.waiting() != 0 {
			t.Errorf("%v, and %d wait", got, q.t.waiting())
		}
		q.leave(1)
		if q.t.taken != 0 {
			t.Errorf("%d places are taken", q.t.taken)
		}
	})
}

func TestAReloadChangesThePlacesForHandshakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		for _, name := range []string{"1", "2", "3", "4"} {
			q.wait(t, name, false)
		}
		q.t.setPlaces(3)
		synctest.Wait()
		slices.Sort(q.came) // both in the same moment
		q.expect(t, "1", "2")
		q.t.setPlaces(1)
		q.leave(2)
		q.expect(t) // one is left of the three, and one there may be
		q.leave(1)
		q.expect(t, "3")
		q.leave(2)
		q.expect(t, "4")
	})
}

func TestAHandshakeThatWaitsForACertificateIsInNobodysWay(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(t)
		ended := make(chan struct{})
		h := &handshakeConn{turn: &passage{t: &q.t, until: time.Now().Add(10 * time.Second), done: ended, holds: true}}
		q.wait(t, "other", false)
		err := h.Await(func(done <-chan struct{}) {
			synctest.Wait()
			q.expect(t, "other")
			q.leave(1)
			if done != ended {
				t.Error("it does not learn when the connection is to end")
			}
		})
		if err != nil || !h.turn.holds || q.t.taken != 1 {
			t.Errorf("after the wait: %v, holds a place: %v, %d are taken", err, h.turn.holds, q.t.taken)
		}
	})
}

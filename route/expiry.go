package route

import (
	"container/heap"
	"time"
)

// expiry is when an override ends.
type expiry struct {
	at   time.Time
	kind OverrideKind
	name string
}

// expiries is a heap, the next expiry first. It may have some of overrides that
// were changed since.
type expiries []expiry

// Len is called by package heap.
func (e *expiries) Len() int { return len(*e) }

// Less is called by package heap.
func (e *expiries) Less(i, j int) bool { return (*e)[i].at.Before((*e)[j].at) }

// Swap is called by package heap.
func (e *expiries) Swap(i, j int) { (*e)[i], (*e)[j] = (*e)[j], (*e)[i] }

// Push is called by package heap.
func (e *expiries) Push(x any) {
	if next, ok := x.(expiry); ok {
		*e = append(*e, next)
	}
}

// Pop is called by package heap.
func (e *expiries) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}

const (
	// maxExpiryWait bounds the sleep until the next expiry: a clock that is set
	// meanwhile is noticed.
	maxExpiryWait = time.Minute

	// maxExpiries bounds what one pass does with mu held.
	maxExpiries = 256
)

// arm sets the timer to the next expiry. mu is held.
func (s *State) arm() {
	if len(s.expiries) == 0 {
		return
	}
	wait := min(max(0, time.Until(s.expiries[0].at)), maxExpiryWait)
	if s.timer == nil {
		s.timer = time.AfterFunc(wait, s.expire)
	} else {
		s.timer.Reset(wait)
	}
}

// expire ends overrides that have expired. Their file is not written: whoever
// reads it sees what has expired.
func (s *State) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	for range maxExpiries {
		if len(s.expiries) == 0 || s.expiries[0].at.After(now) {
			break
		}
		if next, ok := heap.Pop(&s.expiries).(expiry); ok {
			s.take(next.kind, next.name, &next.at)
		}
	}
	s.arm()
}

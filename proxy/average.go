package proxy

import (
	"sync/atomic"
	"time"
)

// movingAverage is an exponentially weighted mean of durations, over about the
// last eight. The zero value is zero. It is safe for concurrent use; a lost
// update does not matter.
type movingAverage struct{ ns atomic.Int64 }

func (m *movingAverage) add(d time.Duration) {
	old := m.ns.Load()
	if old == 0 {
		m.ns.Store(int64(d))
		return
	}
	m.ns.Store(old + (int64(d)-old)/8)
}

func (m *movingAverage) value() time.Duration { return time.Duration(m.ns.Load()) }

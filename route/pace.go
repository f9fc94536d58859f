package route

import "time"

// How a load gives way: it works for paceWork and rests for paceRest. A rest is not a
// yield: only who sleeps lets a scheduler that has one processor look for what has come
// in from the network.
const (
	paceWork = 300 * time.Microsecond
	paceRest = 900 * time.Microsecond
)

// pace makes a load give way to logins. A nil pace never rests.
type pace struct {
	hurry <-chan struct{} // ends the resting
	count int
	since time.Time // the last rest
}

// newPace returns the pace of a load.
func newPace(hurry <-chan struct{}) *pace {
	if hurry == nil {
		return nil
	}
	return &pace{hurry: hurry, since: time.Now()}
}

// step is called once for each row, or as much work.
func (p *pace) step() {
	if p == nil {
		return
	}
	if p.count++; p.count%64 != 0 || time.Since(p.since) < paceWork {
		return
	}
	select {
	case <-time.After(paceRest):
	case <-p.hurry:
	}
	p.since = time.Now()
}

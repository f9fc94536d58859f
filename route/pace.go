package route

import "time"

// How a load gives way: whenever it has worked for paceWork, it rests restShare times as
// long. A rest is not a yield: only who sleeps lets a scheduler that has one processor
// look for what has come in from the network. It is in proportion, so that the load takes
// an eighth of that processor at the most even when what it did was to help the garbage
// collector. And if the last rest took longer than it should have, others had to wait for
// the processor too, as they do while garbage is collected: the next rest is the longer.
const (
	paceWork    = 200 * time.Microsecond
	restShare   = 7
	longestRest = 50 * time.Millisecond
)

// Rest returns how long one who works gently rests after so much work.
func Rest(worked time.Duration) time.Duration { return min(restShare*worked, longestRest) }

// pace makes a load give way to logins. A nil pace never rests.
type pace struct {
	hurry <-chan struct{} // ends the resting
	late  time.Duration   // how much longer the last rest was: others had to wait, too
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
	if p.count++; p.count%16 != 0 {
		return
	}
	worked := time.Since(p.since)
	if worked < paceWork {
		return
	}
	rest := Rest(worked + p.late)
	began := time.Now()
	select {
	case <-time.After(rest):
	case <-p.hurry:
	}
	p.since = time.Now()
	p.late = max(0, p.since.Sub(began)-rest)
}

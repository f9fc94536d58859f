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

// A Pace makes one who reads or loads a table give way to logins. A nil Pace never rests.
type Pace struct {
	hurry <-chan struct{} // ends the resting
	late  time.Duration   // how much longer the last rest was: others had to wait, too
	count int
	since time.Time // the last rest
}

// NewPace returns the pace of work that begins now. It rests no more once hurry is
// closed; with none there is nothing to wait for, and the Pace is nil.
func NewPace(hurry <-chan struct{}) *Pace {
	if hurry == nil {
		return nil
	}
	return &Pace{hurry: hurry, since: time.Now()}
}

// step is called once for each row, or as much work.
func (p *Pace) step() {
	if p == nil {
		return
	}
	if p.count++; p.count%16 == 0 {
		p.Rest()
	}
}

// Rest rests if there has been enough work since the last time.
func (p *Pace) Rest() {
	if p == nil {
		return
	}
	worked := time.Since(p.since)
	if worked < paceWork {
		return
	}
	rest := restAfter(worked + p.late)
	began := time.Now()
	select {
	case <-time.After(rest):
	case <-p.hurry:
	}
	p.since = time.Now()
	p.late = max(0, p.since.Sub(began)-rest)
}

func restAfter(worked time.Duration) time.Duration { return min(restShare*worked, longestRest) }

package proxy

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"
)

// Overload is handled in the order in which it hurts least: connections are accepted
// more slowly, then those that have waited longest for their login are told to go.
// Sessions are never ended for it: whoever runs into trouble later costs those who
// have been served all day nothing.

// What a server can lack, as [Options].Strain and [Server.Overload] call it.
const (
	LackConnections = "connections" // Limits.Connections, or what descriptors allow, is reached
	LackDescriptors = "descriptors" // the system refused one a moment ago
	LackMemory      = "memory"
	LackCPU         = "cpu"
)

const (
	strainInterval = 250 * time.Millisecond // between two looks at Options.Strain
	strainPatience = 4                      // looks before slowness alone makes connections go
	minStrainPause = 5 * time.Millisecond   // between two accepts while something lacks
	maxStrainPause = 160 * time.Millisecond
	handshakeLack  = 500              // handshakes in the queue: some tenths of a second
	shedShare      = 0.05             // of those who have not logged in, at each look
	descriptorLack = 5 * time.Second  // a refused descriptor counts for this long
	acceptLogPause = 10 * time.Second // between two lines about accepts that fail

	minReserve = 64 // descriptors that are not for clients: files, checks, the admin socket
)

// overload is what is known of it. The zero value is none.
type overload struct {
	mu      sync.Mutex
	lacks   []string // at the last look at Options.Strain
	lasting int      // looks in a row that found something
	pause   time.Duration
	refused time.Time // when the system refused a descriptor last
	logged  time.Time // when a failed accept was logged last
	next    time.Time // when the next connection is due, see Limits.AcceptRate
}

// refusing says whether the system refused a descriptor a moment ago. mu is held.
func (o *overload) refusing() bool {
	return !o.refused.IsZero() && time.Since(o.refused) < descriptorLack
}

// room is how many connections and sessions there may be, 0 for any number. Each is
// counted as two descriptors, its backend's included, so that who was let in can be
// logged in.
func (s *Server) room(l *Limits) int {
	bound := l.Connections
	if s.descriptors > 0 {
		reserve := max(minReserve, s.descriptors/16)
		allowed := max(1, (s.descriptors-reserve)/2)
		if bound == 0 || allowed < bound {
			bound = allowed
		}
	}
	return bound
}

// arrive lets a connection in, or says that there is no room for it. Whose address has
// too many already makes nobody else go.
func (s *Server) arrive(c *conn) *limitError {
	var from netip.Prefix
	known := len(c.l.ProxyFrom) == 0 // else the header will tell
	if known {
		from = c.countedAddress()
	}
	return s.settle(c, s.admission.arrive(c, from, known, s.room(&c.cfg.Limits)))
}

// settle does what a limit calls for: it makes somebody go for the newcomer c, or
// returns why c has to go.
func (s *Server) settle(c *conn, j judgement) *limitError {
	if j.limit == "" {
		return nil
	}
	s.limited(j.limit, c.fields()...)
	if j.goes == nil {
		return &limitError{j.limit}
	}
	j.goes.evict()
	if j.now {
		j.goes.abort()
	}
	return nil
}

// shed makes the connections go that have waited longest for their login.
func (s *Server) shed(share float64, lack string) {
	for _, c := range s.admission.shed(share) {
		s.limited(limitOverload, zap.String("reason", lack))
		c.evict()
	}
}

// Overload returns what the server lacks at the moment, in order; nothing when all
// is well.
func (s *Server) Overload() []string {
	s.overload.mu.Lock()
	lacks := slices.Clone(s.overload.lacks)
	if s.overload.refusing() {
		lacks = append(lacks, LackDescriptors)
	}
	s.overload.mu.Unlock()
	if s.admission.full(s.room(&s.cfg.Load().Limits)) {
		lacks = append(lacks, LackConnections)
	}
	slices.Sort(lacks)
	return lacks
}

// watchStrain looks at what the process lacks until the server closes.
func (s *Server) watchStrain() {
	t := time.NewTicker(strainInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-s.closing:
			return
		}
		lacks := s.strain()
		if s.HandshakesWaiting() > handshakeLack && !slices.Contains(lacks, LackCPU) {
			lacks = append(lacks, LackCPU)
		}
		s.feel(lacks)
	}
}

// feel takes note of what the process lacks, and acts on it. Memory that runs out
// ends every session there is, so it is not waited for.
func (s *Server) feel(lacks []string) {
	o := &s.overload
	o.mu.Lock()
	began, ended := len(o.lacks) == 0 && len(lacks) > 0, len(o.lacks) > 0 && len(lacks) == 0
	o.lacks = lacks
	if len(lacks) == 0 {
		o.lasting = 0
		if o.pause /= 2; o.pause < minStrainPause {
			o.pause = 0
		}
	} else {
		o.lasting++
		o.pause = min(max(2*o.pause, minStrainPause), maxStrainPause)
	}
	shed := o.lasting > strainPatience || slices.Contains(lacks, LackMemory)
	o.mu.Unlock()
	switch {
	case began:
		s.log.Warn("overloaded", zap.Strings("lacks", lacks))
	case ended:
		s.log.Info("not overloaded any more")
	}
	if shed {
		s.shed(shedShare, strings.Join(lacks, ","))
	}
}

// breathe waits before the next accept for as long as Limits.AcceptRate and the
// strain that the process is under call for.
func (s *Server) breathe(ctx context.Context) {
	now, rate := time.Now(), s.cfg.Load().Limits.AcceptRate
	o := &s.overload
	o.mu.Lock()
	d, late := o.pause, false
	if rate > 0 {
		// What was not used in the last second may be used at once.
		if first := now.Add(-time.Second); o.next.Before(first) {
			o.next = first
		}
		o.next = o.next.Add(time.Second / time.Duration(rate))
		due := o.next.Sub(now)
		d, late = max(d, due), due > 0
	}
	o.mu.Unlock()
	if late {
		s.metrics.Limited(limitAcceptRate)
	}
	if d > 0 {
		s.wait(ctx, d)
	}
}

// noteAccept takes note of an accept that failed: when the system has nothing left,
// somebody who has not logged in makes room. It says whether that is worth a line in
// the log; it happens again and again while it happens.
func (s *Server) noteAccept(err error) (worthALine bool) {
	if s.noteRefusal(err) {
		s.shed(shedShare, LackDescriptors)
	}
	now := time.Now()
	o := &s.overload
	o.mu.Lock()
	defer o.mu.Unlock()
	if worthALine = now.Sub(o.logged) >= acceptLogPause; worthALine {
		o.logged = now
	}
	return worthALine
}

// paced returns the pause that a failed accept doubles, after one that succeeded: none,
// but while descriptors lack. Whoever is let in then pushes somebody out, who is to have
// had the time for a login.
func (s *Server) paced(pause time.Duration) time.Duration {
	s.overload.mu.Lock()
	defer s.overload.mu.Unlock()
	if s.overload.refusing() {
		return min(pause, maxStrainPause/2)
	}
	return 0
}

// noteRefusal takes note of a socket that there is not, and says whether that is
// because the system refused it for want of something.
func (s *Server) noteRefusal(err error) bool {
	lack := isLack(err)
	if lack {
		s.overload.mu.Lock()
		s.overload.refused = time.Now()
		s.overload.mu.Unlock()
	}
	return lack
}

// isLack says whether the system refused a socket for want of something.
func isLack(err error) bool {
	return errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) ||
		errors.Is(err, syscall.ENOBUFS) || errors.Is(err, syscall.ENOMEM)
}

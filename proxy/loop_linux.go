package proxy

import (
	"crypto/tls"
	"os"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	maxBurst  = 4   // steps of one direction before it is the next session's turn
	maxEvents = 128 // events that are taken from the kernel at once

	// hotWait is how long a loop that was busy a moment ago waits for more without
	// telling the scheduler, which takes microseconds to come back. maxCold is how
	// often it goes without, when nothing comes in so short a time.
	hotWait = 200 * time.Microsecond
	maxCold = 64
)

// loop serves the sessions that are parked in it, which cost no goroutine and no
// buffer: one goroutine waits for whatever comes for any of them, and passes it on.
// Nothing that it does blocks. It runs while there are sessions, and until the
// server closes.
type loop struct {
	srv *Server

	// Owned by run.
	poll  *os.File // the epoll instance, in the hands of the runtime's poller
	in    []byte
	raw   []byte // lent to the TLS connection that is read
	kevs  [maxEvents]unix.EpollEvent
	batch []event
	again []*session // those with more to do, though nothing comes for them
	cold  int        // waits to come that are not hot
	miss  int        // what cold becomes when a hot wait is for nothing

	mu      sync.Mutex
	running bool
	epfd    int
	bell    int  // an eventfd that wakes the loop
	rung    bool // it was rung since the loop looked last
	slots   []slot
	free    []uint32
	parked  int
	posted  []*session // those that somebody wants to be looked at
}

// slot is where events find their session. Its number goes with the descriptors
// into the kernel, together with how often it was used before: an event for those
// who had it before is for nobody.
type slot struct {
	s   *session
	gen uint32
}

// event is what came for one side of a session.
type event struct {
	s    *session
	side side
	what uint32
}

// bell is the slot number of the loop's own descriptor.
const bellSlot = -1

// enter makes sure that the loop runs until leave.
func (l *loop) enter() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.running && !l.open() {
		return false
	}
	l.parked++
	return true
}

func (l *loop) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.parked--
	l.ring()
}

// open starts the loop. mu is held.
func (l *loop) open() bool {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return false
	}
	bell, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epfd, unix.EPOLL_CTL_ADD, bell, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: bellSlot})
		if err == nil {
			err = unix.SetNonblock(epfd, true) // else the runtime would not poll it
		}
		if err != nil {
			_ = unix.Close(bell)
		}
	}
	if err != nil {
		_ = unix.Close(epfd)
		return false
	}
	l.epfd, l.bell = epfd, bell
	l.poll = os.NewFile(uintptr(epfd), "epoll")
	l.in, l.raw = make([]byte, maxRead), make([]byte, maxRead)
	l.running = true
	l.srv.wg.Go(l.run)
	return true
}

// add hands a session over: from here on it is the loop's.
func (l *loop) add(s *session) {
	s.srv.wg.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.free); n > 0 {
		s.slot, l.free = l.free[n-1], l.free[:n-1]
	} else {
		s.slot = uint32(len(l.slots)) //nolint:gosec // there are fewer than descriptors
		l.slots = append(l.slots, slot{})
	}
	l.slots[s.slot].s = s
	s.served.Store(true)
	ok := true
	for sd, k := range s.sockets {
		ok = ok && !k.closed && l.watch(k, s.slot<<1|uint32(sd), l.slots[s.slot].gen)
	}
	if !ok {
		s.aborted.Store(true)
	}
	// The sockets take bytes now, so there is an event, and with it the first look
	// at what TLS has read ahead. What somebody wanted before tells nobody.
	if s.aborted.Load() || s.ending.Load() != nil {
		l.posted = append(l.posted, s)
		l.ring()
	}
}

// watch makes the kernel tell when a socket becomes readable, or takes more. It
// does so once each time: whoever is told goes on until there is nothing left. mu
// is held.
func (l *loop) watch(k *socket, at, gen uint32) bool {
	ev := unix.EpollEvent{
		Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET,
		Fd:     int32(at), Pad: int32(gen), //nolint:gosec // bits, that come back as they are
	}
	return unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, int(k.fd), &ev) == nil
}

// post makes the loop look at s; nil: at the server.
func (l *loop) post(s *session) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if s != nil {
		l.posted = append(l.posted, s)
	}
	l.ring()
}

// ring wakes the loop. mu is held.
func (l *loop) ring() {
	if l.rung || !l.running {
		return
	}
	l.rung = true
	one := [8]byte{1}
	_, _ = unix.Write(l.bell, one[:]) // it can only be full of wakes
}

// run is the loop.
func (l *loop) run() {
	posted := make([]*session, 0, maxEvents)
	for {
		n := l.wait()
		posted = l.take(n, posted[:0])
		for _, e := range l.batch {
			if !e.s.left { // since the event came
				l.handle(e)
			}
		}
		for _, s := range posted {
			if !s.left {
				l.visit(s)
			}
		}
		again := l.again
		l.again = nil
		for _, s := range again {
			if s.queued = false; !s.left {
				l.serve(s)
			}
		}
		if l.close() {
			return
		}
	}
}

// wait waits until something comes, and returns how many events there are.
func (l *loop) wait() (n int) {
	var hot time.Duration
	if l.cold == 0 && len(l.again) == 0 && l.srv.Connections() == 0 { // else there are logins that would wait too
		hot = hotWait
	}
	n = epollWait(l.epfd, l.kevs[:], hot)
	switch {
	case n > 0 && hot > 0:
		l.miss = 0
		return n
	case n > 0 || len(l.again) > 0:
		return n
	case hot > 0:
		l.miss = min(2*l.miss+1, maxCold)
		l.cold = l.miss
	case l.cold > 0:
		l.cold--
	}
	rc, err := l.poll.SyscallConn()
	if err != nil {
		panic(err) // nobody else closes it
	}
	err = rc.Read(func(fd uintptr) bool {
		n = epollWait(int(fd), l.kevs[:], 0)
		return n > 0
	})
	if err != nil {
		panic(err)
	}
	return n
}

// epollWait does not tell the scheduler: it is for waits that are shorter than what
// that would cost. Waits of less than a millisecond need Linux 5.11; before that they
// are none.
func epollWait(epfd int, evs []unix.EpollEvent, d time.Duration) int {
	var n uintptr
	var errno unix.Errno
	if d == 0 {
		n, _, errno = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(&evs[0])), uintptr(len(evs)), 0, 0, 0) //nolint:gosec // as said
	} else {
		ts := unix.NsecToTimespec(int64(d))
		n, _, errno = unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(epfd), uintptr(unsafe.Pointer(&evs[0])), uintptr(len(evs)), uintptr(unsafe.Pointer(&ts)), 0, 0) //nolint:gosec // as said
	}
	if errno != 0 {
		return 0
	}
	return int(n)
}

// take finds the sessions that n events are for, and those that were posted.
func (l *loop) take(n int, posted []*session) []*session {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.batch = l.batch[:0]
	for _, ev := range l.kevs[:n] {
		if ev.Fd == bellSlot {
			continue
		}
		at, gen := uint32(ev.Fd), uint32(ev.Pad) //nolint:gosec // see watch
		if sl := l.slots[at>>1]; sl.s != nil && sl.gen == gen {
			l.batch = append(l.batch, event{sl.s, side(at & 1), ev.Events})
		}
	}
	posted = append(posted, l.posted...)
	clear(l.posted)
	l.posted, l.rung = l.posted[:0], false
	return posted
}

// handle takes note of what the kernel tells, and serves the session.
func (l *loop) handle(e event) {
	s := e.s
	k := s.sockets[e.side]
	if e.what&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0 {
		k.hangUp = true
	}
	if k.hangUp || e.what&unix.EPOLLIN != 0 {
		k.readable = true
		s.wayFrom(e.side).idle = false
	}
	if k.unsent != nil {
		k.flush()
		s.wayTo(e.side).idle = k.unsent != nil
	}
	l.serve(s)
}

// visit looks at a session because somebody wants something of it, or a deadline
// has passed.
func (l *loop) visit(s *session) {
	s.look()
	for _, k := range s.sockets {
		k.expire()
	}
	s.up.idle, s.down.idle = false, false
	l.serve(s)
}

// serve passes on what there is in both directions, but for no longer than it is
// the session's turn.
func (l *loop) serve(s *session) {
	more := l.pass(s)
	for _, k := range s.sockets {
		if k.closed && k.release() {
			// There is an error to read for one way, and the other has nothing to
			// wait for any more. Nothing will ever come to tell.
			s.up.idle, s.down.idle = false, false
			more = true
		}
	}
	switch {
	case s.up.over && s.down.over:
		l.drop(s)
	case more && !s.queued:
		s.queued = true
		l.again = append(l.again, s)
	default:
		l.arm(s)
	}
}

// pass makes steps of both directions. It is true when there are more to make.
func (l *loop) pass(s *session) (more bool) {
	defer func() {
		if p := recover(); p != nil {
			s.panicked()
			s.up.over, s.down.over = true, true
		}
	}()
	up := l.steps(s, clientSide, &s.up)
	return l.steps(s, backendSide, &s.down) || up
}

// steps makes steps of the direction that begins at a side.
func (l *loop) steps(s *session, from side, w *way) (more bool) {
	if w.over || w.idle {
		return false
	}
	if tc, ok := s.conn(from).(*tls.Conn); ok {
		memory := memoryOf(tc)
		memory.lend(l.raw)
		defer memory.takeBack()
	}
	step := s.stepUp
	if from == backendSide {
		step = s.stepDown
	}
	for range maxBurst {
		if p := step(l.in); p != again {
			w.over, w.idle = p == over, p == later
			return false
		}
	}
	return true
}

// arm sets the session's timer, if it has deadlines.
func (l *loop) arm(s *session) {
	var first time.Time
	for sd, k := range s.sockets {
		if k.limits == nil {
			continue
		}
		// Nothing is read, in time or late, before what was read last has gone.
		blocked := s.sockets[1-sd].unsent != nil
		if t := k.limits.read; !s.wayFrom(side(sd)).over && !blocked && !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
		if t := k.limits.write; k.unsent != nil && !t.IsZero() && (first.IsZero() || t.Before(first)) {
			first = t
		}
	}
	switch {
	case first.IsZero():
	case s.timer == nil:
		s.timer = time.AfterFunc(time.Until(first), func() { l.post(s) })
	default:
		s.timer.Reset(time.Until(first))
	}
}

// drop ends a session both of whose directions are over.
func (l *loop) drop(s *session) {
	s.left = true
	if s.timer != nil {
		s.timer.Stop()
	}
	s.close()
	for _, k := range s.sockets {
		k.release()
	}
	l.mu.Lock()
	l.slots[s.slot].s = nil
	l.slots[s.slot].gen++
	l.free = append(l.free, s.slot)
	l.parked--
	l.mu.Unlock()
	// Its last words, in the log and in the table of routes, are nothing that the
	// others wait for.
	s.srv.wg.Go(s.finished)
	s.srv.wg.Done()
}

// close ends the loop when it has no sessions and will get none.
func (l *loop) close() bool {
	select {
	case <-l.srv.closing:
	default:
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.parked > 0 {
		return false
	}
	l.running, l.rung = false, false
	_ = l.poll.Close()
	_ = unix.Close(l.bell)
	l.slots, l.free, l.in, l.raw = nil, nil, nil, nil
	return true
}

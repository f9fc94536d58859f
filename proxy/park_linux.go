package proxy

import (
	"crypto/tls"
	"net"
	"runtime"
	"sync/atomic"
	"time"
)

// maxRead is what is read at once, and written with one system call.
const maxRead = 128 << 10

// loops are where sessions are parked: one loop for each processor. A session stays
// in the loop where it begins.
type loops struct {
	all  []*loop
	next atomic.Uint32
}

func (ls *loops) init(s *Server) {
	ls.all = make([]*loop, runtime.GOMAXPROCS(0))
	for i := range ls.all {
		ls.all[i] = &loop{srv: s}
	}
}

// wake makes all loops look whether the server is closing.
func (ls *loops) wake() {
	for _, l := range ls.all {
		l.post(nil)
	}
}

// parking is where a session is parked.
type parking struct {
	loop    *loop // nil: nowhere
	slot    uint32
	queued  bool // in loop.again
	left    bool // the loop
	sockets [2]*socket
	timer   *time.Timer // runs at the first of the session's deadlines, if it has any
}

// prepare notes the sockets under the connections of a session.
func (p *parking) prepare(client, backend net.Conn) {
	p.sockets[clientSide], _ = client.(*socket)
	p.sockets[backendSide], _ = backend.(*socket)
}

// park hands the session over to a loop. It is false when the session cannot be
// parked: when its connections are not TCP, or there are no more descriptors.
func (s *session) park() bool {
	client, backend := s.sockets[clientSide], s.sockets[backendSide]
	if client == nil || backend == nil {
		return false
	}
	ls := &s.srv.loops
	l := ls.all[int(ls.next.Add(1))%len(ls.all)]
	if !l.enter() {
		return false
	}
	if client.detach() != nil {
		l.leave()
		return false
	}
	s.loop = l
	if tc, ok := s.client.(*tls.Conn); ok {
		memoryOf(tc).forget()
	}
	if backend.detach() == nil {
		s.firstWords()
	} else {
		s.close()
	}
	l.add(s)
	return true
}

// firstWords tells the client that it is logged in, before the loop takes over.
func (s *session) firstWords() {
	defer s.recovered()
	if s.stepDown(nil) == over {
		s.down.over = true
	}
}

// wake tells the loop of a session to look at it. It is false when there is none.
func (s *session) wake() bool {
	if s.loop == nil {
		return false
	}
	s.loop.post(s)
	return true
}

func (s *session) wayFrom(sd side) *way {
	if sd == clientSide {
		return &s.up
	}
	return &s.down
}

func (s *session) wayTo(sd side) *way { return s.wayFrom(1 - sd) }

// read reads what there is, up to a full buffer.
func (s *session) read(sd side, p []byte) (n int, err error) {
	nc := s.conn(sd)
	if s.loop == nil {
		return nc.Read(p)
	}
	room := 0
	if _, ok := nc.(*tls.Conn); ok {
		room = maxRecord // what a record holds is never left for later, in memory that is only lent
	}
	for len(p)-n > room && err == nil {
		var m int
		m, err = nc.Read(p[n:])
		n += m
	}
	return n, err
}

// write writes p to a side, with one system call if that is possible.
func (s *session) write(sd side, p []byte) error {
	nc := s.conn(sd)
	if _, ok := nc.(*tls.Conn); ok && s.loop != nil && len(p) > oneRecord {
		k := s.sockets[sd]
		k.cork()
		defer k.uncork()
	}
	_, err := nc.Write(p)
	return err
}

// maxRecord is what a TLS record can hold. See RFC 8446, Section 5.1.
const maxRecord = 16 << 10

// oneRecord is what crypto/tls always puts into one record.
const oneRecord = 1 << 10

// lastWords is called when what is written to the client next is the last: TLS has
// its closure alert behind it, and one packet is enough for both. Without TLS
// nothing is held back, since nothing need be written any more.
func (s *session) lastWords() {
	if _, ok := s.client.(*tls.Conn); ok && s.loop != nil {
		s.sockets[clientSide].more = true
	}
}

// sent says what has become of the bytes written to a side: they have gone, they
// have not yet, or they never will.
func (p *parking) sent(sd side) error {
	if p.loop == nil {
		return nil
	}
	switch k := p.sockets[sd]; {
	case k.failed != nil:
		return k.failed
	case k.unsent != nil:
		return errWouldBlock
	}
	return nil
}

// limitWrites bounds the time for all that is written to the client from here on. The
// first bound is the one that counts: a loop may look at a session again and again.
func (s *session) limitWrites(d time.Duration) {
	if s.loop == nil {
		_ = s.client.SetWriteDeadline(time.Now().Add(d))
		return
	}
	if l := s.sockets[clientSide].limit(); l.write.IsZero() {
		l.write = time.Now().Add(d)
	}
}

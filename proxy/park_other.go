//go:build !linux

package proxy

import (
	"net"
	"time"
)

// loops is for systems where sessions can be parked. Here each has two goroutines.
type loops struct{}

func (*loops) init(*Server) {}

func (*loops) wake() {}

// parkable returns a connection that can be parked later on.
func parkable(nc net.Conn) net.Conn { return nc }

// parking is where a session is parked: nowhere.
type parking struct{}

func (*parking) prepare(_, _ net.Conn) {}

// park hands the session over to a loop, which is false here.
func (*session) park() bool { return false }

// wake tells the loop of a session to look.
func (*parking) wake() bool { return false }

func (s *session) read(sd side, p []byte) (int, error) { return s.conn(sd).Read(p) }

func (s *session) write(sd side, p []byte) error {
	_, err := s.conn(sd).Write(p)
	return err
}

// lastWords is called when what is written to the client next is the last.
func (*session) lastWords() {}

// sent says what has become of the bytes written to one side.
func (*parking) sent(side) error { return nil }

// limitWrites bounds the time for all that is written to the client from here on.
func (s *session) limitWrites(d time.Duration) {
	_ = s.client.SetWriteDeadline(time.Now().Add(d))
}

func isWouldBlock(error) bool { return false }

//go:build linux

package fake

import (
	"errors"

	"golang.org/x/sys/unix"
)

// conn is one connection of the loop. Owned by it.
type conn struct {
	fd        int
	session   session
	out       []byte // replies that are not sent yet
	body      int64  // octets of a message still to be sent behind out; -1: none
	in        []byte // what arrived while the connection could not be written to
	blocked   bool   // it waits until it can be written to
	idleIndex int    // its place in Backend.idle, -1 when it does not idle
	closed    bool
}

// wake serves what epoll has reported.
func (b *Backend) wake(c *conn, events uint32) {
	if events&unix.EPOLLOUT != 0 {
		if !b.flush(c) {
			return
		}
		if len(c.in) > 0 {
			in := c.in
			c.in = nil
			b.feed(c, in)
			return
		}
	}
	if events&(unix.EPOLLIN|unix.EPOLLHUP|unix.EPOLLERR) == 0 || c.closed || c.blocked {
		return
	}
	var n int
	var err error
	if c.session.skip >= int64(len(b.buffer)) {
		// Mail that is uploaded: the kernel drops it without a copy.
		n, _, err = unix.Recvfrom(c.fd, b.buffer, unix.MSG_TRUNC)
	} else {
		n, err = unix.Read(c.fd, b.buffer)
	}
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
	case err != nil, n <= 0:
		b.close(c)
	default:
		b.feed(c, b.buffer[:n])
	}
}

// feed answers what has arrived.
func (b *Backend) feed(c *conn, in []byte) {
	for len(in) > 0 && !c.closed {
		used, replies, body := c.session.feed(in, b.replies[:0])
		in, b.replies = in[used:], replies
		c.out, c.body = append(c.out, replies...), body
		if !b.flush(c) {
			if !c.closed && len(in) > 0 {
				c.in = append([]byte(nil), in...)
			}
			return
		}
	}
	if !c.closed {
		b.setIdle(c, c.session.state == inIdle)
	}
}

// flush sends what is there to send; false: the connection is blocked, or closed.
func (b *Backend) flush(c *conn) bool {
	for {
		if len(c.out) > 0 {
			flags := unix.MSG_NOSIGNAL
			if c.body > 0 {
				flags |= unix.MSG_MORE
			}
			n, err := unix.SendmsgN(c.fd, c.out, nil, nil, flags)
			if err != nil {
				return b.unsent(c, err)
			}
			c.out = c.out[:copy(c.out, c.out[n:])]
			if len(c.out) > 0 {
				continue
			}
		}
		if c.body < 0 {
			break
		}
		for c.body > 0 {
			offset := (c.session.body - c.body) % bodyFileSize
			n, err := unix.Sendfile(c.fd, b.bodyFile, &offset, int(min(c.body, bodyFileSize-offset)))
			if err != nil {
				return b.unsent(c, err)
			}
			c.body -= int64(n)
		}
		c.body = -1
		c.out = c.session.fetched(c.out)
	}
	c.out = nil // idle connections hold no buffer
	if c.session.bye {
		b.close(c)
		return false
	}
	b.setBlocked(c, false)
	return true
}

// unsent is what follows when a write did not succeed.
func (b *Backend) unsent(c *conn, err error) bool {
	if errors.Is(err, unix.EAGAIN) {
		b.setBlocked(c, true)
	} else {
		b.close(c)
	}
	return false
}

func (b *Backend) setBlocked(c *conn, blocked bool) {
	if c.blocked == blocked {
		return
	}
	c.blocked = blocked
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(c.fd)} //nolint:gosec // descriptors are int32
	if blocked {
		event.Events = unix.EPOLLOUT
	}
	_ = unix.EpollCtl(b.epoll, unix.EPOLL_CTL_MOD, c.fd, &event)
}

// setIdle keeps Backend.idle, where mail arrives.
func (b *Backend) setIdle(c *conn, idle bool) {
	if idle == (c.idleIndex >= 0) {
		return
	}
	if idle {
		c.idleIndex = len(b.idle)
		b.idle = append(b.idle, c)
		return
	}
	last := len(b.idle) - 1
	b.idle[c.idleIndex] = b.idle[last]
	b.idle[c.idleIndex].idleIndex = c.idleIndex
	b.idle = b.idle[:last]
	c.idleIndex = -1
}

func (b *Backend) close(c *conn) {
	if c.closed {
		return
	}
	b.setIdle(c, false)
	c.closed = true
	delete(b.conns, c.fd)
	_ = unix.Close(c.fd)
}

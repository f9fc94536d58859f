//go:build linux

package load

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Bulk is load by few clients that move much.
type Bulk struct {
	Connections int
	Size        int64 // of each mail
	WarmUp      time.Duration
	Duration    time.Duration
}

// Download measures FETCH: mib_s, cpu_s_gib. The first mail on each connection is
// decrypted, which tells how many octets on the wire an octet of mail takes; from
// then on the kernel throws away what arrives, so that it is not this generator
// that is measured.
func (l *Load) Download(ctx context.Context, kind Bulk) (*Result, error) {
	return l.bulk(ctx, kind, func(c *client, stop *atomic.Bool, moved *atomic.Int64) error {
		before, err := received(c)
		if err != nil {
			return err
		}
		if err := c.do("FETCH 1 BODY[]"); err != nil {
			return err
		}
		after, err := received(c)
		if err != nil {
			return err
		}
		onWire := float64(after-before) / float64(kind.Size)
		conn, err := c.raw.SyscallConn()
		if err != nil {
			return err
		}
		var got, asked float64
		for !stop.Load() {
			c.patience()
			for asked < got/(onWire*float64(kind.Size))+2 { // always one ahead
				if _, err := c.send("FETCH 1 BODY[]"); err != nil {
					return err
				}
				asked++
			}
			n, err := discard(conn)
			if err != nil {
				return err
			}
			got += float64(n)
			moved.Add(int64(float64(n) / onWire))
		}
		return nil
	})
}

// Upload measures APPEND: mib_s, cpu_s_gib.
func (l *Load) Upload(ctx context.Context, kind Bulk) (*Result, error) {
	mail := make([]byte, 64<<10)
	return l.bulk(ctx, kind, func(c *client, stop *atomic.Bool, moved *atomic.Int64) error {
		for !stop.Load() {
			if err := c.upload(kind.Size, mail, func(n int) { moved.Add(int64(n)) }); err != nil {
				return err
			}
		}
		return nil
	})
}

// bulk runs move on each connection, and measures the octets that it counts.
func (l *Load) bulk(ctx context.Context, kind Bulk, move func(c *client, stop *atomic.Bool, moved *atomic.Int64) error) (*Result, error) {
	clients, err := l.openAll(ctx, kind.Connections, 64<<10, fmt.Sprintf("SELECT BODY-%d", kind.Size))
	if err != nil {
		return nil, err
	}
	var (
		group  sync.WaitGroup
		failed failures
		stop   atomic.Bool
		moved  atomic.Int64 // since the measurement began
	)
	end := func() {
		stop.Store(true)
		closeAll(clients)
		group.Wait()
	}
	defer end()
	for _, c := range clients {
		group.Go(func() {
			if err := move(c, &stop, &moved); err != nil && !stop.Load() {
				failed.add(err)
			}
		})
	}
	if err := pause(ctx, kind.WarmUp); err != nil {
		return nil, err
	}
	r := newResult()
	m := l.startMeter()
	moved.Store(0)
	err = l.measure(ctx, kind.Duration, &moved)
	mib := float64(moved.Load()) / (1 << 20)
	wall, cpu := m.stop(r)
	end()
	failed.fill(r)
	if err != nil {
		return nil, err
	}
	if r.Errors > 0 {
		return nil, errors.New(r.FirstError)
	}
	r.Figures["mib_s"] = mib / wall
	if mib > 0 {
		r.Figures["cpu_s_gib"] = cpu / mib * 1024
	}
	return r, nil
}

// received returns how many octets have arrived on a connection.
func received(c *client) (n uint64, err error) {
	conn, err := c.raw.SyscallConn()
	if err != nil {
		return 0, err
	}
	ctlErr := conn.Control(func(fd uintptr) {
		var info *unix.TCPInfo
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err == nil {
			n = info.Bytes_received
		}
	})
	return n, errors.Join(err, ctlErr)
}

// discard throws away what has arrived, waiting for it, and returns how much it was.
func discard(conn syscall.RawConn) (n int, err error) {
	waitErr := conn.Read(func(fd uintptr) bool {
		var got uintptr
		var errno syscall.Errno
		// Without a buffer, which x/sys cannot ask for.
		got, _, errno = unix.Syscall6(unix.SYS_RECVFROM, fd, 0, 4<<20, unix.MSG_TRUNC|unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == unix.EAGAIN:
			return false
		case errno != 0:
			err = errno
		case got == 0:
			err = errors.New("the connection was closed")
		default:
			n = int(got)
		}
		return true
	})
	return n, errors.Join(err, waitErr)
}

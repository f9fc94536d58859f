//go:build linux

package fake

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// bodyFileSize is the size of the file that messages are sent from; longer ones
// repeat it.
const bodyFileSize = 1 << 20

// backlog is long: proxies connect in bursts.
const backlog = 4096

// Backend is an IMAP backend for any number of connections in clear text. Open
// makes one, Run serves it.
type Backend struct {
	// Static after Open.
	epoll     int
	wakeup    int // an eventfd: there is something in pushes, or the end is near
	listeners map[int]bool
	addresses []netip.AddrPort
	bodyFile  int
	pushes    chan *push

	// Owned by Run.
	conns   map[int]*conn
	idle    []*conn // those that wait for mail
	next    int     // in idle: whose turn it is
	buffer  []byte
	replies []byte
}

// push is a request for mail to arrive at idling connections, in turn.
type push struct {
	perSecond float64
	duration  time.Duration
	began     time.Time
	sent      int64
	done      chan int64
}

// Open listens on IPv4 addresses; port 0 lets the system choose.
func Open(addresses ...string) (b *Backend, err error) {
	b = &Backend{
		epoll: -1, wakeup: -1, bodyFile: -1, listeners: make(map[int]bool),
		pushes: make(chan *push, 1),
		conns:  make(map[int]*conn), buffer: make([]byte, 256<<10),
	}
	defer func() {
		if err != nil {
			b.closeAll()
		}
	}()
	if b.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll: %w", err)
	}
	if b.wakeup, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("eventfd: %w", err)
	}
	if err := b.watch(b.wakeup); err != nil {
		return nil, err
	}
	if b.bodyFile, err = unix.MemfdCreate("body", unix.MFD_CLOEXEC); err != nil {
		return nil, fmt.Errorf("memfd: %w", err)
	}
	if _, err := unix.Write(b.bodyFile, text(bodyFileSize)); err != nil {
		return nil, fmt.Errorf("write the body: %w", err)
	}
	for _, address := range addresses {
		if err := b.listen(address); err != nil {
			return nil, fmt.Errorf("listen on %s: %w", address, err)
		}
	}
	return b, nil
}

// text returns lines of mail.
func text(size int) []byte {
	const line = "The quick brown fox jumps over the lazy dog, 0123456789 again.\r\n"
	b := make([]byte, size)
	for i := range b {
		b[i] = line[i%len(line)]
	}
	return b
}

// Addresses returns where it listens, in the order in which Open was told.
func (b *Backend) Addresses() []netip.AddrPort { return b.addresses }

func (b *Backend) listen(address string) error {
	resolved, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	if !resolved.Addr().Is4() {
		return errors.New("not an IPv4 address")
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	b.listeners[fd] = true
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return err
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Port: int(resolved.Port()), Addr: resolved.Addr().As4()}); err != nil {
		return err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return err
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return err
	}
	if inet, ok := name.(*unix.SockaddrInet4); ok {
		resolved = netip.AddrPortFrom(netip.AddrFrom4(inet.Addr), uint16(inet.Port)) //nolint:gosec // a port
	}
	b.addresses = append(b.addresses, resolved)
	return b.watch(fd)
}

func (b *Backend) watch(fd int) error {
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)} //nolint:gosec // descriptors are int32
	if err := unix.EpollCtl(b.epoll, unix.EPOLL_CTL_ADD, fd, &event); err != nil {
		return fmt.Errorf("epoll: %w", err)
	}
	return nil
}

// Push lets mail arrive at the idling connections, one after the other, and
// returns how many times it did. Run must be running.
func (b *Backend) Push(ctx context.Context, perSecond float64, duration time.Duration) (int64, error) {
	p := &push{perSecond: perSecond, duration: duration, done: make(chan int64, 1)}
	select {
	case b.pushes <- p:
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	b.signal()
	select {
	case n := <-p.done:
		return n, nil
	case <-ctx.Done():
		return 0, ctx.Err()
	}
}

func (b *Backend) signal() {
	_, _ = unix.Write(b.wakeup, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// Run serves until ctx ends, and then closes everything.
func (b *Backend) Run(ctx context.Context) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		b.signal()
	})
	defer func() {
		if !stop() {
			<-ended // before the descriptor that it writes to is closed
		}
		b.closeAll()
	}()
	events := make([]unix.EpollEvent, 512)
	var pushing *push
	for ctx.Err() == nil {
		timeout := -1
		if pushing != nil {
			timeout = 1
		}
		n, err := unix.EpollWait(b.epoll, events, timeout)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("epoll: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			fd := int(e.Fd)
			switch {
			case fd == b.wakeup:
				var count [8]byte
				_, _ = unix.Read(b.wakeup, count[:])
			case b.listeners[fd]:
				if err := b.accept(fd); err != nil {
					return err
				}
			default:
				if c := b.conns[fd]; c != nil {
					b.wake(c, e.Events)
				}
			}
		}
		if pushing == nil {
			select {
			case pushing = <-b.pushes:
				pushing.began = time.Now()
			default:
			}
		}
		if pushing != nil && b.push(pushing) {
			pushing = nil
		}
	}
	return nil
}

// push sends what is due by now, and says whether that was all.
func (b *Backend) push(p *push) (done bool) {
	elapsed := min(time.Since(p.began), p.duration)
	for due := int64(elapsed.Seconds() * p.perSecond); p.sent < due && len(b.idle) > 0; p.sent++ {
		b.next = (b.next + 1) % len(b.idle)
		if c := b.idle[b.next]; len(c.out) == 0 {
			_, _ = unix.Write(c.fd, []byte(newMail))
		}
	}
	if elapsed < p.duration {
		return false
	}
	p.done <- p.sent
	return true
}

func (b *Backend) accept(listener int) error {
	for range 64 {
		fd, _, err := unix.Accept4(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) {
			return fmt.Errorf("accept: %w", err)
		}
		if err != nil {
			return nil //nolint:nilerr // nobody is there, or no longer
		}
		_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		if err := b.watch(fd); err != nil {
			return err
		}
		b.conns[fd] = &conn{fd: fd, session: session{body: defaultBody}, body: -1, idleIndex: -1}
		_, _ = unix.Write(fd, []byte(greeting))
	}
	return nil
}

// closeAll closes what Open and Run have opened.
func (b *Backend) closeAll() {
	for fd := range b.conns {
		_ = unix.Close(fd)
	}
	clear(b.conns)
	for fd := range b.listeners {
		_ = unix.Close(fd)
	}
	for _, fd := range []int{b.epoll, b.wakeup, b.bodyFile} {
		if fd >= 0 {
			_ = unix.Close(fd)
		}
	}
}

package admin

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Listener is where the API is served: a unix socket or a TCP port.
type Listener struct {
	net.Listener
	Name  string // as people know it
	local bool   // a unix socket: who connects is known, and may see profiles
}

// socketMode lets the owner and the group in.
const socketMode = 0o660

// dialTimeout bounds the look at whether a socket is in use.
const dialTimeout = time.Second

// ListenUnix listens on a unix socket that its owner and group may connect to. A
// socket that a dead process left is replaced; one that is in use is an error. open
// is the socket if it is open already, nil otherwise.
func ListenUnix(ctx context.Context, path string, open net.Listener) (*Listener, error) {
	if open != nil {
		return &Listener{Listener: open, Name: path, local: true}, nil
	}
	if err := removeStale(ctx, path); err != nil {
		return nil, err
	}
	// The mode of a socket's file is that of the socket when it is bound, so that
	// there is no moment in which everybody can connect.
	conf := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { _ = syscall.Fchmod(int(fd), socketMode) })
	}}
	l, err := conf.Listen(ctx, "unix", path)
	if err != nil {
		return nil, listenError(path, err)
	}
	if err := os.Chmod(path, socketMode); err != nil { // where the system does otherwise
		_ = l.Close()
		return nil, listenError(path, err)
	}
	return &Listener{Listener: l, Name: path, local: true}, nil
}

// removeStale removes the socket of a process that is no more.
func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return listenError(path, err)
	case info.Mode().Type() != fs.ModeSocket:
		return listenError(path, errors.New("the file is there, and is no socket"))
	}
	d := net.Dialer{Timeout: dialTimeout}
	c, err := d.DialContext(ctx, "unix", path)
	if err == nil {
		_ = c.Close()
		return listenError(path, errors.New("another process serves it"))
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return listenError(path, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return listenError(path, err)
	}
	return nil
}

// ListenTCP listens on a TCP port. Unless callers must have a token, it has to be
// on a loopback address. open is the socket if it is open already, nil otherwise.
func ListenTCP(ctx context.Context, address string, token bool, open net.Listener) (*Listener, error) {
	l := open
	if l == nil {
		var conf net.ListenConfig
		var err error
		if l, err = conf.Listen(ctx, "tcp", address); err != nil {
			return nil, listenError(address, err)
		}
	}
	if at, err := netip.ParseAddrPort(l.Addr().String()); !token && (err != nil || !at.Addr().Unmap().IsLoopback()) {
		_ = l.Close()
		return nil, listenError(address, errors.New("without a token the address must be a loopback one"))
	}
	return &Listener{Listener: l, Name: address}, nil
}

func listenError(address string, err error) error {
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		err = errno // without the words of the net package
	}
	return fmt.Errorf("cannot listen on %s: %w", address, err)
}

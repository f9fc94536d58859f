package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"

	"github.com/coreos/go-systemd/v22/activation"
	"go.uber.org/zap"
)

// inherited are listening sockets that this process has not opened itself. The
// nil pointer has none. It is owned by the goroutine that starts the app.
type inherited struct {
	list []inheritedSocket
	keep bool // the files of unix sockets are somebody else's to remove
}

// inheritedSocket is one of them.
type inheritedSocket struct {
	name string // that of config.Listener.ID or of the API; "": known by its address alone
	net.Listener
}

// activated returns the sockets that the service manager has opened. See
// sd_listen_fds(3).
func activated() (*inherited, error) {
	in := &inherited{keep: true}
	for _, f := range activation.Files(true) {
		if err := in.add("", f); err != nil {
			in.close()
			return nil, fmt.Errorf("socket %s of the service manager: %w", f.Name(), err)
		}
	}
	return in, nil
}

// add takes a descriptor, and closes it.
func (in *inherited) add(name string, f *os.File) error {
	l, err := net.FileListener(f)
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	in.list = append(in.list, inheritedSocket{name, l})
	return nil
}

// take returns the socket that was handed over under a name, or else one that
// listens on an address, nil when there is none. The network is tcp or unix.
func (in *inherited) take(name, network, address string) net.Listener {
	if in == nil {
		return nil
	}
	i := slices.IndexFunc(in.list, func(s inheritedSocket) bool { return s.name == name })
	if i < 0 {
		i = slices.IndexFunc(in.list, func(s inheritedSocket) bool { return s.name == "" && listensOn(s, network, address) })
	}
	if i < 0 {
		return nil
	}
	l := in.list[i].Listener
	in.list = slices.Delete(in.list, i, i+1)
	return l
}

// listensOn says whether a socket has a configured address.
func listensOn(l net.Listener, network, address string) bool {
	if network != "tcp" {
		return l.Addr().Network() == network && l.Addr().String() == address
	}
	at, ok := l.Addr().(*net.TCPAddr)
	want, err := net.ResolveTCPAddr(network, address)
	if !ok || err != nil || at.Port != want.Port {
		return false
	}
	everywhere := len(want.IP) == 0 || want.IP.IsUnspecified()
	return everywhere && at.IP.IsUnspecified() || at.IP.Equal(want.IP)
}

// dropRest closes what nobody has taken, and says so.
func (in *inherited) dropRest(log *zap.Logger) {
	if in == nil {
		return
	}
	for _, s := range in.list {
		log.Warn("a socket that was handed over is closed: the configuration has no such listener", zap.Stringer("address", s.Addr()))
	}
	in.close()
}

// close closes what nobody has taken.
func (in *inherited) close() {
	for _, s := range in.list {
		_ = s.Close()
	}
	in.list = nil
}

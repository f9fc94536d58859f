package admin

import (
	"net"
	"os/user"
	"strconv"

	"golang.org/x/sys/unix"
)

// peerOf returns the user who connected to a unix socket, as the kernel knows
// them.
func peerOf(c *net.UnixConn) (p peer, ok bool) {
	raw, err := c.SyscallConn()
	if err != nil {
		return peer{}, false
	}
	var cred *unix.Ucred
	if raw.Control(func(fd uintptr) {
		cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	}) != nil || err != nil {
		return peer{}, false
	}
	id := strconv.FormatUint(uint64(cred.Uid), 10)
	p = peer{name: "uid " + id, root: cred.Uid == 0}
	if u, err := user.LookupId(id); err == nil {
		p.name = u.Username
	}
	return p, true
}

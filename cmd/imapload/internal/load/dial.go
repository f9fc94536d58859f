//go:build linux

package load

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bindLate lets the system choose the port when it connects, so that every local
// address has all ports to itself.
func bindLate(_, _ string, conn syscall.RawConn) error {
	var err error
	ctlErr := conn.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
	return errors.Join(err, ctlErr)
}

// dial connects, with TLS, and reads the greeting.
func (l *Load) dial(ctx context.Context, conf *tls.Config, bufferSize int) (*client, error) {
	dialer := net.Dialer{Timeout: l.timeout(), KeepAlive: -1}
	if len(l.Sources) > 0 {
		source := l.Sources[l.source.Add(1)%uint64(len(l.Sources))]
		dialer.LocalAddr = &net.TCPAddr{IP: source.AsSlice()}
		dialer.Control = bindLate
	}
	conn, err := dialer.DialContext(ctx, "tcp", l.Address)
	if err != nil {
		return nil, err
	}
	c := &client{timeout: l.timeout(), tls: tls.Client(conn, conf)}
	c.raw, _ = conn.(*net.TCPConn)
	c.patience()
	if err := c.tls.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	c.in = bufio.NewReaderSize(c.tls, bufferSize)
	line, err := c.in.ReadSlice('\n')
	if err == nil && !strings.HasPrefix(string(line), "* OK") {
		err = fmt.Errorf("got %q", line)
	}
	if err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("greeting: %w", err)
	}
	return c, nil
}

// login logs the next user in.
func (l *Load) login(c *client) error {
	users := l.Users
	if users <= 0 {
		users = 100_000
	}
	user := strings.ReplaceAll(l.User, "%d", strconv.FormatInt(l.user.Add(1)%users, 10))
	return c.do("LOGIN " + user + " " + l.Password)
}

// open connects and logs in, and then does the commands.
func (l *Load) open(ctx context.Context, bufferSize int, commands ...string) (*client, error) {
	c, err := l.dial(ctx, l.tlsConfig(), bufferSize)
	if err != nil {
		return nil, err
	}
	err = l.login(c)
	for _, command := range commands {
		if err == nil {
			err = c.do(command)
		}
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// openAll opens several such connections.
func (l *Load) openAll(ctx context.Context, n, bufferSize int, commands ...string) ([]*client, error) {
	var all []*client
	for range n {
		c, err := l.open(ctx, bufferSize, commands...)
		if err != nil {
			closeAll(all)
			return nil, err
		}
		all = append(all, c)
	}
	return all, nil
}

func closeAll(clients []*client) {
	for _, c := range clients {
		c.close()
	}
}

// patience gives the next command all its time.
func (c *client) patience() { _ = c.raw.SetDeadline(time.Now().Add(c.timeout)) }

// forever lifts the deadline.
func (c *client) forever() { _ = c.raw.SetDeadline(time.Time{}) }

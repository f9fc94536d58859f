package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"imapgate/cmd/imapgate/internal/config"
	"imapgate/proxy"
)

// socket is a listening socket and who serves it. It outlives a reload that
// changes how its connections begin, so that none is refused meanwhile.
type socket struct {
	tcp  *net.TCPListener
	conf config.Listener

	lease  *lease
	cancel context.CancelFunc
	done   chan struct{} // closed when Serve has returned
}

// lease is what [proxy.Server.Serve] gets of a socket. Closing it closes the
// socket, unless that was handed on: then Accept just returns.
type lease struct {
	*net.TCPListener
	handedOn atomic.Bool
}

// Close implements [net.Listener].
func (l *lease) Close() error {
	if l.handedOn.Load() {
		return l.SetDeadline(time.Unix(1, 0))
	}
	return l.TCPListener.Close()
}

// openSocket listens on the address of a listener, unless the socket is there
// already.
func openSocket(ctx context.Context, file string, conf config.Listener, in *inherited) (*socket, *config.Error) {
	l := in.take(conf.ID, "tcp", conf.Serve.Name)
	if l == nil {
		lc := proxy.ListenConfig()
		var err error
		if l, err = lc.Listen(ctx, "tcp", conf.Serve.Name); err != nil {
			return nil, listenError(file, conf, err)
		}
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		_ = l.Close()
		return nil, listenError(file, conf, fmt.Errorf("a %T instead of a TCP socket", l))
	}
	return &socket{tcp: tcp, conf: conf}, nil
}

// listenError words why an address cannot be listened on.
func listenError(file string, conf config.Listener, err error) *config.Error {
	e := &config.Error{File: file, Pos: conf.Pos, Msg: "cannot listen on " + conf.Serve.Name, Err: err}
	if op, ok := errors.AsType[*net.OpError](err); ok {
		e.Err = op.Err
	}
	if errno, ok := errors.AsType[syscall.Errno](err); ok {
		e.Err = errno
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		e.Hint = "another process listens there: see ss -ltnp"
	case errors.Is(err, syscall.EACCES):
		e.Hint = "ports below 1024 need root or CAP_NET_BIND_SERVICE"
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		e.Hint = "this machine does not have that address"
	}
	return e
}

// serve begins to serve a socket. The server's word that it ended for another
// reason than being asked to goes to a.failed.
func (a *app) serve(ctx context.Context, s *socket) {
	ctx, s.cancel = context.WithCancel(ctx)
	s.done = make(chan struct{})
	s.lease = &lease{TCPListener: s.tcp}
	l := s.conf.Serve // each Serve gets a listener of its own
	l.Tuned = true    // see openSocket
	l.Listener = s.lease
	a.serving.Go(func() {
		defer close(s.done)
		err := a.server.Serve(ctx, &l)
		if err == nil || errors.Is(err, proxy.ErrServerClosed) {
			return
		}
		select {
		case a.failed <- err:
		default: // one failure is enough to end
		}
	})
}

// stop ends the serving of a socket and closes it. Its connections live on.
func (s *socket) stop() {
	s.cancel()
	<-s.done
}

// release ends the serving of a socket that stays open.
func (s *socket) release() error {
	s.lease.handedOn.Store(true)
	s.cancel()
	<-s.done
	return s.tcp.SetDeadline(time.Time{})
}

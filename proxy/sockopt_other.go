//go:build !linux

package proxy

import (
	"net"
	"time"
)

// quiet says yes: whoever uses the connection finds out.
func quiet(net.Conn) bool { return true }

// ListenConfig returns how to listen for clients.
func ListenConfig() net.ListenConfig { return net.ListenConfig{KeepAliveConfig: keepAlive} }

// tunedDialer returns what connects to backends.
func tunedDialer() net.Dialer { return net.Dialer{KeepAliveConfig: keepAlive} }

// setUserTimeout does nothing here: keepalive alone finds dead connections.
func setUserTimeout(net.Conn, time.Duration) {}

//go:build !linux

package proxy

import (
	"net"
	"time"
)

// quiet says yes: whoever uses the connection finds out.
func quiet(net.Conn) bool { return true }

// setUserTimeout does nothing here: keepalive alone finds dead connections.
func setUserTimeout(net.Conn, time.Duration) {}

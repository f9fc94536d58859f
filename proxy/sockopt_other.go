//go:build !linux

package proxy

import (
	"net"
	"time"
)

// setUserTimeout does nothing here: keepalive alone finds dead connections.
func setUserTimeout(*net.TCPConn, time.Duration) {}

package proxy

// handshakeStack makes a stack of 16 KiB, on which everything that a handshake calls
// has room: signing with ECDSA goes deepest.
const handshakeStack = 8 << 10

// deepen makes the stack of a new goroutine large enough for a handshake. It would grow
// to that in any case, by doubling: each time all frames that there are would be copied and
// every pointer in them looked for, in the middle of the deepest computation. Now there are none.
//
//go:noinline
func deepen(i int) byte {
	var room [handshakeStack]byte // it is the size of the frame that counts
	return room[i&(handshakeStack-1)]
}

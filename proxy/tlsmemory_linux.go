package proxy

import (
	"bytes"
	"crypto/tls"
	"reflect"
	"sync"
	"unsafe"
)

// tlsMemory is the memory that a TLS connection keeps for reading. crypto/tls never
// gives it back: half a kilobyte after a handshake, and 33 KiB after a record of
// full size. While a connection is read it is lent a large buffer; a silent one has
// none.
//
// There is no public way to do that. The zero value, which is what there is when
// crypto/tls looks otherwise than expected, does nothing: everything works, with more
// memory.
type tlsMemory struct {
	rawInput *bytes.Buffer // records as they come
	hand     *bytes.Buffer // handshake messages

	// What makes keying material for others, and tickets.
	ekm              *exporter
	resumptionSecret *[]byte
}

type exporter = func(label string, context []byte, length int) ([]byte, error)

// layout is where a tls.Conn has its buffers.
type layout struct {
	known                 bool
	rawInput, hand        uintptr
	ekm, resumptionSecret uintptr
}

var tlsLayout = sync.OnceValue(func() (l layout) {
	conn, buffer := reflect.TypeFor[tls.Conn](), reflect.TypeFor[bytes.Buffer]()
	raw, ok1 := conn.FieldByName("rawInput")
	hand, ok2 := conn.FieldByName("hand")
	ekm, ok3 := conn.FieldByName("ekm")
	secret, ok4 := conn.FieldByName("resumptionSecret")
	l.known = ok1 && ok2 && raw.Type == buffer && hand.Type == buffer &&
		ok3 && ok4 && ekm.Type == reflect.TypeFor[exporter]() && secret.Type == reflect.TypeFor[[]byte]()
	l.rawInput, l.hand, l.ekm, l.resumptionSecret = raw.Offset, hand.Offset, ekm.Offset, secret.Offset
	return l
})

// memoryOf returns the memory of a connection, for whoever reads it.
func memoryOf(tc *tls.Conn) tlsMemory {
	l := tlsLayout()
	if !l.known {
		return tlsMemory{}
	}
	return tlsMemory{
		rawInput: (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(tc), l.rawInput)), //nolint:gosec // of that type, see tlsLayout
		hand:     (*bytes.Buffer)(unsafe.Add(unsafe.Pointer(tc), l.hand)),     //nolint:gosec // of that type, see tlsLayout

		ekm:              (*exporter)(unsafe.Add(unsafe.Pointer(tc), l.ekm)),            //nolint:gosec // likewise
		resumptionSecret: (*[]byte)(unsafe.Add(unsafe.Pointer(tc), l.resumptionSecret)), //nolint:gosec // likewise
	}
}

// lend makes buf, which is large enough for any record, the buffer of the connection.
func (m tlsMemory) lend(buf []byte) {
	if m.rawInput != nil {
		*m.rawInput = *bytes.NewBuffer(append(buf[:0], m.rawInput.Bytes()...))
	}
}

// forget drops what a server's connection needs for nothing but what nobody asks for
// after the handshake: exported keying material, and the secret that tickets are made of.
func (m tlsMemory) forget() {
	if m.ekm != nil {
		*m.ekm, *m.resumptionSecret = nil, nil
	}
}

// takeBack leaves the connection what it has read and not used yet, and no more.
func (m tlsMemory) takeBack() {
	if m.rawInput == nil {
		return
	}
	*m.rawInput = *bytes.NewBuffer(bytes.Clone(m.rawInput.Bytes()))
	if m.hand.Len() == 0 {
		*m.hand = bytes.Buffer{}
	}
}

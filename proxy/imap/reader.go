package imap

import (
	"bytes"
	"errors"
	"io"
	"sync"
)

const (
	readerSize    = 4 << 10
	maxEmptyReads = 100
)

// readerBuffers are those of readers, all zero. A proxy's readers live for one login.
var readerBuffers = sync.Pool{New: func() any { return new([readerSize]byte) }}

var errInvalidRead = errors.New("imap: source returned an invalid count from Read")

// A Reader buffers a connection. Unlike a bufio.Reader it gives back what it has read ahead, for whoever reads
// the connection next, and can zero what it has handed out.
//
// A Reader may be used by one goroutine at a time. Errors of the source are returned as they are, once all bytes
// before them are consumed.
type Reader struct {
	src  io.Reader
	buf  []byte // nil until the first read
	r, w int    // buf[r:w] is read ahead
	err  error  // came together with the bytes in buf
}

// NewReader returns a Reader of src. Its buffer of 4 KiB is allocated by the first read.
func NewReader(src io.Reader) *Reader { return &Reader{src: src} }

// Reset makes r read from src. Unread bytes are dropped, the buffer is zeroed and kept.
func (r *Reader) Reset(src io.Reader) {
	clear(r.buf)
	*r = Reader{src: src, buf: r.buf}
}

// fill reads once from the source into free room, which the caller has made sure of by consuming bytes or by
// asking for no more than the buffer holds. It returns an error only when there are no new bytes.
func (r *Reader) fill() error {
	if err := r.err; err != nil {
		r.err = nil
		return err
	}
	if r.buf == nil {
		buf, _ := readerBuffers.Get().(*[readerSize]byte)
		r.buf = buf[:]
	}
	if r.r > 0 {
		r.w = copy(r.buf, r.buf[r.r:r.w])
		r.r = 0
	}
	for range maxEmptyReads {
		n, err := r.src.Read(r.buf[r.w:])
		if n < 0 || n > len(r.buf)-r.w {
			return errInvalidRead
		}
		if n > 0 {
			r.w += n
			r.err = err
			return nil
		}
		if err != nil {
			return err
		}
	}
	return io.ErrNoProgress
}

// Read implements io.Reader. It gives the read-ahead first; a large read with nothing read ahead goes to the
// source directly.
func (r *Reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if r.r == r.w {
		if r.err == nil && len(p) >= readerSize {
			return r.src.Read(p)
		}
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, r.buf[r.r:r.w])
	r.r += n
	return n, nil
}

// ReadLine appends one line to dst, without the CRLF that ends it. A bare LF ends a line too, as it does for
// most servers. A line of more than limit octets is ErrLineTooLong. io.EOF is returned only in place of a line;
// in the middle of one it is io.ErrUnexpectedEOF.
//
// The bytes read so far are returned with every error, so that they can be zeroed. When dst has no room, its
// bytes are moved to a new array and the old ones zeroed: a line may hold a password.
func (r *Reader) ReadLine(dst []byte, limit int) ([]byte, error) {
	start := len(dst)
	dst, done, err := r.line(dst, start, limit)
	if err == nil && (!done || len(dst)-start > limit) {
		err = ErrLineTooLong
	}
	return dst, err
}

// line goes on with the line whose first bytes are dst[start:]. It stops without an error and before the line
// is done when the line is longer than limit; the caller may then go on with a larger one.
func (r *Reader) line(dst []byte, start, limit int) (_ []byte, done bool, err error) {
	most := start + limit + len("\r\n")
	for len(dst) < most {
		if r.r == r.w {
			if err := r.fill(); err != nil {
				if errors.Is(err, io.EOF) && len(dst) > start {
					err = io.ErrUnexpectedEOF
				}
				return dst, false, err
			}
		}
		chunk := r.buf[r.r:r.w]
		if len(chunk) > most-len(dst) {
			chunk = chunk[:most-len(dst)]
		}
		if i := bytes.IndexByte(chunk, '\n'); i >= 0 {
			chunk = chunk[:i+1]
			done = true
		}
		dst = appendWiping(dst, chunk, most)
		r.r += len(chunk)
		if done {
			dst = dst[:len(dst)-1]
			if n := len(dst); n > start && dst[n-1] == '\r' {
				dst = dst[:n-1]
			}
			return dst, true, nil
		}
	}
	return dst, false, nil
}

// readFull appends n bytes to dst. The end of the source is always unexpected here.
func (r *Reader) readFull(dst []byte, n int) ([]byte, error) {
	most := len(dst) + n
	for len(dst) < most {
		if r.r == r.w {
			if err := r.fill(); err != nil {
				return dst, unexpected(err)
			}
		}
		chunk := r.buf[r.r:min(r.w, r.r+most-len(dst))]
		dst = appendWiping(dst, chunk, most)
		r.r += len(chunk)
	}
	return dst, nil
}

// discard consumes n bytes.
func (r *Reader) discard(n int) error {
	for n > 0 {
		if r.r == r.w {
			if err := r.fill(); err != nil {
				return unexpected(err)
			}
		}
		m := min(n, r.w-r.r)
		r.r += m
		n -= m
	}
	return nil
}

// Peek returns the next n bytes without consuming them; n may be up to the 4 KiB of the buffer. When fewer are
// returned the error says why. The bytes are valid until the next call.
func (r *Reader) Peek(n int) ([]byte, error) {
	if n > readerSize {
		return nil, io.ErrShortBuffer
	}
	for r.w-r.r < n {
		if err := r.fill(); err != nil {
			return r.buf[r.r:r.w], err
		}
	}
	return r.buf[r.r : r.r+n], nil
}

// Buffered returns how many bytes are read ahead and not consumed.
func (r *Reader) Buffered() int { return r.w - r.r }

// Take returns a copy of the read-ahead, nil when there is none, and gives the buffer up, zeroed. Whoever reads the
// source afterwards goes on behind these bytes.
func (r *Reader) Take() []byte {
	var ahead []byte
	if r.r < r.w {
		ahead = bytes.Clone(r.buf[r.r:r.w])
	}
	if r.buf != nil {
		clear(r.buf)
		readerBuffers.Put((*[readerSize]byte)(r.buf))
	}
	r.buf, r.r, r.w = nil, 0, 0
	return ahead
}

// Wipe zeroes whatever was consumed and keeps the read-ahead.
func (r *Reader) Wipe() {
	clear(r.buf[:r.r])
	clear(r.buf[r.w:])
}

// unexpected turns the end of the source into an error that cannot be taken for an orderly one.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// appendWiping is append, but no bytes stay behind in an array that was outgrown, and the new array is never
// made larger than most without need.
func appendWiping(dst, p []byte, most int) []byte {
	need := len(dst) + len(p)
	if need > cap(dst) {
		grown := make([]byte, len(dst), max(need, min(max(2*cap(dst), 128), most)))
		copy(grown, dst)
		clear(dst)
		dst = grown
	}
	return append(dst, p...)
}

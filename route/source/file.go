package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"imapgate/route"
)

// Defaults of [File].
const (
	DefaultDebounce = 200 * time.Millisecond
	DefaultPoll     = time.Minute
)

// File is a file of rows in their text form. Use [NewFile] to make one; the
// exported fields may be set before it is used.
//
// Writers should make a new file and rename it over the old one, or swap a
// symbolic link: readers then see the whole of one or of the other. A file that
// is written in place is read when it has been left alone for Debounce.
type File struct {
	Path string

	// Debounce is how long after its last change a file is read. Zero means
	// DefaultDebounce.
	Debounce time.Duration

	// Poll is how often the file is looked at when nothing was heard of it:
	// notifications do not come from other machines that write to a network file
	// system. Zero means DefaultPoll.
	Poll time.Duration

	// Gently makes the first reading rest in between, as all later ones do, so that
	// logins do not wait for it.
	Gently bool

	// Copy is where Keep leaves a copy; "": nowhere. With FromCopy the first reading
	// is that of the copy: the file itself is no good.
	Copy     string
	FromCopy bool

	mu   sync.Mutex
	read signature // of the file that was read last
}

// NewFile returns the file at path as a source.
func NewFile(path string) *File {
	return &File{Path: path, Debounce: DefaultDebounce, Poll: DefaultPoll}
}

// Name returns the path.
func (f *File) Name() string { return f.Path }

// signature tells two states of a file apart, as far as its metadata can. The
// zero value equals no file's.
type signature struct {
	info fs.FileInfo
	err  string // why there is no info
}

func signatureOf(info fs.FileInfo, err error) signature {
	if err != nil {
		return signature{err: err.Error()}
	}
	return signature{info: info}
}

func (s signature) equal(o signature) bool {
	if s.info == nil || o.info == nil {
		return s.info == nil && o.info == nil && s.err == o.err
	}
	return os.SameFile(s.info, o.info) && s.info.Size() == o.info.Size() &&
		s.info.ModTime().Equal(o.info.ModTime()) && s.info.Mode() == o.info.Mode()
}

// Read returns the rows of the file. A file that changes while it is read is
// read again, three times in all.
func (f *File) Read(ctx context.Context) (*route.Rows, error) {
	f.mu.Lock()
	fromCopy := f.FromCopy
	f.FromCopy = false
	f.mu.Unlock()
	if fromCopy {
		return f.readCopy(ctx)
	}
	for attempt := 1; ; attempt++ {
		rows, before, after, err := f.readOnce(ctx)
		f.mu.Lock()
		f.read = before
		f.mu.Unlock()
		switch {
		case before.equal(after):
			return rows, err
		case attempt == 3:
			return nil, fmt.Errorf("%s changed while it was read, %d times: write the new file beside it and rename it", f.Path, attempt)
		}
		select {
		case <-time.After(f.debounce()):
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// readOnce reads the file and says what it was before and after that.
func (f *File) readOnce(ctx context.Context) (rows *route.Rows, before, after signature, err error) {
	info, err := os.Stat(f.Path)
	if before = signatureOf(info, err); err != nil {
		return nil, before, before, fmt.Errorf("read table: %w", err)
	}
	// Before it is opened: opening a named pipe would wait for a writer.
	if !info.Mode().IsRegular() {
		return nil, before, before, fmt.Errorf("read table: %s is not a regular file", f.Path)
	}
	file, err := os.Open(f.Path)
	if err != nil {
		return nil, before, before, fmt.Errorf("read table: %w", err)
	}
	defer file.Close()
	if info, err = file.Stat(); err != nil {
		return nil, signature{}, signature{}, fmt.Errorf("read table: %w", err)
	}
	before = signature{info: info}
	in := &reader{ctx: ctx.Err, src: file, size: info.Size()}
	f.mu.Lock()
	if f.Gently || !f.read.equal(signature{}) {
		in.pace = route.NewPace(ctx.Done())
	}
	f.mu.Unlock()
	rows, err = route.Parse(f.Path, in)
	if in.err != nil {
		// No word on the file's contents, so nothing that later looks are
		// compared with: the next one reads it again.
		return nil, signature{}, signature{}, fmt.Errorf("read table: %w", in.err)
	}
	info, statErr := file.Stat()
	return rows, before, signatureOf(info, statErr), err
}

func (f *File) debounce() time.Duration {
	if f.Debounce > 0 {
		return f.Debounce
	}
	return DefaultDebounce
}

// gentlePiece is how much is read between two rests of a gentle reading.
const gentlePiece = 16 << 10

// reader remembers why reading ended, and ends it with its context.
type reader struct {
	ctx  func() error
	src  io.Reader
	size int64
	pace *route.Pace // nil: it does not rest
	err  error
}

// Size is how many octets there are in all.
func (r *reader) Size() int64 { return r.size }

func (r *reader) Read(p []byte) (int, error) {
	if r.err = r.ctx(); r.err != nil {
		return 0, r.err
	}
	if r.pace != nil {
		p = p[:min(len(p), gentlePiece)]
		r.pace.Rest()
	}
	n, err := r.src.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.err = err
	}
	return n, err
}

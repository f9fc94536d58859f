package imap

import (
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
)

// endless is a source that never ends a line, and counts what was taken of it.
type endless struct {
	pattern string
	taken   int
}

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = e.pattern[(e.taken+i)%len(e.pattern)]
	}
	e.taken += len(p)
	return len(p), nil
}

// sources are the ways in which the same bytes may arrive.
var sources = map[string]func(io.Reader) io.Reader{
	"whole":      func(r io.Reader) io.Reader { return r },
	"bytes":      iotest.OneByteReader,
	"halves":     iotest.HalfReader,
	"with error": iotest.DataErrReader,
}

func TestReadLineEndsAtCRLFAndAtBareLF(t *testing.T) {
	for name, source := range sources {
		t.Run(name, func(t *testing.T) {
			r := NewReader(source(strings.NewReader("one\r\ntwo\n\r\n\n\r\r\nlast")))
			for _, want := range []string{"one", "two", "", "", "\r"} {
				if got, err := r.ReadLine(nil, 10); string(got) != want || err != nil {
					t.Fatalf("ReadLine = %q, %v; want %q", got, err, want)
				}
			}
			if got, err := r.ReadLine(nil, 10); string(got) != "last" || !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Fatalf("ReadLine at the end of a line cut short = %q, %v", got, err)
			}
			if got, err := r.ReadLine(nil, 10); len(got) != 0 || err != io.EOF { //nolint:errorlint // exactly io.EOF
				t.Fatalf("ReadLine at the end = %q, %v", got, err)
			}
		})
	}
}

func TestReadLineTakesExactlyTheLimit(t *testing.T) {
	for _, end := range []string{"\r\n", "\n"} {
		for _, limit := range []int{0, 1, 5, readerSize - 2, readerSize - 1, readerSize, readerSize + 1, MaxLine} {
			for name, source := range sources {
				r := NewReader(source(strings.NewReader(strings.Repeat("x", limit) + end + "next" + end)))
				if got, err := r.ReadLine(nil, limit); len(got) != limit || err != nil {
					t.Errorf("%s: limit %d, end %q: ReadLine = %d bytes, %v", name, limit, end, len(got), err)
				}
				if got, err := r.ReadLine(nil, 4); string(got) != "next" || err != nil {
					t.Errorf("%s: limit %d, end %q: next line = %q, %v", name, limit, end, got, err)
				}
				r = NewReader(source(strings.NewReader(strings.Repeat("x", limit+1) + end)))
				if got, err := r.ReadLine(nil, limit); !errors.Is(err, ErrLineTooLong) {
					t.Errorf("%s: limit %d, end %q: one more byte: %d bytes, %v", name, limit, end, len(got), err)
				}
			}
		}
	}
}

func TestReadLineHoldsNoMoreThanItsLimit(t *testing.T) {
	src := &endless{pattern: "x"}
	line, err := NewReader(src).ReadLine(nil, MaxAuthLine)
	if !errors.Is(err, ErrLineTooLong) {
		t.Fatalf("err = %v", err)
	}
	if most := MaxAuthLine + readerSize + 2; src.taken > most {
		t.Errorf("took %d bytes, more than %d", src.taken, most)
	}
	if cap(line) > MaxAuthLine+2 {
		t.Errorf("holds %d bytes for a line of at most %d", cap(line), MaxAuthLine)
	}
}

func TestReadLineAppendsAndWipesOutgrownArrays(t *testing.T) {
	old := append(make([]byte, 0, 8), "secret"...)
	got, err := NewReader(strings.NewReader("word\r\n")).ReadLine(old, 10)
	if string(got) != "secretword" || err != nil {
		t.Fatalf("ReadLine = %q, %v", got, err)
	}
	if string(old) != "\x00\x00\x00\x00\x00\x00" {
		t.Errorf("the outgrown array still holds %q", old)
	}
}

func TestReadGivesTheReadAheadFirst(t *testing.T) {
	r := NewReader(strings.NewReader("line\r\nrest" + strings.Repeat("y", 3*readerSize)))
	if _, err := r.ReadLine(nil, 10); err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 2*readerSize)
	n, err := r.Read(p)
	if err != nil || n != readerSize-len("line\r\n") || !bytes.HasPrefix(p, []byte("resty")) {
		t.Fatalf("Read = %d, %v", n, err)
	}
	if n, err = r.Read(p); n != len(p) || err != nil || r.Buffered() != 0 {
		t.Fatalf("large Read = %d, %v, %d buffered; want it past the buffer", n, err, r.Buffered())
	}
	if n, err = r.Read(p[:3]); n != 3 || err != nil || r.Buffered() == 0 {
		t.Fatalf("small Read = %d, %v, %d buffered; want it through the buffer", n, err, r.Buffered())
	}
	if n, err = r.Read(nil); n != 0 || err != nil {
		t.Fatalf("empty Read = %d, %v", n, err)
	}
	if rest, err := io.ReadAll(r); err != nil || len(rest) == 0 {
		t.Fatalf("ReadAll = %d bytes, %v", len(rest), err)
	}
}

func TestReadErrorsComeAfterTheBytesBeforeThem(t *testing.T) {
	r := NewReader(iotest.DataErrReader(strings.NewReader("ab")))
	if p, err := r.Peek(1); string(p) != "a" || err != nil {
		t.Fatalf("Peek = %q, %v", p, err)
	}
	p := make([]byte, 10)
	if n, err := r.Read(p); n != 2 || err != nil {
		t.Fatalf("Read = %d, %v", n, err)
	}
	if n, err := r.Read(p); n != 0 || err != io.EOF { //nolint:errorlint // exactly io.EOF
		t.Fatalf("Read = %d, %v", n, err)
	}
}

func TestDeadlineErrorsKeepTheirIdentity(t *testing.T) {
	timeout := iotest.ErrReader(os.ErrDeadlineExceeded)
	for _, input := range []string{"", "a LOG", "a LOGIN {5}\r\nab", "a LOGIN {5+}\r\nabcde"} {
		cr := &CommandReader{
			R:        NewReader(io.MultiReader(strings.NewReader(input), timeout)),
			Continue: func(string, string) error { return nil },
		}
		if _, err := cr.ReadCommand(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%q: %v", input, err)
		}
	}
}

func TestPeekConsumesNothing(t *testing.T) {
	for name, source := range sources {
		r := NewReader(source(strings.NewReader("hello")))
		if p, err := r.Peek(3); string(p) != "hel" || err != nil {
			t.Errorf("%s: Peek(3) = %q, %v", name, p, err)
		}
		if p, err := r.Peek(0); len(p) != 0 || err != nil {
			t.Errorf("%s: Peek(0) = %q, %v", name, p, err)
		}
		if p, err := r.Peek(6); string(p) != "hello" || !errors.Is(err, io.EOF) {
			t.Errorf("%s: Peek(6) = %q, %v", name, p, err)
		}
		if _, err := r.Peek(readerSize + 1); !errors.Is(err, io.ErrShortBuffer) {
			t.Errorf("%s: Peek over the buffer: %v", name, err)
		}
		if rest, err := io.ReadAll(r); string(rest) != "hello" || err != nil {
			t.Errorf("%s: ReadAll = %q, %v", name, rest, err)
		}
	}
	r := NewReader(&endless{pattern: "ab"})
	if _, err := r.ReadLine(nil, 100); !errors.Is(err, ErrLineTooLong) {
		t.Fatal(err)
	}
	if p, err := r.Peek(readerSize); len(p) != readerSize || err != nil {
		t.Errorf("Peek of a whole buffer = %d bytes, %v", len(p), err)
	}
}

func TestTakeLeavesNothingBehind(t *testing.T) {
	r := NewReader(strings.NewReader("a LOGIN x secret\r\nclient hello"))
	if r.Take() != nil {
		t.Error("Take of a fresh Reader is not nil")
	}
	if _, err := r.ReadLine(nil, 100); err != nil {
		t.Fatal(err)
	}
	if got := r.Take(); string(got) != "client hello" {
		t.Errorf("Take = %q", got)
	}
	if r.Buffered() != 0 || r.Take() != nil {
		t.Error("something is left after Take")
	}
	if len(bytes.Trim(r.buf, "\x00")) != 0 {
		t.Errorf("the buffer still holds %q", bytes.Trim(r.buf, "\x00"))
	}
}

func TestWipeZeroesWhatWasConsumed(t *testing.T) {
	r := NewReader(strings.NewReader("a LOGIN x secret\r\nb NOOP\r\n"))
	if _, err := r.ReadLine(nil, 100); err != nil {
		t.Fatal(err)
	}
	r.Wipe()
	if bytes.Contains(r.buf, []byte("secret")) {
		t.Error("the secret is still in the buffer")
	}
	if got, err := r.ReadLine(nil, 100); string(got) != "b NOOP" || err != nil {
		t.Errorf("ReadLine = %q, %v", got, err)
	}

	// A short read over an old long one leaves the long one's end in the buffer.
	r.Reset(iotest.OneByteReader(strings.NewReader("secretsecret")))
	if bytes.Contains(r.buf, []byte("NOOP")) {
		t.Error("Reset left old bytes in the buffer")
	}
	if _, err := r.Peek(12); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, r, 12); err != nil {
		t.Fatal(err)
	}
	r.src = iotest.OneByteReader(strings.NewReader("xy"))
	if _, err := r.Peek(1); err != nil {
		t.Fatal(err)
	}
	r.Wipe()
	if got := string(bytes.Trim(r.buf, "\x00")); got != "x" {
		t.Errorf("the buffer holds %q, not the read-ahead alone", got)
	}
}

func TestBrokenSourcesAreErrors(t *testing.T) {
	if _, err := NewReader(readFunc(func([]byte) (int, error) { return 0, nil })).ReadLine(nil, 1); !errors.Is(err, io.ErrNoProgress) {
		t.Errorf("a source that gives nothing: %v", err)
	}
	if _, err := NewReader(readFunc(func(p []byte) (int, error) { return len(p) + 1, nil })).ReadLine(nil, 1); !errors.Is(err, errInvalidRead) {
		t.Errorf("a source that lies: %v", err)
	}
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

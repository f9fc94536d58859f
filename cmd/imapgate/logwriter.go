package main

import (
	"bytes"
	"io"
	"runtime"
	"sync"
	"time"
)

const (
	// maxUnwritten is how many octets of the log wait until somebody takes them.
	maxUnwritten = 1 << 20

	// atomicWrite is how much a pipe takes as a whole (PIPE_BUF): the lines of this
	// process and those of the one that replaces it do not mix.
	atomicWrite = 4 << 10

	// lastWordsTimeout bounds how long the end of the process waits for its log.
	lastWordsTimeout = time.Second
)

// logWriter is where the log goes. Who logs does not wait for who takes it, a journal
// that hangs, say, or a pipe that nobody reads: lines are kept, and a goroutine writes
// them, many at once in a rush. When too many wait those that come are dropped, and the
// log says how many once it goes on.
type logWriter struct {
	w     io.Writer
	wake  chan struct{} // there is something to write
	stop  chan struct{} // closed when nothing more comes
	ended chan struct{} // closed when all has been written

	// Set before there is a logger; nil: nobody wants to know.
	dropped func()          // counts a line
	missing func(lines int) // writes a line about some that were dropped

	mu    sync.Mutex
	lines []byte
	lost  int // lines that were dropped behind these
}

// newLogWriter returns a logWriter that writes until end is called.
func newLogWriter(w io.Writer) *logWriter {
	l := &logWriter{w: w, wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{})}
	go l.run()
	return l
}

// Write implements [io.Writer]. It never fails.
func (l *logWriter) Write(line []byte) (int, error) {
	l.mu.Lock()
	if l.lost > 0 || len(l.lines)+len(line) > maxUnwritten {
		l.lost++
		if l.dropped != nil {
			l.dropped()
		}
	} else {
		l.lines = append(l.lines, line...)
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default: // it will look
	}
	return len(line), nil
}

// end writes what is left, unless nobody takes it.
func (l *logWriter) end() {
	close(l.stop)
	select {
	case <-l.ended:
	case <-time.After(lastWordsTimeout):
	}
}

func (l *logWriter) run() {
	defer close(l.ended)
	var lines []byte
	for stopped := false; !stopped; {
		select {
		case <-l.wake:
			runtime.Gosched() // whoever is about to log, too, goes first: their lines share a system call
		case <-l.stop:
			stopped = true
		}
		l.mu.Lock()
		l.lines, lines = lines[:0], l.lines
		lost := l.lost
		l.lost = 0
		l.mu.Unlock()
		for rest := lines; len(rest) > 0; {
			n := atOnce(rest)
			_, _ = l.w.Write(rest[:n]) // there is nobody to tell
			rest = rest[n:]
		}
		if lost > 0 && l.missing != nil {
			l.missing(lost)
		}
		if cap(lines) > maxUnwritten/16 {
			lines = nil // that was a rush
		}
	}
}

// atOnce returns how many octets of some lines to write at once.
func atOnce(lines []byte) int {
	if len(lines) <= atomicWrite {
		return len(lines)
	}
	if i := bytes.LastIndexByte(lines[:atomicWrite], '\n'); i >= 0 {
		return i + 1
	}
	if i := bytes.IndexByte(lines, '\n'); i >= 0 {
		return i + 1 // a long line
	}
	return len(lines)
}

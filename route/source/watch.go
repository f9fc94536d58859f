package source

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// blindPoll is the longest time between two looks at a file when there are
	// no notifications (the limit on inotify instances is exhausted, say).
	blindPoll = 5 * time.Second

	// debounceMost, in debounce times, is how long a file that never rests can
	// put off being read.
	debounceMost = 25

	// maxLinks bounds the symbolic links of one path.
	maxLinks = 40
)

// Watch implements [Source]. It watches directories and not the file: a file
// that is renamed over, or a link that is swapped (Kubernetes, certbot), is
// another file, of which a watch on the old one tells nothing.
func (f *File) Watch(ctx context.Context, changed func()) error {
	poll := f.Poll
	if poll <= 0 {
		poll = DefaultPoll
	}
	w := watch{file: f, base: filepath.Base(f.Path), poll: poll}
	var events <-chan fsnotify.Event
	var errs <-chan error
	if notify, err := fsnotify.NewWatcher(); err != nil {
		w.poll = min(poll, blindPoll)
	} else {
		defer notify.Close()
		w.notify, events, errs = notify, notify.Events, notify.Errors
	}
	ticker := time.NewTicker(w.poll)
	defer ticker.Stop()
	w.quiet = time.NewTimer(0)
	defer w.quiet.Stop()
	w.quiet.Stop()

	w.follow()
	w.look() // at what came between the last Read and follow
	for {
		select {
		case <-ctx.Done():
			return nil
		case event := <-events:
			w.follow()
			if w.isOwn(event) {
				w.arm()
			} else {
				w.look()
			}
		case err := <-errs:
			if err != nil { // events were lost
				w.follow()
				w.look()
			}
		case <-ticker.C:
			w.follow()
			w.lookAgain()
		case <-w.quiet.C:
			w.waiting = time.Time{}
			w.told, w.toldAt = f.now(), time.Now()
			changed()
		}
	}
}

func (f *File) now() signature { return signatureOf(os.Stat(f.Path)) }

func (f *File) lastRead() signature {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.read
}

// watch is one run of [File.Watch].
type watch struct {
	file   *File
	base   string
	notify *fsnotify.Watcher // nil: none to be had

	quiet   *time.Timer // fires when the file has rested
	waiting time.Time   // since when quiet runs; zero: it does not
	told    signature   // of the file when changed was called last
	toldAt  time.Time
	poll    time.Duration
}

// isOwn says whether an event is of the file itself. It counts then whatever
// the metadata say: two writes of equal size may fall into one tick of the file
// system's clock.
func (w *watch) isOwn(event fsnotify.Event) bool {
	return event.Op&^fsnotify.Chmod != 0 && filepath.Base(event.Name) == w.base
}

// look arms the timer if the file is neither the one that was read nor the one
// that was told of, which is being read perhaps.
func (w *watch) look() {
	if now := w.file.now(); !now.equal(w.file.lastRead()) && !now.equal(w.told) {
		w.arm()
	}
}

// lookAgain is the look of the poll: a file that was told of and has not been
// read since, for all the time there was, is told of again.
func (w *watch) lookAgain() {
	now := w.file.now()
	if w.waiting.IsZero() && !now.equal(w.file.lastRead()) && (!now.equal(w.told) || time.Since(w.toldAt) >= w.poll) {
		w.arm()
	}
}

// arm starts the timer, or starts it again.
func (w *watch) arm() {
	rest := w.file.debounce()
	now := time.Now()
	if w.waiting.IsZero() {
		w.waiting = now
	}
	w.quiet.Reset(max(0, min(rest, w.waiting.Add(debounceMost*rest).Sub(now))))
}

// follow watches the directories on the way to the file as it leads now. What
// cannot be watched is left to the poll.
func (w *watch) follow() {
	if w.notify == nil {
		return
	}
	want := directories(w.file.Path)
	for range maxLinks {
		have := w.notify.WatchList()
		for _, dir := range have {
			if !slices.Contains(want, dir) {
				_ = w.notify.Remove(dir)
			}
		}
		for _, dir := range want {
			if !slices.Contains(have, dir) {
				_ = w.notify.Add(dir)
			}
		}
		// A link may have been swapped before its directory was watched.
		again := directories(w.file.Path)
		if slices.Equal(again, want) {
			return
		}
		want = again
	}
}

// directories returns every directory that decides which file path names: those
// that hold a symbolic link on the way, and the one that holds the file. When
// something on the way does not exist, that is the directory where it should be.
func directories(path string) []string {
	path, err := filepath.Abs(path)
	if err != nil {
		return nil
	}
	const separator = string(filepath.Separator)
	split := func(p string) []string {
		p = strings.TrimPrefix(p, filepath.VolumeName(p))
		return strings.FieldsFunc(p, func(r rune) bool { return r == filepath.Separator })
	}
	root := filepath.VolumeName(path) + separator
	dir, todo := root, split(path)
	var dirs []string
	for links := 0; len(todo) > 0; {
		next := filepath.Join(dir, todo[0])
		todo = todo[1:]
		info, err := os.Lstat(next)
		isLink := err == nil && info.Mode()&os.ModeSymlink != 0
		if (err != nil || isLink || len(todo) == 0) && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
		if err != nil {
			break
		}
		if !isLink {
			dir = next
			continue
		}
		to, err := os.Readlink(next)
		if links++; err != nil || links > maxLinks {
			break
		}
		if filepath.IsAbs(to) {
			dir = root
		}
		todo = append(split(to), todo...)
	}
	return dirs
}

package tlsconf

import (
	"context"
	"fmt"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// settleDelay is how long after the first sign of a change the files are
	// read: certificate and key are written one after the other.
	settleDelay = 500 * time.Millisecond

	// pollInterval is how often the files are read without a sign. Network
	// file systems give none, and links further up the path may be swapped.
	pollInterval = time.Minute
)

// Watched is something that is made of files, and made again when they change:
// [Files], [ClientFiles] and [TicketKeys].
type Watched interface {
	// reload reads the files again and reports whether that changed anything.
	// With an error all is as it was, but for what the error does not name.
	reload() (changed bool, err error)

	// fileNames are those of the files.
	fileNames() []string
}

// Watch reloads things whenever their files change, until ctx is done. It
// watches their directories rather than the files, since certbot, Kubernetes
// and careful people swap links and rename files into place, and also looks
// once a minute.
//
// onReload is called from this goroutine after a reload that changed a thing,
// with nil or the error of the reload, and when that error appears, changes or
// goes away. It is not called again for a file that stays bad. When directories
// cannot be watched it is told so once, with no thing; the files are then read
// once a minute.
func Watch(ctx context.Context, things []Watched, onReload func(Watched, error)) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		onReload(nil, fmt.Errorf("watch directories, whose files are now read once a minute only: %w", err))
		watch(ctx, things, signs{follow: func() {}}, onReload)
		return
	}
	defer w.Close()
	watch(ctx, things, signs{
		events: w.Events,
		errors: w.Errors,
		follow: func() {
			for dir := range directories(things) {
				// One that is missing now is added when a poll finds it, and
				// the reload says what is missing.
				_ = w.Add(dir)
			}
		},
	}, onReload)
}

// signs is where news of changes comes from.
type signs struct {
	events <-chan fsnotify.Event
	errors <-chan error // events were lost
	follow func()       // watches the directories that the names lead to now
}

func watch(ctx context.Context, things []Watched, s signs, onReload func(Watched, error)) {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	var settled <-chan time.Time // nil while no sign is waiting
	reported := make([]string, len(things))
	for {
		s.follow()
		for i, thing := range things {
			changed, err := thing.reload()
			problem := ""
			if err != nil {
				problem = err.Error()
			}
			if changed || problem != reported[i] {
				onReload(thing, err)
			}
			reported[i] = problem
		}

		for due := false; !due; {
			select {
			case <-ctx.Done():
				return
			case <-poll.C:
				due = true
			case <-settled:
				settled, due = nil, true
			case <-s.events:
				if settled == nil {
					settled = time.After(settleDelay)
				}
			case err := <-s.errors:
				if err != nil && settled == nil {
					settled = time.After(settleDelay)
				}
			}
		}
	}
}

// directories are those of the files, and those that links lead to.
func directories(things []Watched) map[string]bool {
	dirs := make(map[string]bool)
	for _, thing := range things {
		for _, name := range thing.fileNames() {
			dirs[filepath.Dir(name)] = true
			if target, err := filepath.EvalSymlinks(name); err == nil {
				dirs[filepath.Dir(target)] = true
			}
		}
	}
	return dirs
}

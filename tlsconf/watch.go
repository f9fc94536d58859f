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

// Watch reloads the pairs whenever their files change, until ctx is done. It
// watches their directories rather than the files, since certbot, Kubernetes
// and careful people swap links and rename files into place, and also looks
// once a minute.
//
// onReload is called from this goroutine after a reload that replaced a pair,
// with nil or the error of [Files.Reload], and when that error appears, changes
// or goes away. It is not called again for a file that stays bad. An error also
// tells that directories cannot be watched; the files are then read once a
// minute.
func (f *Files) Watch(ctx context.Context, onReload func(error)) {
	w, err := fsnotify.NewWatcher()
	if err != nil {
		onReload(fmt.Errorf("watch certificate files, which are now read once a minute only: %w", err))
		f.watch(ctx, signs{follow: func() {}}, onReload)
		return
	}
	defer w.Close()
	f.watch(ctx, signs{
		events: w.Events,
		errors: w.Errors,
		follow: func() {
			for dir := range f.directories() {
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

func (f *Files) watch(ctx context.Context, s signs, onReload func(error)) {
	poll := time.NewTicker(pollInterval)
	defer poll.Stop()
	var settled <-chan time.Time // nil while no sign is waiting
	var reported string
	for {
		s.follow()
		changed, err := f.reload()
		problem := ""
		if err != nil {
			problem = err.Error()
		}
		if changed || problem != reported {
			onReload(err)
		}
		reported = problem

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
func (f *Files) directories() map[string]bool {
	dirs := make(map[string]bool)
	for _, p := range f.pairs {
		for _, name := range []string{p.Cert, p.Key} {
			dirs[filepath.Dir(name)] = true
			if target, err := filepath.EvalSymlinks(name); err == nil {
				dirs[filepath.Dir(target)] = true
			}
		}
	}
	return dirs
}

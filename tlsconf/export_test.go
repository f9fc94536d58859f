package tlsconf

import (
	"context"
	"time"

	"github.com/fsnotify/fsnotify"
)

// WatchSigns is Watch with signs that a test gives, in virtual time.
func WatchSigns(ctx context.Context, things []Watched, events <-chan fsnotify.Event, onReload func(Watched, error)) {
	watch(ctx, things, signs{events: events, follow: func() {}}, onReload)
}

// Reload is what Watch does with a thing.
func Reload(thing Watched) (changed bool, err error) { return thing.reload() }

// Explain words the error of a file that cannot be read. Tests that run as root
// can read every file.
var Explain = explain

// Bucket returns what takes of a bucket that bounds orders.
func Bucket(burst int, every time.Duration) (take func(now time.Time) bool) {
	return (&bucket{burst: burst, every: every}).take
}

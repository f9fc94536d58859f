package tlsconf

import (
	"context"

	"github.com/fsnotify/fsnotify"
)

// WatchSigns is Watch with signs that a test gives, in virtual time.
func (f *Files) WatchSigns(ctx context.Context, events <-chan fsnotify.Event, onReload func(error)) {
	f.watch(ctx, signs{events: events, follow: func() {}}, onReload)
}

// Explain words the error of a file that cannot be read. Tests that run as root
// can read every file.
var Explain = explain

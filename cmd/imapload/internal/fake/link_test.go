//go:build linux

package fake

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"
)

// TestLineDelaysEachSegmentAlike sends two segments at different moments, and then
// the end.
func TestLineDelaysEachSegmentAlike(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		sender, near := net.Pipe()
		far, receiver := net.Pipe()
		go func() {
			carry(ctx, far, near, 10*time.Millisecond)
			far.Close()
		}()
		begin := time.Now()
		go func() {
			_, _ = io.WriteString(sender, "a")
			<-time.After(3 * time.Millisecond)
			_, _ = io.WriteString(sender, "b")
			sender.Close()
		}()
		for _, want := range []struct {
			text string
			at   time.Duration
		}{{"a", 10 * time.Millisecond}, {"b", 13 * time.Millisecond}} {
			var b [2]byte
			n, err := receiver.Read(b[:])
			if err != nil || string(b[:n]) != want.text || time.Since(begin) != want.at {
				t.Errorf("got %q, %v after %v, want %q after %v", b[:n], err, time.Since(begin), want.text, want.at)
			}
		}
		if _, err := receiver.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want the end", err)
		}
	})
}

// TestLineBreaksWithItsFarEnd lets go of a sender whose receiver is gone.
func TestLineBreaksWithItsFarEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sender, near := net.Pipe()
		far, receiver := net.Pipe()
		receiver.Close()
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			carry(t.Context(), far, near, time.Millisecond)
		}()
		for {
			if _, err := io.WriteString(sender, "a"); err != nil {
				break
			}
		}
		<-ended
	})
}

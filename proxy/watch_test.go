package proxy

import (
	"slices"
	"testing"
)

func TestCommandWatchFindsCommandsAtEveryChunking(t *testing.T) {
	tests := []struct {
		stream string
		want   []string
	}{
		{"a UNAUTHENTICATE\r\n", []string{"UNAUTHENTICATE"}},
		{"a unauthenticate\n", []string{"UNAUTHENTICATE"}},
		{"a UNAUTHENTICATE  \r\n", []string{"UNAUTHENTICATE"}},
		{"a-tag-that-is-much-longer-than-all-that-is-kept-of-a-line UNAUTHENTICATE\r\n", []string{"UNAUTHENTICATE"}},
		{"a NOOP\r\nb UNAUTHENTICATE\r\nc NOOP\r\n", []string{"UNAUTHENTICATE"}},
		{"a APPEND x {20}\r\nb UNAUTHENTICATE\r\n", []string{"UNAUTHENTICATE"}}, // the literal may have been refused
		{"a COMPRESS DEFLATE\r\n", []string{"COMPRESS DEFLATE"}},
		{"a compress deflate\r\nb UNAUTHENTICATE\r\n", []string{"COMPRESS DEFLATE", "UNAUTHENTICATE"}},
		{"a SEARCH TEXT UNAUTHENTICATE\r\n", nil},
		{"UNAUTHENTICATE\r\n", nil},
		{"a UNAUTHENTICATED\r\n", nil},
		{"a XUNAUTHENTICATE\r\n", nil},
		{"a UNAUTHENTICATE", nil},
	}
	for _, tt := range tests {
		for size := 1; size <= len(tt.stream); size++ {
			var (
				w   commandWatch
				got []string
			)
			for chunk := range slices.Chunk([]byte(tt.stream), size) {
				w.advance(chunk, func(c string) { got = append(got, c) })
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%q in chunks of %d: found %q, want %q", tt.stream, size, got, tt.want)
			}
		}
	}
}

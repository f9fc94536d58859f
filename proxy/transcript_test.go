package proxy_test

import (
	"flag"
	"path/filepath"
	"strings"
	"testing"

	"imapgate/proxy/proxytest"
)

var update = flag.Bool("update", false, "rewrite what the proxy says in the transcripts")

// TestTranscripts plays the conversations of testdata. Each file begins with the
// rule it shows.
func TestTranscripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no transcripts: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".txtar")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if *update {
				proxytest.Update(t, file)
				return
			}
			proxytest.Run(t, file)
		})
	}
}

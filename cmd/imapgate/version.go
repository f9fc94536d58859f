package main

import (
	"encoding/json"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
)

// version is set by the linker for releases; otherwise the module's or the
// revision's is used.
var version = ""

// buildInfo is what is known of this binary.
type buildInfo struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Time     string `json:"time,omitempty"`
	Modified bool   `json:"modified,omitempty"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func build() buildInfo {
	b := buildInfo{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = new(debug.BuildInfo)
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	if b.Version == "" || b.Version == "(devel)" {
		b.Version = "devel"
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Revision = s.Value
		case "vcs.time":
			b.Time = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func newVersion() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Long: `Print the version of this binary, the revision that it was built from, and the
Go version that built it. Please add it to bug reports.`,
		Example: `  imapgate version
  imapgate version -o json`,
		Args: arguments(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			b := build()
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), b)
			}
			revision := b.Revision
			if len(revision) > 12 {
				revision = revision[:12]
			}
			if b.Modified {
				revision += " (modified)"
			}
			if revision != "" {
				revision = ", revision " + revision
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "imapgate %s%s, %s %s\n", b.Version, revision, b.Go, b.Platform)
			return err
		},
	}
	outputFlag(cmd, &output)
	return cmd
}

// writeJSON writes a value the way people and jq like it.
func writeJSON(w io.Writer, v any) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(v)
}

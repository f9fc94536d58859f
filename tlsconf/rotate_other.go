//go:build !unix

package tlsconf

import "os"

// likeBefore leaves the new file to whoever made it.
func likeBefore(*os.File, string) error { return nil }

//go:build unix

package tlsconf

import (
	"errors"
	"io/fs"
	"os"
	"syscall"
)

// likeBefore gives a new file the owner and the permissions of the one that it
// replaces, if there is one: root's cron job must not lock the proxy out.
func likeBefore(tmp *os.File, file string) error {
	before, err := os.Stat(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	now, err := tmp.Stat()
	if err != nil {
		return err
	}
	old, okOld := before.Sys().(*syscall.Stat_t)
	own, okOwn := now.Sys().(*syscall.Stat_t)
	if okOld && okOwn && (old.Uid != own.Uid || old.Gid != own.Gid) {
		if err := tmp.Chown(int(old.Uid), int(old.Gid)); err != nil {
			return err
		}
	}
	return tmp.Chmod(before.Mode().Perm() &^ 0o007) // nobody else reads keys, whoever did before
}

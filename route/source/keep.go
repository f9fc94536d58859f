package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"imapgate/route"
)

// keeper is a source that can keep a copy of what was read last.
type keeper interface{ Keep() error }

// Keep makes the sources that can do so keep a copy of the table in force, for a
// start at which they are no good.
func (s *Set) Keep(ctx context.Context) error {
	if err := s.begin(ctx); err != nil { // no load meanwhile: what was read last is in force
		return err
	}
	defer s.end()
	s.mu.Lock()
	sources, good := s.sources, s.last.Err == nil
	s.mu.Unlock()
	if !good {
		return nil
	}
	var errs []error
	for _, src := range sources {
		if k, ok := src.(keeper); ok {
			errs = append(errs, k.Keep())
		}
	}
	return errors.Join(errs...)
}

// Keep copies the file to Copy, if it still is what was read last. A file that has
// changed since is read again soon, and kept then.
func (f *File) Keep() (err error) {
	if f.Copy == "" {
		return nil
	}
	f.mu.Lock()
	read := f.read
	f.mu.Unlock()
	if read.info == nil || !read.equal(signatureOf(os.Stat(f.Path))) {
		return nil
	}
	if have, err := os.Stat(f.Copy); err == nil && have.Size() == read.info.Size() && have.ModTime().Equal(read.info.ModTime()) {
		return nil
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("keep a copy of %s: %w", f.Path, err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(f.Copy), 0o700); err != nil {
		return err
	}
	in, err := os.Open(f.Path)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.CreateTemp(filepath.Dir(f.Copy), ".*.tmp")
	if err != nil {
		return err
	}
	defer func() {
		_ = out.Close()
		_ = os.Remove(out.Name()) // it is gone if all went well
	}()
	if _, err := io.Copy(out, in); err != nil {
		return err
	}
	if !read.equal(signatureOf(os.Stat(f.Path))) {
		return nil
	}
	// The time is what tells next time that nothing has changed.
	if err := errors.Join(out.Sync(), os.Chtimes(out.Name(), read.info.ModTime(), read.info.ModTime())); err != nil {
		return err
	}
	return os.Rename(out.Name(), f.Copy)
}

// readCopy returns the rows of the copy. Watch then finds that the file itself was
// never read.
func (f *File) readCopy(ctx context.Context) (*route.Rows, error) {
	return (&File{Path: f.Copy}).Read(ctx)
}

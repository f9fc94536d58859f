package route

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// fileVersion is the version of the format of the overrides file.
const fileVersion = 1

// overridesFile is where overrides are kept.
type overridesFile struct {
	// mu is held over I/O, by changes of people alone. It is taken before the
	// mu of a State.
	mu    sync.Mutex
	path  string // "": overrides are not kept
	saved uint64 // version of what is in the file
	err   error  // of the last write
}

// contentsOfFile is the JSON form of the overrides file.
type contentsOfFile struct {
	Version   int        `json:"version"`
	Overrides []Override `json:"overrides"`
}

// Persist keeps overrides in a file: it loads the file if it is there, and from
// then on every change is in it before the call that makes it returns. What was
// changed before wins over what the file says. An error names the file, and
// changes nothing.
//
// The file is replaced as a whole, by renaming a complete one that is on disk:
// a process that is killed, or a machine that stops, leaves the old one or the
// new one.
func (s *State) Persist(path string) error {
	s.file.mu.Lock()
	defer s.file.mu.Unlock()
	loaded, err := readOverrides(path)
	if err != nil {
		return fmt.Errorf("load overrides: %w", err)
	}
	removeLeftovers(path)
	s.merge(loaded)
	// Now, and not at the first change, is when somebody sees that it cannot be
	// written.
	data, version := s.encode()
	if err := writeFile(path, data); err != nil {
		return fmt.Errorf("save overrides: %w", err)
	}
	s.file.path, s.file.saved, s.file.err = path, version, nil
	return nil
}

// SaveError returns why the last change could not be saved, nil when the file
// has all changes. The next change tries again.
func (s *State) SaveError() error {
	s.file.mu.Lock()
	defer s.file.mu.Unlock()
	return s.file.err
}

// save returns when the file has version or a later one. Callers that wait for
// one another's writes share the next.
func (s *State) save(version uint64) error {
	s.file.mu.Lock()
	defer s.file.mu.Unlock()
	if s.file.path == "" || s.file.saved >= version {
		return nil
	}
	data, version := s.encode()
	if err := writeFile(s.file.path, data); err != nil {
		s.file.err = fmt.Errorf("in force until the next start, but not saved: %w", err)
		return s.file.err
	}
	s.file.saved, s.file.err = version, nil
	return nil
}

// encode returns the contents of the file, one override to a line, and the
// version that they have at the least.
func (s *State) encode() (data []byte, version uint64) {
	s.mu.Lock()
	version = s.version
	s.mu.Unlock()
	data = fmt.Appendf(nil, "{\"version\": %d, \"overrides\": [", fileVersion)
	for i, o := range s.Overrides() {
		line, err := json.Marshal(o)
		if err != nil {
			panic(err) // strings, and times that stamp has checked
		}
		if i > 0 {
			data = append(data, ',')
		}
		data = append(append(data, '\n'), line...)
	}
	return append(data, "\n]}\n"...), version
}

// merge puts overrides of a file in force, where there is nothing newer.
func (s *State) merge(loaded []Override) {
	now := time.Now()
	have := make(map[[2]string]bool)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.Overrides() {
		have[[2]string{string(o.Kind), o.Name}] = true
	}
	for _, o := range loaded {
		if !o.expired(now) && !have[[2]string{string(o.Kind), o.Name}] {
			_ = s.apply(o) // checked when it was read
		}
	}
}

// readOverrides returns what a file has, nothing when there is no file.
func readOverrides(path string) ([]Override, error) {
	data, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var c contentsOfFile
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%s: something follows the overrides", path)
	}
	if c.Version != fileVersion {
		return nil, fmt.Errorf("%s: version %d is not known", path, c.Version)
	}
	seen := make(map[[2]string]bool)
	for i := range c.Overrides {
		o := &c.Overrides[i]
		if err := o.check(); err != nil {
			return nil, fmt.Errorf("%s: override %d: %w", path, i+1, err)
		}
		id := [2]string{string(o.Kind), o.Name}
		if seen[id] {
			return nil, fmt.Errorf("%s: override %d: %s %s is there twice", path, i+1, o.Kind, quote(o.Name))
		}
		seen[id] = true
	}
	return c.Overrides, nil
}

// leftoverAge is the age of temporary files that nobody can be writing.
const leftoverAge = time.Minute

// temporary is the pattern of names of files that are not complete yet.
func temporary(path string) (dir, pattern string) {
	return filepath.Dir(path), "." + filepath.Base(path) + ".*.tmp"
}

// removeLeftovers removes temporary files of processes that were killed. They
// harm nobody, so that one that cannot be removed is left.
func removeLeftovers(path string) {
	dir, pattern := temporary(path)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	before, after, _ := strings.Cut(pattern, "*")
	for _, e := range entries {
		if !strings.HasPrefix(e.Name(), before) || !strings.HasSuffix(e.Name(), after) {
			continue
		}
		if info, err := e.Info(); err == nil && time.Since(info.ModTime()) > leftoverAge {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
}

// writeFile replaces a file as a whole.
func writeFile(path string, data []byte) (err error) {
	dir, pattern := temporary(path)
	f, err := os.CreateTemp(dir, pattern)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if _, err := f.Write(data); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Rename(f.Name(), path); err != nil {
		return err
	}
	return syncDir(dir)
}

// syncDir makes a rename outlive the machine.
func syncDir(dir string) error {
	d, err := os.Open(dir) //nolint:gosec // the directory of a file that the operator names
	if err != nil {
		return err
	}
	err = d.Sync()
	return errors.Join(err, d.Close())
}

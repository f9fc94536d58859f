package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

// maxIncluded bounds a file that ${file:…} or a password_file reads.
const maxIncluded = 64 << 10

// Sources is where a configuration finds what it refers to.
type Sources struct {
	LookupEnv func(name string) (string, bool) // as os.LookupEnv
	ReadFile  func(name string) ([]byte, error)
}

// System returns the process's environment and file system.
func System() Sources {
	return Sources{LookupEnv: os.LookupEnv, ReadFile: readBounded}
}

// readBounded reads a small file, and refuses a large one.
func readBounded(name string) ([]byte, error) {
	f, err := os.Open(name) //nolint:gosec // the operator's configuration names it
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxIncluded+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxIncluded:
		return nil, fmt.Errorf("%s: more than %d bytes", name, maxIncluded)
	}
	return b, nil
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// expand replaces ${NAME} by the environment variable and ${file:NAME} by what
// the file holds, without the line end at its end; $${ is a literal ${. dir is
// what relative file names begin at.
func (s Sources) expand(text, dir string) (string, error) {
	var b strings.Builder
	for {
		before, rest, found := strings.Cut(text, "${")
		if !found {
			b.WriteString(text)
			return b.String(), nil
		}
		if escaped, ok := strings.CutSuffix(before, "$"); ok {
			b.WriteString(escaped + "${")
			text = rest
			continue
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return "", &expandError{"${ without }", "write $${ for a literal ${"}
		}
		value, err := s.variable(name, dir)
		if err != nil {
			return "", err
		}
		b.WriteString(before + value)
		text = after
	}
}

func (s Sources) variable(name, dir string) (string, error) {
	if file, ok := strings.CutPrefix(name, "file:"); ok {
		if file == "" {
			return "", &expandError{"${file:} names no file", "write ${file:/path/of/the/file}"}
		}
		content, err := s.ReadFile(resolve(dir, file))
		if err != nil {
			return "", fmt.Errorf("${file:…}: %w", err)
		}
		return trimLineEnd(string(content)), nil
	}
	if !envName.MatchString(name) {
		return "", &expandError{fmt.Sprintf("%q is no name of an environment variable", name), "write ${NAME}, ${file:/path} or $${ for a literal ${"}
	}
	value, ok := s.LookupEnv(name)
	if !ok {
		return "", &expandError{fmt.Sprintf("environment variable %s is not set", name), "set it, or write the value here"}
	}
	return value, nil
}

// expandError is a mistake in an expression, with its hint.
type expandError struct{ msg, hint string }

func (e *expandError) Error() string { return e.msg }

// resolve returns a file name of the configuration as seen from the
// configuration's own directory.
func resolve(dir, name string) string {
	if name == "" || filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(dir, name)
}

// trimLineEnd removes one line end, which editors and echo add.
func trimLineEnd(s string) string {
	return strings.TrimSuffix(strings.TrimSuffix(s, "\n"), "\r")
}

// plainCause returns an error without the name of the file, where that has
// just been told.
func plainCause(err error, name string) error {
	var path *fs.PathError
	if errors.As(err, &path) && path.Path == name {
		return path.Err
	}
	return err
}

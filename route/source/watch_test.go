package source_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"imapgate/route"
	"imapgate/route/source"
)

// watchFile loads and watches path with times fit for a test. The poll is put
// out of the way unless the test is about it.
func watchFile(t *testing.T, path string, poll time.Duration) (*route.Table, <-chan source.Result) {
	t.Helper()
	file := source.NewFile(path)
	file.Debounce, file.Poll = 20*time.Millisecond, poll
	table := route.New()
	set := source.NewSet(table)
	if err := set.Load(t.Context(), definition, []source.Source{file}, false); err != nil {
		t.Fatal(err)
	}
	return table, watch(t, set)
}

// await waits until the table places alice on backend, whatever reports come
// before that.
func await(t *testing.T, table *route.Table, results <-chan source.Result, backend string) {
	t.Helper()
	for {
		if p, err := table.Lookup("alice@example.org"); err == nil && p.Backends[0] == backend {
			return
		}
		next(t, results)
	}
}

func awaitError(t *testing.T, results <-chan source.Result, part string) {
	t.Helper()
	for {
		if r := next(t, results); r.Err != nil && strings.Contains(r.Err.Error(), part) {
			return
		}
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

// link makes or swaps a symbolic link as Kubernetes and "ln -sfn" in a careful
// script do.
func link(t *testing.T, to, path string) {
	t.Helper()
	if err := os.Symlink(to, path+".new"); err != nil {
		t.Fatal(err)
	}
	rename(t, path+".new", path)
}

func mkdir(t *testing.T, path string) {
	t.Helper()
	if err := os.MkdirAll(path, 0o700); err != nil {
		t.Fatal(err)
	}
}

const (
	on1  = "alice@example.org mail1\n"
	on10 = "alice@example.org mail10\n"
)

func TestWatchSeesAtomicRename(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.map")
	write(t, path, on1)
	table, results := watchFile(t, path, time.Hour)
	for i := range 3 {
		write(t, path+".tmp", []string{on10, on1}[i%2])
		rename(t, path+".tmp", path)
		await(t, table, results, []string{"mail10", "mail1"}[i%2])
	}
}

func TestWatchSeesWritesInPlace(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.map")
	write(t, path, on1)
	table, results := watchFile(t, path, time.Hour)
	write(t, path, on10)
	await(t, table, results, "mail10")

	// A writer that dies half-way: the table in force stays, until the rest comes.
	write(t, path, on1[:len(on1)-1])
	awaitError(t, results, "the file looks cut")
	await(t, table, results, "mail10")
	write(t, path, on1)
	await(t, table, results, "mail1")
}

func TestWatchSeesRemovalAndReturn(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etc")
	mkdir(t, dir)
	path := filepath.Join(dir, "users.map")
	write(t, path, on1)
	table, results := watchFile(t, path, time.Hour)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	awaitError(t, results, "no such file")
	await(t, table, results, "mail1")
	mkdir(t, dir)
	write(t, path, on10)
	await(t, table, results, "mail10")
}

func TestWatchSeesKubernetesSwapItsDataLink(t *testing.T) {
	dir := t.TempDir()
	generation := func(name, text string) {
		mkdir(t, filepath.Join(dir, name))
		write(t, filepath.Join(dir, name, "users.map"), text)
		link(t, name, filepath.Join(dir, "..data"))
	}
	generation("..2026_01", on1)
	path := filepath.Join(dir, "users.map")
	link(t, filepath.Join("..data", "users.map"), path)
	table, results := watchFile(t, path, time.Hour)
	generation("..2026_02", on10)
	await(t, table, results, "mail10")
	if err := os.RemoveAll(filepath.Join(dir, "..2026_01")); err != nil {
		t.Fatal(err)
	}
	generation("..2026_03", on1)
	await(t, table, results, "mail1")
}

func TestWatchSeesLinkSwapInEveryPlaceOfAPath(t *testing.T) {
	dir := t.TempDir()
	for i, text := range []string{on1, on10} {
		mkdir(t, filepath.Join(dir, fmt.Sprintf("release%d", i), "conf"))
		write(t, filepath.Join(dir, fmt.Sprintf("release%d", i), "conf", fmt.Sprintf("users%d.map", i)), text)
		link(t, fmt.Sprintf("users%d.map", i), filepath.Join(dir, fmt.Sprintf("release%d", i), "conf", "users.map"))
	}
	link(t, "release0", filepath.Join(dir, "current"))
	mkdir(t, filepath.Join(dir, "etc"))
	path := filepath.Join(dir, "etc", "users.map")
	link(t, filepath.Join("..", "current", "conf", "users.map"), path)

	table, results := watchFile(t, path, time.Hour)
	link(t, filepath.Join(dir, "release1"), filepath.Join(dir, "current")) // a directory, now by an absolute link
	await(t, table, results, "mail10")
	write(t, filepath.Join(dir, "release1", "conf", "users1.map"), on1) // what the last link leads to, in place
	await(t, table, results, "mail1")
	write(t, filepath.Join(dir, "release1", "conf", "users2.map"), on10)
	link(t, "users2.map", filepath.Join(dir, "release1", "conf", "users.map")) // a link in the middle
	await(t, table, results, "mail10")
	write(t, filepath.Join(dir, "own.map"), on1)
	link(t, filepath.Join(dir, "own.map"), path) // the first link
	await(t, table, results, "mail1")
}

func TestWatchSeesAChangeBetweenLoadAndWatch(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.map")
	write(t, path, on1)
	file := source.NewFile(path)
	file.Debounce, file.Poll = time.Millisecond, time.Hour
	table := route.New()
	set := source.NewSet(table)
	if err := set.Load(t.Context(), definition, []source.Source{file}, false); err != nil {
		t.Fatal(err)
	}
	write(t, path+".tmp", on10)
	rename(t, path+".tmp", path)
	await(t, table, watch(t, set), "mail10")
}

// A change that was told of, and was not read (a file server that failed just
// then, say), is told of again by the poll: there is no further notification.
func TestPollSeesWhatNotificationsMiss(t *testing.T) {
	path := filepath.Join(t.TempDir(), "users.map")
	write(t, path, on1)
	file := source.NewFile(path)
	file.Debounce, file.Poll = 50*time.Millisecond, 10*time.Millisecond
	reads := &unnoticed{File: file}
	table := route.New()
	set := source.NewSet(table)
	if err := set.Load(t.Context(), definition, []source.Source{reads}, false); err != nil {
		t.Fatal(err)
	}
	results := watch(t, set)
	write(t, path+".tmp", on10)
	rename(t, path+".tmp", path)
	await(t, table, results, "mail10")
}

// unnoticed is a file whose watcher drops the first call of changed.
type unnoticed struct {
	*source.File
	swallowed int
}

func (u *unnoticed) Watch(ctx context.Context, changed func()) error {
	return u.File.Watch(ctx, func() {
		if u.swallowed++; u.swallowed > 1 {
			changed()
		}
	})
}

func TestWatchLeavesUnchangedFileAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "users.map")
	write(t, path, on1)
	_, results := watchFile(t, path, 5*time.Millisecond)
	for i := range 50 { // other files, and looks that find nothing new
		write(t, filepath.Join(dir, fmt.Sprintf("other%d", i)), "x")
	}
	timer := time.NewTimer(300 * time.Millisecond)
	defer timer.Stop()
	select {
	case r := <-results:
		t.Errorf("reloaded: %+v", r)
	case <-timer.C:
	}
}

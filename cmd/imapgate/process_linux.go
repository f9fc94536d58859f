package main

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// descriptors returns how many file descriptors the process may have. The Go runtime
// has raised the soft limit to the hard one.
func descriptors() int {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return 0
	}
	return int(min(l.Cur, 1<<30))
}

// setCoreDumps says whether a crash may write the process's memory to a file, and
// whether a process of the same user may look at it: there can be passwords in it,
// and there are keys. Without, most files of /proc/PID belong to root; the process
// itself still reads its own. A program that it executes starts with the default.
// See prctl(2), PR_SET_DUMPABLE.
func setCoreDumps(allowed bool) error {
	dumpable, size := uintptr(0), uint64(0)
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_CORE, &l); err != nil {
		return fmt.Errorf("core dumps: read RLIMIT_CORE: %w", err)
	}
	if allowed {
		dumpable, size = 1, l.Max
	}
	l.Cur = size
	if err := unix.Setrlimit(unix.RLIMIT_CORE, &l); err != nil {
		return fmt.Errorf("core dumps: set RLIMIT_CORE: %w", err)
	}
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, dumpable, 0, 0, 0); err != nil {
		return fmt.Errorf("core dumps: PR_SET_DUMPABLE: %w", err)
	}
	return nil
}

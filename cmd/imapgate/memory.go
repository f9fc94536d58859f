package main

import (
	"io/fs"
	"math"
	"path"
	"runtime/debug"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

// memoryLimit is what the garbage collector keeps the process below, and who says so.
type memoryLimit struct {
	bytes int64 // 0: none
	from  string
}

// memoryShare is how much of a cgroup's memory is for the Go runtime. The rest is
// for what it does not count: sockets, page tables, the binary itself.
const memoryShare = 0.9

// limitMemory has the garbage collector work harder before a container's memory runs
// out, which would end every session. What the operator says with GOMEMLIMIT counts,
// else the control group's limit.
func limitMemory(root fs.FS, env func(string) string) memoryLimit {
	if env("GOMEMLIMIT") != "" {
		l := memoryLimit{debug.SetMemoryLimit(-1), "GOMEMLIMIT"}
		if l.bytes == math.MaxInt64 {
			l.bytes = 0
		}
		return l
	}
	limit, ok := cgroupMemory(root)
	if !ok {
		return memoryLimit{from: "none"}
	}
	l := memoryLimit{int64(float64(limit) * memoryShare), "cgroup"}
	debug.SetMemoryLimit(l.bytes)
	return l
}

// cgroupMemory returns the memory that the process's control group and those around
// it allow, of version 2 or 1. See cgroups(7).
func cgroupMemory(root fs.FS) (int64, bool) {
	own, err := fs.ReadFile(root, "proc/self/cgroup")
	if err != nil {
		return 0, false
	}
	least := int64(math.MaxInt64)
	for line := range strings.Lines(string(own)) {
		// hierarchy:controllers:path; version 2 has no controllers
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		mount, file := "sys/fs/cgroup", "memory.max"
		if parts[1] != "" {
			if parts[1] != "memory" {
				continue
			}
			mount, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		}
		// In a container the path may be that of the host: what cannot be found on
		// the way up to the mount is left out.
		for dir := path.Clean("/" + parts[2]); ; dir = path.Dir(dir) {
			if text, err := fs.ReadFile(root, path.Join(mount, dir, file)); err == nil {
				if n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64); err == nil && n > 0 { // else "max"
					least = min(least, n)
				}
			}
			if dir == "/" {
				break
			}
		}
	}
	// Version 1 says "none" with the largest number of whole pages.
	return least, least < math.MaxInt64-1<<20
}

// allowCoreDumps puts debug.core_dumps in force.
func (a *app) allowCoreDumps(allowed bool) {
	if err := setCoreDumps(allowed); err != nil {
		a.log.Warn("core dumps", zap.Bool("allowed", allowed), zap.Error(err))
	}
}

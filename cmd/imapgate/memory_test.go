package main

import (
	"math"
	"runtime/debug"
	"runtime/metrics"
	"testing"
	"testing/fstest"

	"imapgate/proxy"
)

func TestMemoryOfAControlGroup(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		want  int64 // 0: none
	}{
		"no control groups": {nil, 0},
		"version 2": {map[string]string{
			"proc/self/cgroup": "0::/system.slice/imapgate.service\n",
			"sys/fs/cgroup/system.slice/imapgate.service/memory.max": "536870912\n",
		}, 512 << 20},
		"version 2, of a slice around it": {map[string]string{
			"proc/self/cgroup": "0::/mail.slice/imapgate.service\n",
			"sys/fs/cgroup/mail.slice/imapgate.service/memory.max": "max\n",
			"sys/fs/cgroup/mail.slice/memory.max":                  "1073741824\n",
		}, 1 << 30},
		"version 2, in a container": {map[string]string{
			"proc/self/cgroup":         "0::/\n",
			"sys/fs/cgroup/memory.max": "268435456\n",
		}, 256 << 20},
		"version 2, without a limit": {map[string]string{
			"proc/self/cgroup":         "0::/a\n",
			"sys/fs/cgroup/memory.max": "max\n",
		}, 0},
		"version 1, with a path of the host": {map[string]string{
			"proc/self/cgroup":                           "5:cpu,cpuacct:/x\n4:memory:/docker/abc\n0::/docker/abc\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "134217728\n",
		}, 128 << 20},
		"version 1, without a limit": {map[string]string{
			"proc/self/cgroup":                           "4:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 0},
		"garbage": {map[string]string{
			"proc/self/cgroup":         "what\n0::/../../etc\n",
			"sys/fs/cgroup/memory.max": "-5\n",
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			root := make(fstest.MapFS)
			for path, text := range tc.files {
				root[path] = &fstest.MapFile{Data: []byte(text)}
			}
			got, ok := cgroupMemory(root)
			if !ok {
				got = 0
			}
			if got != tc.want {
				t.Errorf("%d, want %d", got, tc.want)
			}
		})
	}
}

func TestMemoryLimitOfTheOperatorCounts(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	root := fstest.MapFS{
		"proc/self/cgroup":         &fstest.MapFile{Data: []byte("0::/\n")},
		"sys/fs/cgroup/memory.max": &fstest.MapFile{Data: []byte("107374182400\n")},
	}
	debug.SetMemoryLimit(50 << 30)
	if l := limitMemory(root, func(string) string { return "50GiB" }); l != (memoryLimit{50 << 30, "GOMEMLIMIT"}) {
		t.Errorf("with GOMEMLIMIT: %+v", l)
	}
	if l := limitMemory(root, func(string) string { return "" }); l != (memoryLimit{90 << 30, "cgroup"}) || debug.SetMemoryLimit(-1) != 90<<30 {
		t.Errorf("without: %+v", l)
	}
	debug.SetMemoryLimit(math.MaxInt64)
	if l := limitMemory(root, func(string) string { return "off" }); l != (memoryLimit{0, "GOMEMLIMIT"}) {
		t.Errorf("with GOMEMLIMIT=off: %+v", l)
	}
}

func TestStrainOfMemoryIsWhatLives(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	t.Cleanup(func() { debug.SetMemoryLimit(before) })
	debug.SetMemoryLimit(math.MaxInt64)
	s := new(strain)
	if lacks := s.look(); len(lacks) != 0 {
		t.Errorf("without a limit it lacks %v", lacks)
	}
	debug.SetMemoryLimit(1 << 20)
	if lacks := s.look(); len(lacks) != 1 || lacks[0] != proxy.LackMemory {
		t.Errorf("with less than it has it lacks %v", lacks)
	}
	debug.SetMemoryLimit(1 << 40)
	if lacks := s.look(); len(lacks) != 0 {
		t.Errorf("with plenty it lacks %v", lacks)
	}
	// Garbage up to the limit is no lack.
	of := map[string]float64{metricTotal: 1000, metricObjects: 900, metricLive: 300, metricReleased: 20, metricFree: 10, metricUnused: 10}
	if got := inUse(of); got != 360 {
		t.Errorf("in use are %v", got)
	}
}

func TestStrainOfTheProcessorIsLongWaits(t *testing.T) {
	s := new(strain)
	h := &metrics.Float64Histogram{Buckets: []float64{math.Inf(-1), 0.001, 0.05, 0.2, math.Inf(1)}, Counts: []uint64{1000, 0, 0, 0}}
	for i, tc := range []struct {
		add  [4]uint64
		want float64
	}{
		{[4]uint64{1000, 0, 0, 0}, 0},
		{[4]uint64{91, 0, 9, 0}, 0},
		{[4]uint64{90, 0, 0, 10}, 0.2},
		{[4]uint64{0, 50, 45, 5}, 0.05},
		{[4]uint64{0, 0, 0, 0}, 0},
	} {
		for b, n := range tc.add {
			h.Counts[b] += n
		}
		if got := s.tenth(h); got != tc.want {
			t.Errorf("look %d: %v, want %v", i, got, tc.want)
		}
	}
}

//go:build linux

// Package procfs reads from /proc what process trees use of CPU and memory, and
// what the whole machine does.
package procfs

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
)

// ticksPerSecond is USER_HZ, the same on every Linux port of Go.
const ticksPerSecond = 100

// Memory is what process trees occupy, in bytes.
type Memory struct {
	PSS int64 // resident, shared pages divided among those who share them
	RSS int64 // resident
}

// Machine is what all CPUs have done since the start, in seconds.
type Machine struct {
	Busy  float64
	Steal float64 // taken by other virtual machines
	Total float64
}

// CPU returns the seconds that the trees under the roots have used, those of
// children that have ended included.
func CPU(roots []int) float64 {
	var ticks float64
	for _, pid := range tree(roots) {
		fields := stat(pid)
		if len(fields) < 15 {
			continue // it has ended meanwhile
		}
		for _, s := range fields[11:15] { // utime, stime, cutime, cstime
			n, _ := strconv.ParseFloat(s, 64)
			ticks += n
		}
	}
	return ticks / ticksPerSecond
}

// ReadMemory returns the memory of the trees under the roots.
func ReadMemory(roots []int) Memory {
	var m Memory
	for _, pid := range tree(roots) {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
		if err != nil {
			continue // it has ended meanwhile
		}
		for scan := bufio.NewScanner(bytes.NewReader(text)); scan.Scan(); {
			words := strings.Fields(scan.Text())
			if len(words) < 2 {
				continue
			}
			kib, _ := strconv.ParseInt(words[1], 10, 64)
			switch words[0] {
			case "Pss:":
				m.PSS += kib << 10
			case "Rss:":
				m.RSS += kib << 10
			}
		}
	}
	return m
}

// ReadMachine returns the counters of the machine.
func ReadMachine() Machine {
	text, _ := os.ReadFile("/proc/stat")
	line, _, _ := strings.Cut(string(text), "\n")
	var m Machine
	for i, s := range strings.Fields(line) {
		if i == 0 || i > 8 { // the label; guests, which are counted as users too
			continue
		}
		n, _ := strconv.ParseFloat(s, 64)
		n /= ticksPerSecond
		m.Total += n
		switch i {
		case 4, 5: // idle, waiting for a disk
		case 8:
			m.Steal = n
		default:
			m.Busy += n
		}
	}
	return m
}

// tree returns the roots and all their descendants that exist.
func tree(roots []int) []int {
	if len(roots) == 0 {
		return nil
	}
	children := make(map[int][]int)
	entries, _ := os.ReadDir("/proc")
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if fields := stat(pid); len(fields) > 1 {
			parent, _ := strconv.Atoi(fields[1])
			children[parent] = append(children[parent], pid)
		}
	}
	var all []int
	seen := make(map[int]bool)
	for queue := append([]int(nil), roots...); len(queue) > 0; queue = queue[1:] {
		if pid := queue[0]; !seen[pid] {
			seen[pid] = true
			all = append(all, pid)
			queue = append(queue, children[pid]...)
		}
	}
	return all
}

// stat returns the fields of /proc/PID/stat from the third (state) on; the second
// may hold spaces.
func stat(pid int) []string {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil
	}
	return strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
}

//go:build linux

package load

import (
	"time"

	"golang.org/x/sys/unix"

	"imapgate/cmd/imapload/internal/procfs"
)

// meter measures a stretch of time: how long it is, and whose CPU time it takes.
type meter struct {
	load    *Load
	began   time.Time
	target  float64
	backend float64
	self    float64
	machine procfs.Machine
}

func (l *Load) startMeter() *meter {
	return &meter{
		load: l, target: procfs.CPU(l.TargetPIDs), backend: procfs.CPU(l.BackendPIDs),
		self: ownCPU(), machine: procfs.ReadMachine(), began: time.Now(),
	}
}

// stop adds the shares of a CPU that each has used, and returns the seconds that
// have passed and those that the target has used.
func (m *meter) stop(r *Result) (wall, cpu float64) {
	wall = time.Since(m.began).Seconds()
	cpu = procfs.CPU(m.load.TargetPIDs) - m.target
	backend := procfs.CPU(m.load.BackendPIDs) - m.backend
	self := ownCPU() - m.self
	machine := procfs.ReadMachine()
	r.Figures["wall_s"] = wall
	r.Figures["target_use"] = cpu / wall
	r.Figures["backend_use"] = backend / wall
	r.Figures["load_use"] = self / wall
	r.Figures["other_use"] = max(0, (machine.Busy-m.machine.Busy-cpu-backend-self)/wall)
	r.Figures["steal_use"] = (machine.Steal - m.machine.Steal) / wall
	return wall, cpu
}

// ownCPU returns the seconds of CPU time of this process.
func ownCPU() float64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

//go:build unix

package bench

import (
	"runtime"
	"syscall"
	"time"
)

// resources returns the usage of this process as the system counts it.
func resources() usage {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		return usage{}
	}
	unit := float64(1 << 10) // of Maxrss, in bytes
	if runtime.GOOS == "darwin" || runtime.GOOS == "ios" {
		unit = 1
	}
	cpu := time.Duration(r.Utime.Nano() + r.Stime.Nano())
	return usage{CPU: cpu.Seconds(), Peak: float64(r.Maxrss) * unit / (1 << 20)}
}

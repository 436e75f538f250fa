package bench

import (
	"os"
	"runtime"
	"strconv"
	"strings"

	"github.com/postrider/postrider/internal/config"
)

// Machine describes the machine and the program of the figures.
type Machine struct {
	CPU     string `json:"cpu"`
	Cores   int    `json:"cores"`
	OS      string `json:"os"`
	Go      string `json:"go"`
	Version string `json:"version"`
	Signing string `json:"signing"`
	Store   string `json:"store"`
}

func thisMachine(signing, store string) Machine {
	system := runtime.GOOS + "/" + runtime.GOARCH
	if release, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		system += " " + strings.TrimSpace(string(release))
	}
	cpu := "unknown"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		cpu = field(string(text), "model name")
	}
	return Machine{
		CPU: cpu, Cores: runtime.NumCPU(), OS: system, Go: runtime.Version(), Version: config.BuildVersion(),
		Signing: signing, Store: store,
	}
}

// field returns the first value of a name in "name: value" lines, or "unknown".
func field(text, name string) string {
	for line := range strings.Lines(text) {
		if key, value, found := strings.Cut(line, ":"); found && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown"
}

// usage is what a process has used since its start.
type usage struct {
	CPU  float64 `json:"cpu"`  // seconds, user and system
	Peak float64 `json:"peak"` // MiB of memory, at most
}

func ownUsage() usage {
	u := resources()
	// On Linux, resources includes the memory of the process that started this one; this file does not.
	if status, err := os.ReadFile("/proc/self/status"); err == nil {
		kib, _, _ := strings.Cut(field(string(status), "VmHWM"), " ")
		if n, err := strconv.ParseFloat(kib, 64); err == nil {
			u.Peak = n / 1024
		}
	}
	return u
}

package app

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// hideMemory keeps private keys and tokens out of core dumps, and keeps other processes of the same user from reading them
// in memory.
func hideMemory() error {
	if err := unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0); err != nil {
		return fmt.Errorf("make the process not dumpable: %w", err)
	}
	return nil
}

// room returns how many bytes a process without privileges may still write to the file system of a folder, and whether that
// is known.
func room(dir string) (bytes uint64, known bool) {
	var fs unix.Statfs_t
	if unix.Statfs(dir, &fs) != nil {
		return 0, false
	}
	return fs.Bavail * uint64(fs.Bsize), true // no block has a negative size
}

// descriptors returns how many files and connections the process may have open, 0 if that is not known.
func descriptors() uint64 {
	var limit unix.Rlimit
	if unix.Getrlimit(unix.RLIMIT_NOFILE, &limit) != nil {
		return 0
	}
	return limit.Cur
}

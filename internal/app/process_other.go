//go:build !linux

package app

// hideMemory does nothing: only Linux supports it.
func hideMemory() error { return nil }

// room returns false: how much room a file system has left is not known.
func room(string) (bytes uint64, known bool) { return 0, false }

// descriptors returns 0: how many files and connections the process may have open is not known.
func descriptors() uint64 { return 0 }

//go:build race

package simulation

// Few and small, since the race detector makes SQLite many times slower.
const (
	defaultSeeds = 4
	defaultHosts = 40
	replays      = 1
)

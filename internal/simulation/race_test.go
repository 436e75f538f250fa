//go:build race

package simulation

// Few and small, since the race detector makes SQLite many times slower.
const (
	defaultSeeds = 1
	defaultHosts = 20
	replays      = 1
)

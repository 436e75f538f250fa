//go:build race

package simulation

// defaultSeeds is small, since the race detector makes SQLite many times slower.
const defaultSeeds = 8

//go:build race

package simulation

// Few, since the race detector makes SQLite many times slower.
const defaultSeeds = 2

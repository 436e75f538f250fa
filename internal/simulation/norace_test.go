//go:build !race

package simulation

const (
	defaultSeeds = 200
	defaultHosts = 300
	replays      = 3
)

//go:build !race

package simulation

const (
	defaultSeeds = 200
	defaultHosts = 300
)

// Package rediskeys is the one place where names of Redis keys are made.
//
// Every key is PREFIX:{pN}:REST: the hash tag {pN} keeps all keys of one partition in one slot of a cluster, so that a
// script may touch them together. Hosts, activities, signing keys and idempotency keys are spread over the partitions
// by a stable hash of their names; so the number of partitions can't be changed once there is data.
package rediskeys

import (
	"strconv"

	"github.com/cespare/xxhash/v2"
)

// Scheme makes the keys of one fleet. It is safe for concurrent use.
type Scheme struct {
	Prefix     string // without a brace
	Partitions int    // at least 1
}

// PartitionOf returns the partition of a name, from 0.
func (s Scheme) PartitionOf(name string) int {
	if s.Partitions <= 1 {
		return 0
	}
	return int(xxhash.Sum64String(name) % uint64(s.Partitions)) //nolint:gosec // both are small and not negative
}

// Partition makes the keys of partition n.
func (s Scheme) Partition(n int) Partition {
	return Partition{N: n, base: s.Prefix + ":{p" + strconv.Itoa(n) + "}:"}
}

// Channel is where nodes tell each other that a lane became due. It is one for the whole fleet.
func (s Scheme) Channel() string { return s.Prefix + ":wake" }

// Events is where nodes tell each other what happened, while somebody watches.
func (s Scheme) Events() string { return s.Prefix + ":events" }

// Pattern matches, as SCAN does, the keys of a kind that there is one of for each name, in all partitions.
func (s Scheme) Pattern(kind string) string { return s.Prefix + ":{p*}:" + kind + ":*" }

// Partition makes the keys of one partition.
type Partition struct {
	N    int
	base string
}

// Key is the key of a thing that a partition has one of.
func (p Partition) Key(kind string) string { return p.base + kind }

// Of is the key of a thing that there is one of for each name.
func (p Partition) Of(kind, name string) string { return p.base + kind + ":" + name }

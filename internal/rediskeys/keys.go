// Package rediskeys makes the names of all Redis keys.
//
// Every key is PREFIX:{pN}:KIND or PREFIX:{pN}:KIND:NAME: the hash tag {pN} keeps all keys of one partition in one slot of a
// cluster, so that a script may touch them together. Hosts, activities, signing keys and idempotency keys are spread over
// the partitions by a stable hash of their names; so the number of partitions can't be changed once there is data.
package rediskeys

import (
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
)

// Kind is a kind of key: what its name has after the partition.
type Kind string

// Types has all kinds, with the answer of Redis's TYPE for their keys. docs/redis.md says what they hold.
var Types = map[Kind]string{}

// Each partition has at most one key of these kinds.
var (
	Meta    = kind("meta", "hash") // in partition 0 only
	Stats   = kind("stats", "hash")
	Nothing = kind("nothing", "none")
	Token   = kind("token", "string")
	Excess  = kind("excess", "zset")
	Covers  = kind("covers", "hash")
	Review  = kind("review", "string")

	Pending    = kind("pending", "zset")
	Expires    = kind("expires", "zset")
	Done       = kind("done", "zset")
	Staged     = kind("staged", "zset")
	Bodies     = kind("bodies", "hash")
	Tombstones = kind("tombstones", "hash")
	Tombs      = kind("tombs", "list")
	Outdated   = kind("outdated", "zset")
	Every      = kind("every", "stream")
	Older      = kind("older", "zset")

	Feed    = kind("feed", "stream")
	Ended   = kind("ended", "zset")
	Readers = kind("readers", "hash")

	Due0       = kind("due0", "zset")
	Due1       = kind("due1", "zset")
	Due2       = kind("due2", "zset")
	Due3       = kind("due3", "zset")
	Due4       = kind("due4", "zset")
	Due5       = kind("due5", "zset")
	Later      = kind("later", "zset")
	LaterPages = kind("laterpages", "hash")

	Dead    = kind("dead", "zset")
	Letters = kind("letters", "hash")
	Filed   = kind("filed", "zset")

	Keys     = kind("keys", "hash")
	KeyIDs   = kind("keyids", "zset")
	Retiring = kind("retiring", "zset")
	Signing  = kind("signing", "hash")
	Parked   = kind("parked", "zset")
)

// Only scripts use these kinds.
var _ = [...]Kind{
	kind("offered", "zset"), kind("hosts", "zset"), kind("hostpages", "hash"),
	kind("ordered", "hash"), kind("bodyinfo", "hash"),
}

// Of these kinds there is one key for each host, activity (by its ID), idempotency key (by its hash) or minute.
var (
	Lease    = kind("lease", "string")
	Lane     = kind("h", "hash")
	Chains   = kind("c", "hash")
	Waiting  = kind("w", "zset")
	Backlog0 = kind("q0", "list")
	Backlog1 = kind("q1", "list")
	Backlog2 = kind("q2", "list")

	Activity   = kind("a", "hash")
	Recipients = kind("r", "list")
	Staging    = kind("s", "hash")

	Claim = kind("claim", "hash")
	Trial = kind("trial", "string") // by a name that nobody has used

	Minute = kind("minute", "hash") // by when it began

	// Of these there is one for each mark, or for some marks of URIs.
	URIs   = kind("u", "list")
	Marked = kind("m", "list")
	Stream = kind("x", "stream")
)

func kind(k Kind, typ string) Kind {
	Types[k] = typ
	return k
}

// TypeOf returns the answer that TYPE should give for a key.
func TypeOf(key string) string {
	_, name, _ := strings.Cut(key, "}:")
	name, _, _ = strings.Cut(name, ":")
	return Types[Kind(name)]
}

// Scheme makes the keys of one fleet. It is safe for concurrent use.
type Scheme struct {
	Prefix     string // without a brace
	Partitions int    // at least 1
	Joint      bool   // whether one Redis has all partitions, so that a script may touch keys of several
}

// PartitionOf returns the partition of a name, from 0.
func (s Scheme) PartitionOf(name string) int {
	if s.Partitions <= 1 {
		return 0
	}
	return int(xxhash.Sum64String(name) % uint64(s.Partitions))
}

// Partition makes the keys of partition n.
func (s Scheme) Partition(n int) Partition {
	return Partition{N: n, base: s.Prefix + ":{p" + strconv.Itoa(n) + "}:"}
}

// Channel returns the channel on which nodes speak to all others.
func (s Scheme) Channel() string { return s.Prefix + ":wake" }

// Wakes returns the channel on which the nodes that serve a partition are woken when a lane in it becomes due.
func (s Scheme) Wakes(partition int) string { return s.Channel() + ":" + strconv.Itoa(partition) }

// WakesOf returns the partition whose wakes a channel carries, if it carries any.
func (s Scheme) WakesOf(channel string) (partition int, ok bool) {
	text, ok := strings.CutPrefix(channel, s.Channel()+":")
	n, err := strconv.Atoi(text)
	return n, ok && err == nil && n >= 0 && n < s.Partitions
}

// Events returns the channel on which nodes publish events, while there are subscribers.
func (s Scheme) Events() string { return s.Prefix + ":events" }

// Pattern returns the SCAN pattern for the keys of a kind with one key for each name, in all partitions.
func (s Scheme) Pattern(k Kind) string { return s.Prefix + ":{p*}:" + string(k) + ":*" }

// Partition makes the keys of one partition.
type Partition struct {
	N    int
	base string
}

// Key returns the key of a kind with one key for each partition.
func (p Partition) Key(k Kind) string { return p.base + string(k) }

// Of returns the key of a kind with one key for each name.
func (p Partition) Of(k Kind, name string) string { return p.base + string(k) + ":" + name }

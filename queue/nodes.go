package queue

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"time"
)

// NodeInfo is what a node says of itself (Fleet.Join).
type NodeInfo struct {
	Version     string // of the program: printable ASCII, at most MaxVersion characters; a store may drop the rest
	StartedAt   time.Time
	InFlight    int // attempts
	Concurrency int // how many attempts may be in flight; 0 if the node does not deliver
}

// MaxVersion is the most characters of a version.
const MaxVersion = 64

// Node is a node of the fleet.
type Node struct {
	Name string // no other node has it; at most MaxNodeName characters of those in a host name, and underscores
	Self bool   // it is the node that was asked

	NodeInfo
	Delivers bool // it looks for work (Lanes.Due)
	// HasRoom says that it looks for more work and takes what it finds. It does not for as long as slow hosts hold all its
	// slots, or its name servers are away.
	HasRoom    bool
	Partitions int       // of the store that it serves: it looks for work there first
	HeardAt    time.Time // when it was heard last, by the clock of the node that was asked; of that one, now
}

// FleetStatus is the nodes that are there.
type FleetStatus struct {
	Nodes      []Node
	Partitions int // that the store has
}

// MaxNodeName is the most characters in the name of a node: any name of a machine fits, and the suffix.
const MaxNodeName = 64 + len("-3f9a2c")

// NewNodeName returns a name for a node: that of the machine and, because several nodes may be on one machine, a random
// suffix.
func NewNodeName() string {
	host, err := os.Hostname()
	if err != nil {
		host = ""
	}
	return nodeName(host)
}

func nodeName(host string) string {
	suffix := fmt.Sprintf("-%06x", rand.N(1<<24))
	host = strings.Map(func(r rune) rune {
		if inNodeName(r) {
			return r
		}
		return -1
	}, host)
	if host == "" {
		host = "node"
	}
	return host[:min(len(host), MaxNodeName-len(suffix))] + suffix
}

// ValidNodeName reports whether a node may have a name.
func ValidNodeName(name string) bool {
	return name != "" && len(name) <= MaxNodeName && strings.IndexFunc(name, func(r rune) bool { return !inNodeName(r) }) < 0
}

func inNodeName(r rune) bool {
	return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' || '0' <= r && r <= '9' || r == '-' || r == '.' || r == '_'
}

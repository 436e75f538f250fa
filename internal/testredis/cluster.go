package testredis

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

const (
	slots   = 16384
	busPort = 10_000 // how far above its port a cluster's node talks to the others
)

// Cluster is a cluster of masters.
type Cluster struct{ Nodes []*Server }

// StartCluster starts a cluster of so many masters.
func StartCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{}
	for i := range n {
		s := Start(t, "--cluster-enabled", "yes", "--cluster-node-timeout", "2000")
		s.Must("CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(slots*i/n), fmt.Sprint(slots*(i+1)/n-1))
		c.Nodes = append(c.Nodes, s)
	}
	host, port, err := net.SplitHostPort(c.Nodes[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range c.Nodes {
		s.Must("CLUSTER", "SET-CONFIG-EPOCH", fmt.Sprint(i+1))
		if i > 0 {
			s.Must("CLUSTER", "MEET", host, port)
		}
	}
	for _, s := range c.Nodes {
		s.await(fmt.Sprintf("cluster_known_nodes:%d\r", n), s.clusterInfo)
		s.await("cluster_state:ok", s.clusterInfo)
	}
	return c
}

func (s *Server) clusterInfo() (string, error) { return s.Command("CLUSTER", "INFO") }

// URL is the cluster's address as a setting has it.
func (c *Cluster) URL() string {
	addrs := make([]string, len(c.Nodes))
	for i, s := range c.Nodes {
		addrs[i] = s.Addr
	}
	return "redis+cluster://" + strings.Join(addrs, ",")
}

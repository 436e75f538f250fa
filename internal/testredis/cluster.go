package testredis

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"testing"
)

const (
	slots   = 16384
	busPort = 10_000 // the distance of a node's cluster bus port from its port
)

// Cluster is a cluster of masters, each of which may have a replica.
type Cluster struct {
	Nodes    []*Server // the masters at first
	Replicas []*Server // of the masters, in the same order; may be empty
}

// StartCluster starts a cluster of n masters.
func StartCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{}
	for i := range n {
		s := startMember(t)
		s.Must("CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(slots*i/n), fmt.Sprint(slots*(i+1)/n-1))
		c.Nodes = append(c.Nodes, s)
	}
	c.meet(c.Nodes)
	return c
}

// StartReplicatedCluster starts a cluster of n masters with a replica each, which takes over when its master has not
// answered for a second. All its servers get these settings.
func StartReplicatedCluster(t testing.TB, n int, args ...string) *Cluster {
	t.Helper()
	c := &Cluster{}
	for i := range n {
		s := startMember(t, args...)
		s.Must("CLUSTER", "ADDSLOTSRANGE", fmt.Sprint(slots*i/n), fmt.Sprint(slots*(i+1)/n-1))
		c.Nodes = append(c.Nodes, s)
		c.Replicas = append(c.Replicas, startMember(t, args...))
	}
	c.meet(append(c.Nodes[:n:n], c.Replicas...))
	for i, s := range c.Replicas {
		s.Must("CLUSTER", "REPLICATE", c.Nodes[i].Must("CLUSTER", "MYID"))
	}
	for _, s := range c.Replicas {
		s.await("master_link_status:up", func() (string, error) { return s.Command("INFO", "replication") })
	}
	return c
}

func startMember(t testing.TB, args ...string) *Server {
	t.Helper()
	return Start(t, append([]string{
		"--cluster-enabled", "yes", "--cluster-node-timeout", "1000", "--cluster-replica-validity-factor", "0",
		"--repl-diskless-sync-delay", "0",
	}, args...)...)
}

// meet makes one cluster of servers.
func (c *Cluster) meet(servers []*Server) {
	t := c.Nodes[0].t
	t.Helper()
	host, port, err := net.SplitHostPort(servers[0].Addr)
	if err != nil {
		t.Fatal(err)
	}
	for i, s := range servers {
		s.Must("CLUSTER", "SET-CONFIG-EPOCH", fmt.Sprint(i+1))
		if i > 0 {
			s.Must("CLUSTER", "MEET", host, port)
		}
	}
	for _, s := range servers {
		s.await(fmt.Sprintf("cluster_known_nodes:%d\r", len(servers)), s.clusterInfo)
		s.await("cluster_state:ok", s.clusterInfo)
	}
}

func (s *Server) clusterInfo() (string, error) { return s.Command("CLUSTER", "INFO") }

// URL returns the cluster's address in the form of the store setting.
func (c *Cluster) URL() string {
	addrs := make([]string, len(c.Nodes))
	for i, s := range c.Nodes {
		addrs[i] = s.Addr
	}
	return "redis+cluster://" + strings.Join(addrs, ",")
}

// Failover kills a master once its replica has all its data, and waits until the replica has taken over.
func (c *Cluster) Failover(i int) {
	c.Nodes[i].t.Helper()
	c.Nodes[i].CaughtUp(c.Replicas[i])
	c.Nodes[i].Kill()
	c.AwaitFailover(i)
}

// AwaitFailover waits until a master's replica has taken over and the cluster is whole again.
func (c *Cluster) AwaitFailover(i int) {
	s := c.Replicas[i]
	s.t.Helper()
	s.await("role:master", func() (string, error) { return s.Command("INFO", "replication") })
	s.await("cluster_state:ok", s.clusterInfo)
}

// Slot returns the slot of a key.
func (c *Cluster) Slot(key string) int {
	c.Nodes[0].t.Helper()
	slot, err := strconv.Atoi(c.Nodes[0].Must("CLUSTER", "KEYSLOT", key))
	if err != nil {
		c.Nodes[0].t.Fatal(err)
	}
	return slot
}

// Home returns which of the masters had a slot when the cluster started.
func (c *Cluster) Home(slot int) int {
	at := 0
	for slots*(at+1)/len(c.Nodes) <= slot {
		at++
	}
	return at
}

// Migrate moves a slot from one master to another, as resharding does, some keys at a time. It calls halfway each time
// before it moves some.
func (c *Cluster) Migrate(slot int, from, to *Server, halfway func()) {
	from.t.Helper()
	number := strconv.Itoa(slot)
	source := from.Must("CLUSTER", "MYID")
	target := to.Must("CLUSTER", "MYID")
	host, port, err := net.SplitHostPort(to.Addr)
	if err != nil {
		from.t.Fatal(err)
	}
	to.Must("CLUSTER", "SETSLOT", number, "IMPORTING", source)
	from.Must("CLUSTER", "SETSLOT", number, "MIGRATING", target)
	for {
		halfway()
		keys := from.Must("CLUSTER", "GETKEYSINSLOT", number, "50")
		if keys == "" {
			break
		}
		args := []string{"MIGRATE", host, port, "", "0", "5000", "KEYS"}
		from.Must(append(args, strings.Split(keys, "\n")...)...)
	}
	for _, s := range append([]*Server{to, from}, c.Nodes...) {
		s.Must("CLUSTER", "SETSLOT", number, "NODE", target)
	}
}

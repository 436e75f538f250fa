package testredis

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Sentinel is a master and its replica, watched by a sentinel.
type Sentinel struct {
	Master, Replica, Watcher *Server
}

// masterName is the name of the master at the sentinel.
const masterName = "postrider"

// StartSentinel starts a master, its replica, and a sentinel that makes the replica the master when the master has not
// answered for a second.
func StartSentinel(t testing.TB) *Sentinel {
	t.Helper()
	return startSentinel(t, "")
}

// StartGuardedSentinel is StartSentinel with a sentinel that requires a password, which is also that of its user
// "watcher"; the master and its replica require none.
func StartGuardedSentinel(t testing.TB, password string) *Sentinel {
	t.Helper()
	return startSentinel(t, password, "requirepass "+password, "user watcher on >"+password+" allchannels +@all")
}

// startSentinel starts all three, with more lines of the sentinel's settings.
func startSentinel(t testing.TB, password string, more ...string) *Sentinel {
	t.Helper()
	c := &Sentinel{Master: Start(t)}
	host, port, err := net.SplitHostPort(c.Master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	c.Replica = Start(t, "--replicaof", host+" "+port, "--repl-diskless-sync-delay", "0")
	c.Replica.await("master_link_status:up", func() (string, error) { return c.Replica.Command("INFO", "replication") })

	config := filepath.Join(t.TempDir(), "sentinel.conf") // it rewrites the file
	lines := []string{
		"sentinel monitor " + masterName + " " + host + " " + port + " 1",
		"sentinel down-after-milliseconds " + masterName + " 1000",
		"sentinel failover-timeout " + masterName + " 5000",
	}
	lines = append(lines, more...)
	if err := os.WriteFile(config, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.Watcher = newServer(t, []string{config, "--sentinel"})
	c.Watcher.password = password
	c.Watcher.Run()
	c.Watcher.await("slaves=1", func() (string, error) { return c.Watcher.Command("INFO", "sentinel") })
	return c
}

// URL returns the address in the form of the store setting.
func (c *Sentinel) URL() string { return "redis+sentinel://" + c.Watcher.Addr + "/" + masterName }

// Failover kills the master once the replica has all its data, and waits until the replica is the master.
func (c *Sentinel) Failover() {
	c.Master.t.Helper()
	c.Master.CaughtUp(c.Replica)
	c.Master.Kill()
	c.AwaitFailover()
}

// AwaitFailover waits until the replica is the master.
func (c *Sentinel) AwaitFailover() {
	c.Replica.t.Helper()
	c.Replica.await("role:master", func() (string, error) { return c.Replica.Command("INFO", "replication") })
}

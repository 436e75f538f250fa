package testredis_test

import (
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testredis"
)

func TestRestartKeeps(t *testing.T) {
	s := testredis.Start(t)
	s.Must("SET", "a", "1")
	s.Restart()
	if got := s.Must("GET", "a"); got != "1" {
		t.Errorf("after a restart a is %q", got)
	}
	if _, err := s.Command("INCRBY", "a", "x"); err == nil || !strings.Contains(err.Error(), "not an integer") {
		t.Errorf("a bad command gave %v", err)
	}
}

func TestCluster(t *testing.T) {
	c := testredis.StartCluster(t, 3)
	if info := c.Nodes[1].Must("CLUSTER", "INFO"); !strings.Contains(info, "cluster_slots_ok:16384") {
		t.Errorf("the cluster says %s", info)
	}
}

func TestSentinel(t *testing.T) {
	c := testredis.StartSentinel(t)
	c.Master.Must("SET", "a", "1")
	c.Failover()
	if got := c.Replica.Must("INCR", "a"); got != "2" {
		t.Errorf("after the failover INCR gives %q", got)
	}
}

func TestStartAhead(t *testing.T) {
	for _, ahead := range []time.Duration{-26 * time.Hour, 26 * time.Hour} {
		s := testredis.StartAhead(t, ahead)
		s.Must("SET", "a", "1", "PX", "100")
		for end := time.Now().Add(10 * time.Second); s.Must("EXISTS", "a") == "1"; time.Sleep(20 * time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("a key that lasts 100 ms is still there after 10 s")
			}
		}
		s.Restart()
	}
}

func TestJump(t *testing.T) {
	s := testredis.StartAhead(t, time.Hour)
	s.Must("SET", "a", "1", "PX", "60000")
	s.Jump(-100 * time.Hour)
	if s.Must("EXISTS", "a") != "1" {
		t.Error("a key is gone though the clock jumped back")
	}
	s.Jump(200 * time.Hour)
	if s.Must("EXISTS", "a") != "0" {
		t.Error("a key is there though the clock jumped ahead")
	}
}

func TestReplicatedCluster(t *testing.T) {
	c := testredis.StartReplicatedCluster(t, 3)
	slot := c.Slot("a")
	from := c.Home(slot)
	c.Nodes[from].Must("SET", "a", "1")
	to := (from + 1) % 3
	c.Migrate(slot, c.Nodes[from], c.Nodes[to], func() {})
	if got := c.Nodes[to].Must("INCR", "a"); got != "2" {
		t.Errorf("after its slot was moved INCR gives %q", got)
	}
	c.Failover(to)
	if got := c.Replicas[to].Must("INCR", "a"); got != "3" {
		t.Errorf("after the failover INCR gives %q", got)
	}
}

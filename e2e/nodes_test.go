package e2e

import (
	"testing"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testredis"
)

// nodesView is the part of the list of nodes that the tests check.
type nodesView struct {
	Partitions int
	Items      []struct {
		Name, Version  string
		Self, Delivers bool
		StartedAt      string `json:"started_at"`
		InFlight       *int   `json:"in_flight"`
		Concurrency    int
		Partitions     int
		HasRoom        bool   `json:"has_room"`
		LastHeardAt    string `json:"last_heard_at"`
	}
}

// TestNodesListEachOther checks that every node of a fleet lists all of them, with what they are, and that those which deliver
// serve all partitions between them, also after one has stopped and one was killed.
func TestNodesListEachOther(t *testing.T) {
	t.Parallel()
	s := append(onRedis(testredis.Start(t).URL()), "--redis-partitions", "64", "--concurrency", "16")
	f := startNodes(t, s, 3)
	calls := f.join(t, s, "--deliver=false")
	f.listEachOther(t, 3, calls)
	f.nodes[0].Stop()
	f.nodes = f.nodes[1:]
	f.listEachOther(t, 2, calls)
	f.nodes[0].Crash()
	f.nodes = f.nodes[1:]
	f.listEachOther(t, 1, calls)
}

// listEachOther waits until every node lists all nodes, so many of which deliver, and checks what they say.
func (f *fleet) listEachOther(t *testing.T, deliver int, calls *testNode) {
	t.Helper()
	version := get[struct{ Node struct{ Version string } }](calls, "/v1/stats").Node.Version
	names := map[string]bool{}
	for _, n := range f.nodes {
		var list nodesView
		harness.Eventually(t, "the node lists all nodes, which serve each partition once", func() bool {
			list = get[nodesView](n, "/v1/nodes")
			served := 0
			for _, item := range list.Items {
				served += item.Partitions
			}
			return len(list.Items) == len(f.nodes) && served == 64 && list.Partitions == 64
		})
		self, delivering := "", 0
		for _, item := range list.Items {
			if item.Self {
				self += item.Name
			}
			concurrency := 0
			if item.Delivers {
				delivering++
				concurrency = 16
			}
			if version == "" || item.Version != version || item.StartedAt == "" || item.LastHeardAt == "" || item.InFlight == nil ||
				item.Concurrency != concurrency || (item.Partitions > 0) != item.Delivers {
				t.Errorf("a node is listed as %+v, want version %s", item, version)
			}
		}
		if delivering != deliver {
			t.Errorf("%d nodes deliver, want %d: %+v", delivering, deliver, list.Items)
		}
		names[self] = true
	}
	if len(names) != len(f.nodes) || names[""] {
		t.Errorf("%d nodes call themselves %v", len(f.nodes), names)
	}
}

func TestNodeOnAnEmbeddedStore(t *testing.T) {
	t.Parallel()
	n := startNode(t)
	list := get[nodesView](n, "/v1/nodes")
	if len(list.Items) != 1 || !list.Items[0].Self || list.Items[0].Version == "" || list.Partitions != 1 {
		t.Errorf("the node lists %+v", list)
	}
	harness.Eventually(t, "the node delivers", func() bool { return get[nodesView](n, "/v1/nodes").Items[0].Delivers })
}

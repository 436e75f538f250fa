package handlers

import (
	"net/http"

	"github.com/postrider/postrider/queue"
)

// nodesView lists the nodes of the fleet.
type nodesView struct {
	Items      []fleetNode `json:"items" nullable:"false"`
	Partitions int         `json:"partitions" doc:"that the store has"`
}

// fleetNode shows a node as it said itself.
type fleetNode struct {
	Name        string `json:"name" doc:"of the machine, and a suffix; it stays the same until the node stops"`
	Self        bool   `json:"self,omitempty" doc:"true for the node that answers"`
	Version     string `json:"version,omitempty"`
	StartedAt   string `json:"started_at,omitempty" format:"date-time"`
	Delivers    bool   `json:"delivers" doc:"false with the setting deliver=false"`
	HasRoom     bool   `json:"has_room" doc:"whether it takes more work: not while slow hosts hold all its slots, or its name servers are away"`
	InFlight    int    `json:"in_flight" doc:"attempts"`
	Concurrency int    `json:"concurrency" doc:"how many attempts may be in flight; 0 if the node does not deliver"`
	Partitions  int    `json:"partitions" doc:"that it serves: it looks for work there first. Several nodes may serve a partition"`
	LastHeardAt string `json:"last_heard_at" format:"date-time" doc:"when the node that answers heard it last"`
}

func (s *server) nodes(r *http.Request, _ []byte) (reply, error) {
	f, err := s.Queue.Nodes(r.Context())
	return reply{Status: http.StatusOK, Body: nodesView{Items: views(f.Nodes, fleetNodeOf), Partitions: f.Partitions}}, err
}

func fleetNodeOf(n *queue.Node) fleetNode {
	return fleetNode{
		Name: n.Name, Self: n.Self, Version: n.Version, StartedAt: stamp(n.StartedAt), Delivers: n.Delivers, HasRoom: n.HasRoom,
		InFlight: n.InFlight, Concurrency: n.Concurrency, Partitions: n.Partitions, LastHeardAt: stamp(n.HeardAt),
	}
}

package handlers

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
)

func TestNodes(t *testing.T) {
	g := newRig(t)
	g.queue.fleet = queue.FleetStatus{Partitions: 64, Nodes: []queue.Node{
		{
			Name: "api-0-b01d77", NodeInfo: queue.NodeInfo{Version: "1.2.4", StartedAt: noon.Add(-time.Hour)}, HeardAt: noon,
		},
		{
			Name: "web-1-3f9a2c", Self: true, NodeInfo: queue.NodeInfo{Version: "1.2.3", StartedAt: noon, InFlight: 3, Concurrency: 512},
			Delivers: true, HasRoom: true, Partitions: 41, HeardAt: noon,
		},
	}}
	rec := g.do("GET", "/v1/nodes", "")
	wantStatus(t, rec, 200)
	want := `{"items":[` +
		`{"name":"api-0-b01d77","version":"1.2.4","started_at":"2026-01-02T10:00:00.000Z","delivers":false,"has_room":false,` +
		`"in_flight":0,"concurrency":0,"partitions":0,"last_heard_at":"2026-01-02T11:00:00.000Z"},` +
		`{"name":"web-1-3f9a2c","self":true,"version":"1.2.3","started_at":"2026-01-02T11:00:00.000Z","delivers":true,"has_room":true,` +
		`"in_flight":3,"concurrency":512,"partitions":41,"last_heard_at":"2026-01-02T11:00:00.000Z"}],"partitions":64}` + "\n"
	if diff := cmp.Diff(want, rec.Body.String()); diff != "" {
		t.Error(diff)
	}
	g.queue.fail(errAway)
	wantProblem(t, g.do("GET", "/v1/nodes", ""), 503)
}

package handlers

import (
	"context"
	"fmt"
	"net/http"

	"github.com/postrider/postrider/queue"
)

// statsView shows the totals.
type statsView struct {
	Fleet fleetStats `json:"fleet" doc:"the whole store"`
}

// fleetStats are the totals of the store, which all nodes of a fleet share.
type fleetStats struct {
	Activities      int            `json:"activities" doc:"held, pending and done"`
	Pending         int            `json:"pending" doc:"deliveries"`
	Dead            int            `json:"dead" doc:"dead letters held"`
	Delivered       int64          `json:"delivered" doc:"deliveries since the store was made"`
	Hosts           map[string]int `json:"hosts" doc:"how many hosts are in each state"`
	OldestPendingAt string         `json:"oldest_pending_at,omitempty" format:"date-time"`
}

// healthView says that a node works.
type healthView struct {
	Status string `json:"status" enum:"ok"`
}

func (s *server) stats(r *http.Request, _ []byte) (reply, error) {
	st, err := s.Queue.Stats(r.Context())
	if err != nil {
		return reply{}, fmt.Errorf("count: %w", err)
	}
	hosts := make(map[string]int, len(queue.HostStates))
	for _, state := range queue.HostStates {
		hosts[string(state)] = st.Hosts[state]
	}
	return reply{Status: http.StatusOK, Body: statsView{Fleet: fleetStats{
		Activities: st.Activities, Pending: st.Pending, Dead: st.Dead, Delivered: st.Delivered, Hosts: hosts,
		OldestPendingAt: stamp(st.OldestPendingAt),
	}}}, nil
}

// healthz says that the process lives and answers, whatever the store does.
func (s *server) healthz(*http.Request, []byte) (reply, error) {
	return reply{Status: http.StatusOK, Body: healthView{Status: "ok"}}, nil
}

// readyz says whether the node can work just now.
func (s *server) readyz(r *http.Request, _ []byte) (reply, error) {
	if err := s.ready(r.Context()); err != nil {
		return reply{}, err
	}
	return reply{Status: http.StatusOK, Body: healthView{Status: "ok"}}, nil
}

func (s *server) ready(ctx context.Context) error {
	if s.Ready == nil {
		return s.Queue.Ready(ctx)
	}
	if err := s.Ready(ctx); err != nil {
		return &problem{Status: http.StatusServiceUnavailable, Detail: err.Error(), retryAfter: retryAway}
	}
	return nil
}

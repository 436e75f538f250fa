package handlers

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/postrider/postrider/queue"
)

// statsView shows the totals.
type statsView struct {
	Fleet fleetStats `json:"fleet" doc:"the whole store"`
	Node  *nodeView  `json:"node,omitempty" doc:"the node that answers"`

	Warnings []warningView `json:"warnings" nullable:"false" doc:"what an operator should look at"`
}

// warningView shows something that an operator should look at.
type warningView struct {
	Code    string `json:"code" enum:"most_hosts_unauthorized"`
	Message string `json:"message"`
}

// fleetStats are the totals of the store, which all nodes of a fleet share.
type fleetStats struct {
	Activities      int              `json:"activities" doc:"held, pending and done"`
	Pending         int              `json:"pending" doc:"deliveries"`
	Dead            int              `json:"dead" doc:"dead letters held"`
	Delivered       int64            `json:"delivered" doc:"deliveries since the store was made"`
	Died            map[string]int64 `json:"died" doc:"deliveries that became dead letters since then, by reason"`
	Dropped         int64            `json:"dropped" doc:"dead letters dropped since then because there were too many"`
	PerSecond       fleetRates       `json:"per_second"`
	Hosts           map[string]int   `json:"hosts" doc:"how many hosts are in each state"`
	OldestPendingAt string           `json:"oldest_pending_at,omitempty" format:"date-time"`
}

// fleetRates are rates of the whole store.
type fleetRates struct {
	Accepted  float64 `json:"accepted" doc:"deliveries accepted, over the last minute or so"`
	Delivered float64 `json:"delivered"`
	Dead      float64 `json:"dead" doc:"deliveries that became dead letters"`
}

// NodeStats is what a node did since it started.
type NodeStats struct {
	StartedAt time.Time
	Signing   string           // the back-end that does RSA
	InFlight  int              // attempts
	Attempts  map[string]int64 // that ended, by outcome
	PerSecond float64          // attempts that ended, over the last minute

	Concurrency int           // how many attempts may be in flight; 0 if the node does not deliver
	WebhookLag  time.Duration // the age of the oldest entry that the app has not taken; 0 if another node sends, or none
}

// nodeView shows what a node did.
type nodeView struct {
	Version   string           `json:"version"`
	Signing   string           `json:"signing" doc:"the back-end that does RSA"`
	StartedAt string           `json:"started_at" format:"date-time"`
	Uptime    int64            `json:"uptime_seconds"`
	InFlight  int              `json:"in_flight" doc:"attempts"`
	Attempts  map[string]int64 `json:"attempts" doc:"attempts that ended since the start, by outcome"`
	PerSecond nodeRates        `json:"per_second"`

	Concurrency int     `json:"concurrency" doc:"how many attempts may be in flight; 0 if the node does not deliver"`
	WebhookLag  float64 `json:"webhook_lag_seconds" doc:"the age of the oldest entry that the webhook has not delivered; 0 if another node sends it, or none"`
}

// nodeRates are rates of a node.
type nodeRates struct {
	Attempts float64 `json:"attempts" doc:"attempts that ended, over the last minute"`
}

// healthView says that a node works.
type healthView struct {
	Status string `json:"status" enum:"ok"`
}

func (s *server) stats(r *http.Request, _ []byte) (reply, error) {
	view, err := s.count(r.Context())
	return reply{Status: http.StatusOK, Body: view}, err
}

// count asks the store for its totals and adds the node's own.
func (s *server) count(ctx context.Context) (v statsView, err error) {
	st, err := s.Queue.Stats(ctx)
	if err != nil {
		return v, fmt.Errorf("count: %w", err)
	}
	hosts := make(map[string]int, len(queue.HostStates))
	for _, state := range queue.HostStates {
		hosts[string(state)] = st.Hosts[state]
	}
	died := make(map[string]int64, len(queue.Reasons))
	for _, reason := range queue.Reasons {
		died[string(reason)] = st.Died[reason]
	}
	return statsView{Node: s.nodeView(), Warnings: views(st.Warnings(), warningViewOf), Fleet: fleetStats{
		Activities: st.Activities, Pending: st.Pending, Dead: st.Dead, Delivered: st.Delivered, Died: died, Dropped: st.Dropped,
		PerSecond: fleetRates(st.PerSecond), Hosts: hosts, OldestPendingAt: stamp(st.OldestPendingAt),
	}}, nil
}

func warningViewOf(w *queue.Warning) warningView { return warningView(*w) }

func (s *server) nodeView() *nodeView {
	if s.Node == nil {
		return nil
	}
	n := s.Node()
	return &nodeView{
		Version: s.Version, Signing: n.Signing, StartedAt: stamp(n.StartedAt), Uptime: int64(time.Since(n.StartedAt).Seconds()),
		InFlight: n.InFlight, Attempts: n.Attempts, PerSecond: nodeRates{Attempts: n.PerSecond},
		Concurrency: n.Concurrency, WebhookLag: n.WebhookLag.Seconds(),
	}
}

// healthz reports that the process is alive and answers, also while the store is away.
func (s *server) healthz(*http.Request, []byte) (reply, error) {
	return reply{Status: http.StatusOK, Body: healthView{Status: "ok"}}, nil
}

// readyz says whether the node can work just now.
func (s *server) readyz(r *http.Request, _ []byte) (reply, error) {
	if s.Ready == nil {
		return reply{Status: http.StatusOK, Body: healthView{Status: "ok"}}, s.Queue.Ready(r.Context())
	}
	if reason, err := s.Ready(r.Context()); err != nil {
		return reply{}, notReady(reason, err, visitOf(r).trusted)
	}
	return reply{Status: http.StatusOK, Body: healthView{Status: "ok"}}, nil
}

// notReady is the problem of a node that can't work. The error's text, which may name addresses and paths, is for
// trusted callers only.
func notReady(reason string, err error, trusted bool) *problem {
	detail := reason
	if trusted {
		detail = err.Error()
	}
	return &problem{Status: http.StatusServiceUnavailable, Detail: detail, Reason: reason, retryAfter: retryAway}
}

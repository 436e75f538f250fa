package handlers

import (
	"context"
	"fmt"
	"net/http"

	"github.com/go-chi/chi/v5"
	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// activityView shows an accepted activity.
type activityView struct {
	ID         string `json:"id" format:"uuid"`
	ActivityID string `json:"activity_id" doc:"the activity's own id"`
	Type       string `json:"type"`
	KeyID      string `json:"key_id"`
	CreatedAt  string `json:"created_at" format:"date-time"`
	State      string `json:"state" enum:"pending,done,cancelled"`
	Counts     counts `json:"counts"`
}

// counts are an activity's deliveries; total is the sum of the others.
type counts struct {
	Total     int `json:"total"`
	Pending   int `json:"pending"`
	Delivered int `json:"delivered"`
	Dead      int `json:"dead"`
	Cancelled int `json:"cancelled"`
}

// deliveryView shows a delivery that is pending or dead.
type deliveryView struct {
	ID            string   `json:"id"`
	Inbox         string   `json:"inbox"`
	Host          string   `json:"host"`
	State         string   `json:"state" enum:"pending,dead"`
	Reason        string   `json:"reason,omitempty" doc:"why it is dead"`
	Attempts      int      `json:"attempts"`
	NextAttemptAt string   `json:"next_attempt_at,omitempty" format:"date-time" doc:"absent if dead, or waiting behind another of its ordering key"`
	LastAttempt   *attempt `json:"last_attempt,omitempty"`
}

var deliveryStates = []queue.DeliveryState{queue.StatePending, queue.StateDead}

func (s *server) getActivity(r *http.Request, _ []byte) (reply, error) {
	return s.activity(r, "look up activity", s.Queue.Activity)
}

func (s *server) cancelActivity(r *http.Request, _ []byte) (reply, error) {
	return s.activity(r, "cancel activity", s.Queue.Cancel)
}

// activity answers with the status that ask returns for the activity in the path.
func (s *server) activity(
	r *http.Request, what string, ask func(context.Context, string) (queue.ActivityStatus, error),
) (reply, error) {
	id, err := activityID(r)
	if err != nil {
		return reply{}, err
	}
	status, err := ask(r.Context(), id)
	if err != nil {
		return reply{}, fmt.Errorf("%s %s: %w", what, id, err)
	}
	return reply{Status: http.StatusOK, Body: activityView{
		ID: status.ID, ActivityID: status.URI, Type: status.Type, KeyID: status.KeyID,
		CreatedAt: stamp(status.CreatedAt), State: string(status.State), Counts: counts(status.Counts),
	}}, nil
}

func (s *server) listDeliveries(r *http.Request, _ []byte) (reply, error) {
	id, err := activityID(r)
	if err != nil {
		return reply{}, err
	}
	p, err := pageOf(r)
	if err != nil {
		return reply{}, err
	}
	state, err := oneOf(r.URL.Query(), "state", deliveryStates)
	if err != nil {
		return reply{}, err
	}
	list, err := s.Queue.Deliveries(r.Context(), id, state, p)
	if err != nil {
		return reply{}, fmt.Errorf("list deliveries of %s: %w", id, err)
	}
	return listReply(list, deliveryViewOf), nil
}

func deliveryViewOf(d *queue.DeliveryStatus) deliveryView {
	return deliveryView{
		ID: d.ID, Inbox: d.Inbox, Host: d.Host, State: string(d.State), Reason: string(d.Reason), Attempts: d.Attempts,
		NextAttemptAt: stamp(d.NextAttemptAt), LastAttempt: attemptView(d.LastAttempt),
	}
}

// activityURL is where an activity can be watched.
func activityURL(id string) string { return "/v1/activities/" + id }

// activityID is the ID in the path. What can't be one of ours never reaches the store.
func activityID(r *http.Request) (string, error) {
	id := chi.URLParam(r, "id")
	if parsed, err := uuid.Parse(id); err != nil || parsed.String() != id {
		return "", fmt.Errorf("activity ID: %w", queue.ErrNotFound)
	}
	return id, nil
}

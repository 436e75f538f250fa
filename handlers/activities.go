package handlers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"

	"github.com/danielgtaylor/huma/v2"
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
	Actor      string `json:"actor,omitempty" doc:"of the activity"`
	CreatedAt  string `json:"created_at" format:"date-time"`
	State      string `json:"state" enum:"pending,done,cancelled"`
	Counts     counts `json:"counts"`

	Metadata json.RawMessage `json:"metadata,omitempty" doc:"what the call that brought it said"`
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
	IDs           []string `json:"ids,omitempty" nullable:"false" doc:"of the actors behind the inbox, as the call named them"`
	Host          string   `json:"host"`
	State         string   `json:"state" enum:"pending,dead"`
	WaitsFor      string   `json:"waits_for,omitempty" enum:"answer,predecessor,key,host,retry,turn" doc:"what it waits for, absent if dead: answer, a node attempts it or is about to; predecessor, another of its ordering key goes first; key, its key is missing; host, the host waits or is held back; retry, its next attempt; turn, nothing, it is due"`
	Reason        reason   `json:"reason,omitempty" doc:"why it is dead"`
	Attempts      int      `json:"attempts"`
	NextAttemptAt string   `json:"next_attempt_at,omitempty" format:"date-time" doc:"absent if dead, or waiting behind another of its ordering key"`
	DiedAt        string   `json:"died_at,omitempty" format:"date-time" doc:"absent if pending"`
	LastAttempt   *attempt `json:"last_attempt,omitempty"`

	History []*attempt `json:"history" nullable:"false" doc:"the last five attempts, newest first"`
}

// oneDelivery shows a delivery, and of which activity it is.
type oneDelivery struct {
	DeliveryView
	ActivityID string          `json:"activity_id" doc:"the activity's own id"`
	Type       string          `json:"type" doc:"of the activity"`
	Priority   string          `json:"priority" enum:"high,normal,low"`
	CreatedAt  string          `json:"created_at" format:"date-time" doc:"when the activity was accepted"`
	Metadata   json.RawMessage `json:"metadata,omitempty" doc:"what the call that brought the activity said"`
	URL        string          `json:"url" doc:"where the activity can be watched"`
}

var activityStates = []queue.ActivityState{queue.ActivityPending, queue.ActivityDone, queue.ActivityCancelled}

var deliveryStates = []queue.DeliveryState{queue.StatePending, queue.StateDead}

// activity returns the endpoint that answers with the status that ask returns for the activity in the path.
func activity(ask func(context.Context, string) (queue.ActivityStatus, error)) endpoint {
	return func(r *http.Request, _ []byte) (reply, error) {
		id, err := activityID(r)
		if err != nil {
			return reply{}, err
		}
		status, err := ask(r.Context(), id)
		return reply{Status: http.StatusOK, Body: activityViewOf(&status)}, err
	}
}

func activityViewOf(a *queue.ActivityStatus) activityView {
	return activityView{
		ID: a.ID, ActivityID: a.URI, Type: a.Type, KeyID: a.KeyID, Actor: a.Actor, CreatedAt: stamp(a.CreatedAt),
		State: string(a.State), Counts: counts(a.Counts), Metadata: a.Metadata,
	}
}

func activityFilter(q *query) queue.ActivityFilter {
	return queue.ActivityFilter{
		URI: q.Get("activity_id"), Actor: q.Get("actor"), KeyID: q.Get("key_id"), Type: q.Get("type"),
		State: oneOf(q, "state", activityStates), Since: q.time("since"),
	}
}

const activityType = "application/activity+json"

// sentBytes is a JSON object as it was sent: an activity, or metadata.
type sentBytes []byte

// MarshalJSON implements json.Marshaler: the document shows them as they are.
func (b sentBytes) MarshalJSON() ([]byte, error) { return b, nil }

// Schema describes them as what they are.
func (sentBytes) Schema(huma.Registry) *huma.Schema {
	return &huma.Schema{Type: huma.TypeObject, AdditionalProperties: true}
}

func (s *server) getBody(r *http.Request, _ []byte) (reply, error) {
	id, err := activityID(r)
	if err != nil {
		return reply{}, err
	}
	body, err := s.Queue.Body(r.Context(), id)
	return reply{Status: http.StatusOK, Body: sentBytes(body)}, err
}

func (s *server) getDelivery(r *http.Request, _ []byte) (reply, error) {
	d, err := s.Queue.Delivery(r.Context(), chi.URLParam(r, "id"))
	return reply{Status: http.StatusOK, Body: oneDeliveryOf(&d)}, err
}

func oneDeliveryOf(d *queue.DeliveryStatus) oneDelivery {
	return oneDelivery{
		DeliveryView: deliveryViewOf(d), ActivityID: d.URI, Type: d.Type, Priority: priorities[d.Priority], CreatedAt: stamp(d.CreatedAt),
		Metadata: d.Metadata, URL: activityURL(d.ActivityID),
	}
}

// hostDeliveries is GET /v1/hosts/{host}/deliveries.
func (s *server) hostDeliveries(r *http.Request, _ []byte) (reply, error) {
	host, err := pathHost(r)
	if err != nil {
		return reply{}, err
	}
	ofHost := func(ctx context.Context, _ struct{}, p queue.Page) (queue.List[queue.DeliveryStatus], error) {
		return s.Queue.HostDeliveries(ctx, host, p)
	}
	return list(func(*query) (none struct{}) { return none }, ofHost, oneDeliveryOf)(r, nil)
}

func (s *server) listDeliveries(r *http.Request, _ []byte) (reply, error) {
	id, err := activityID(r)
	if err != nil {
		return reply{}, err
	}
	ofActivity := func(ctx context.Context, state queue.DeliveryState, p queue.Page) (queue.List[queue.DeliveryStatus], error) {
		return s.Queue.Deliveries(ctx, id, state, p)
	}
	return list(deliveryFilter, ofActivity, deliveryViewOf)(r, nil)
}

func deliveryFilter(q *query) queue.DeliveryState { return oneOf(q, "state", deliveryStates) }

func deliveryViewOf(d *queue.DeliveryStatus) deliveryView {
	return deliveryView{
		ID: d.ID, Inbox: d.Inbox, IDs: d.IDs, Host: d.Host, State: string(d.State), WaitsFor: string(d.Waits),
		Reason: reason(d.Reason), Attempts: d.Attempts,
		NextAttemptAt: stamp(d.NextAttemptAt), DiedAt: stamp(d.DiedAt), LastAttempt: attemptView(d.History.Last()),
		History: views(d.History, attemptView),
	}
}

// activityURL is where an activity can be watched.
func activityURL(id string) string { return "/v1/activities/" + id }

// activityID is the ID in the path. An ID that the node can't have made never reaches the store.
func activityID(r *http.Request) (string, error) {
	id := chi.URLParam(r, "id")
	if parsed, err := uuid.Parse(id); err != nil || parsed.String() != id {
		return "", fmt.Errorf("activity ID: %w", queue.ErrNotFound)
	}
	return id, nil
}

package handlers

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"

	"github.com/postrider/postrider/queue"
)

const (
	maxCancelled  = 10_000 // ids of activities in a call
	maxCancelCall = 4 << 20
)

// cancelCall is the body of POST /v1/activities/cancel.
type cancelCall struct {
	KeyID       string   `json:"key_id,omitempty" maxLength:"2048" doc:"what this key signs"`
	ActivityIDs []string `json:"activity_ids,omitempty" nullable:"false" maxItems:"10000" doc:"these, by their own ids; with a key_id, those of them that it signs"`
	DryRun      bool     `json:"dry_run,omitempty" doc:"only count them"`
}

// cancelledMany is the answer of POST /v1/activities/cancel.
type cancelledMany struct {
	Activities int  `json:"activities" doc:"activities that were meant and of which something was pending"`
	Cancelled  int  `json:"cancelled" doc:"their deliveries that were pending"`
	DryRun     bool `json:"dry_run" doc:"nothing was done, only counted"`
}

// cancelActivities cancels what is pending of activities, by their key or their own ids.
func (s *server) cancelActivities(r *http.Request, body []byte) (reply, error) {
	var call cancelCall
	if err := unmarshal("body", body, &call); err != nil {
		return reply{}, err
	}
	switch {
	case len(call.ActivityIDs) > maxCancelled:
		return reply{}, invalid(fmt.Sprintf("body.activity_ids[%d]", maxCancelled), flaw{codeTooMany, "more than 10000"})
	case call.KeyID == "" && call.ActivityIDs == nil:
		return reply{}, invalid("body.key_id", flaw{codeMissing, "there must be a key_id or activity_ids"})
	case call.ActivityIDs != nil && len(call.ActivityIDs) == 0: // none is not all
		return reply{Status: http.StatusOK, Body: cancelledMany{DryRun: call.DryRun}}, nil
	}
	n, err := s.Queue.CancelMany(r.Context(), queue.CancelChoice{KeyID: call.KeyID, URIs: call.ActivityIDs, DryRun: call.DryRun})
	if !call.DryRun {
		chosen := chosenBy(queue.ActionFilter{KeyID: call.KeyID, IDs: call.ActivityIDs})
		s.actedOnMany(r.Context(), queue.Event{Action: queue.ActionCancelActivities, Count: n.Deliveries, Filter: chosen},
			slog.Int("activities", n.Activities))
	}
	return reply{Status: http.StatusOK, Body: cancelledMany{n.Activities, n.Deliveries, call.DryRun}}, err
}

// cancelActivity cancels what is pending of an activity.
func (s *server) cancelActivity(ctx context.Context, id string) (queue.ActivityStatus, error) {
	status, err := s.Queue.Cancel(ctx, id)
	if err == nil {
		s.logAction(ctx, queue.ActivityActed(ctx, queue.ActionCancel, id, status.URI))
	}
	return status, err
}

package handlers

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// accepted is the answer of POST /v1/activities.
type accepted struct {
	ID         string      `json:"id" format:"uuid"`
	ActivityID string      `json:"activity_id" doc:"the activity's own id"`
	Accepted   int         `json:"accepted" doc:"deliveries made"`
	Duplicates int         `json:"duplicates" doc:"inboxes to which the same activity was pending already"`
	Superseded int         `json:"superseded,omitempty" doc:"deliveries that were cancelled because this activity deletes what they would make: of a Create with the same object and ordering key, never attempted, for hosts that get nothing at the moment"`
	Rejected   []rejection `json:"rejected" nullable:"false"`
	URL        string      `json:"url" doc:"where the activity can be watched"`
}

// postActivity takes an activity in. The order matters: what the call's own bytes tell is found before the store is
// asked anything.
func (s *server) postActivity(r *http.Request, body []byte) (reply, error) {
	idem, err := idempotency(r, body)
	if err != nil {
		return reply{}, err
	}
	call, err := parseCall(body)
	if err != nil {
		return reply{}, err
	}
	a := s.gather(call)
	if len(a.conflicts) > 0 {
		return reply{}, unprocessable(a.conflicts...)
	}
	if err := s.hasKey(r.Context(), call.KeyID); err != nil {
		return reply{}, err
	}
	if len(a.deliveries) == 0 {
		return reply{}, a.nobody(nil)
	}
	sub, err := s.submission(call, a)
	if err != nil {
		return reply{}, err
	}
	sub.Idempotency = idem
	receipt, err := s.Queue.Enqueue(r.Context(), sub)
	if err != nil {
		return reply{}, fmt.Errorf("enqueue: %w", err)
	}
	if receipt.ID == "" {
		return reply{}, a.nobody(receipt.Refused)
	}
	return receiptReply(receipt)
}

func (s *server) hasKey(ctx context.Context, id string) error {
	_, err := s.Queue.Key(ctx, id)
	if errors.Is(err, queue.ErrNotFound) {
		return invalid("body.key_id", "there is no such key")
	}
	if err != nil {
		return fmt.Errorf("look up key: %w", err)
	}
	return nil
}

// submission is what the store is given. The rejections go with it, so that a repeated call can be told them again.
func (s *server) submission(c *activityCall, a *audience) (*queue.Submission, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make an ID: %w", err)
	}
	var note []byte // most have nothing to note
	if len(a.rejected) > 0 {
		if note, err = json.Marshal(a.rejected); err != nil {
			return nil, fmt.Errorf("write the rejections: %w", err)
		}
	}
	key := cmp.Or(c.OrderingKey, c.facts.orderingKey())
	return &queue.Submission{
		Activity: queue.Activity{
			ID: id.String(), URI: c.facts.id, Type: c.facts.kind, KeyID: c.KeyID, Priority: c.priority,
			OrderingKey: key, Role: c.facts.role(key), Body: c.Activity,
		},
		Recipients: a.deliveries, TTL: cmp.Or(c.ttl, s.DeliveryTTL), Note: note,
	}, nil
}

// receiptReply makes the answer of nothing but the receipt, so that a repeated call gets the same bytes.
func receiptReply(r queue.Receipt) (reply, error) {
	var rejected []rejection
	if len(r.Note) > 0 {
		if err := json.Unmarshal(r.Note, &rejected); err != nil {
			return reply{}, fmt.Errorf("read the rejections of %s: %w", r.ID, err)
		}
	}
	rep := reply{Status: http.StatusAccepted, Body: accepted{
		ID: r.ID, ActivityID: r.URI, Accepted: r.Accepted, Duplicates: r.Duplicates, Superseded: r.Superseded,
		Rejected: refused(rejected, r.Refused), URL: activityURL(r.ID),
	}}
	if r.Replayed {
		rep.Header = map[string]string{"Idempotent-Replayed": "true"}
	}
	return rep, nil
}

// idempotency makes the call harmless to repeat: by its Idempotency-Key or, without one, by its bytes; each caller's
// on its own.
func idempotency(r *http.Request, body []byte) (queue.Idempotency, error) {
	idem := queue.Idempotency{Fingerprint: sha256.Sum256(body)}
	token := visitOf(r).token
	switch keys := r.Header.Values("Idempotency-Key"); {
	case len(keys) == 0:
		idem.Key = scoped(token, 'b', string(idem.Fingerprint[:]))
	case len(keys) > 1 || !visibleASCII(keys[0]):
		return idem, invalid("header.Idempotency-Key", "must be one value of 1 to 255 visible ASCII characters")
	default:
		idem.Key = scoped(token, 'k', keys[0])
	}
	return idem, nil
}

// scoped is a digest that no other token, kind and value have.
func scoped(token string, kind byte, value string) [32]byte {
	text := binary.AppendUvarint(nil, uint64(len(token)))
	text = append(append(append(text, token...), kind), value...)
	return sha256.Sum256(text)
}

func visibleASCII(s string) bool {
	for _, c := range []byte(s) {
		if c <= ' ' || c >= 0x7f {
			return false
		}
	}
	return len(s) > 0 && len(s) < 256
}

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
	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/internal/telemetry"
	"github.com/postrider/postrider/queue"
)

// accepted is the answer of POST /v1/activities.
type accepted struct {
	ID         string      `json:"id" format:"uuid"`
	ActivityID string      `json:"activity_id" doc:"the activity's own id"`
	Accepted   int         `json:"accepted" doc:"deliveries made"`
	Duplicates int         `json:"duplicates" doc:"inboxes for which the newest pending delivery with the same ordering key is of the same bytes"`
	Rejected   []rejection `json:"rejected" nullable:"false" doc:"1,000 at most"`
	More       int         `json:"rejected_more,omitempty" doc:"how many were rejected beyond those listed"`
	URL        string      `json:"url" doc:"where the activity can be watched"`
}

// postActivity takes an activity in.
func (s *server) postActivity(r *http.Request, body []byte) (reply, error) {
	key, err := idempotencyKey(r)
	if err != nil {
		return reply{}, err
	}
	token := visitOf(r).token
	d, err := s.draft(body, token, idempotencyOf(token, key, body))
	if err != nil {
		return reply{}, err
	}
	if d.submission.Trace == nil {
		d.submission.Trace = telemetry.PackTrace(traceOf(r))
	}
	answer, replayed, err := s.submit(r.Context(), d)
	if err != nil {
		return reply{}, err
	}
	describe(trace.SpanFromContext(r.Context()), &d.submission.Activity, answer)
	rep := reply{Status: http.StatusAccepted, Body: answer}
	if replayed {
		rep.Header = map[string]string{"Idempotent-Replayed": "true"}
	}
	return rep, nil
}

// draft is a call with nothing wrong in its own bytes. The store was not asked anything yet.
type draft struct {
	audience   *audience
	submission *queue.Submission
	key        *queue.Key // that came with the call, nil if it only names one
	repeats    bool       // the call's idempotency key stands in its body
}

// draft reads a call and checks all that can be checked without the store. An idempotency key in the call wins over the one
// of the request. The submission has a trace only if the call names one.
func (s *server) draft(body []byte, token string, idem queue.Idempotency) (*draft, error) {
	call, err := parseCall(body)
	defer func() { call.wipe() }()
	if err != nil {
		return nil, err
	}
	a := s.audienceOf(call)
	if len(a.conflicts) > 0 {
		return nil, unprocessable(a.conflicts...)
	}
	sub, err := s.submission(call, a)
	if err != nil {
		return nil, err
	}
	sub.Idempotency = idem
	sub.Trace = telemetry.PackTrace(call.trace())
	d := &draft{audience: a, submission: sub, repeats: call.Repeats != ""}
	if d.repeats {
		sub.Idempotency = idempotencyOf(token, call.Repeats, body)
	}
	if call.key == nil {
		return d, nil
	}
	key, err := s.sealKey(call.key)
	if err != nil {
		return nil, err
	}
	d.take(key, call.key.Pin)
	return d, nil
}

// submit gives a draft to the store and returns the answer, and whether that is the answer of an earlier call.
func (s *server) submit(ctx context.Context, d *draft) (answer accepted, replayed bool, err error) {
	if d.key == nil {
		if err := s.hasKey(ctx, d.submission.KeyID); err != nil {
			return answer, false, err
		}
	}
	if len(d.audience.deliveries) == 0 {
		return answer, false, d.audience.noneAccepted(nil)
	}
	receipt, err := s.enqueue(ctx, d)
	if d.repeats && errors.Is(err, queue.ErrIdempotencyMismatch) {
		return answer, false, invalid("body.idempotency_key", otherBytes)
	}
	if err != nil {
		return answer, false, fmt.Errorf("enqueue: %w", err)
	}
	if receipt.ID == "" {
		return answer, false, d.audience.noneAccepted(receipt.Refused)
	}
	if !receipt.Replayed {
		s.Metrics.accepted(receipt.Accepted)
	}
	answer, err = acceptedOf(receipt)
	return answer, receipt.Replayed, err
}

// take has the draft's activity signed by the key that came with it.
func (d *draft) take(key queue.Key, pin bool) {
	d.key, d.submission.KeyID = &key, key.ID
	if pin {
		d.submission.Pin = key.Fingerprint
	}
}

// enqueue stores a draft, and before it the key that came with it. A call that repeats an earlier one stores no key, as
// another may have been put since: a submission without recipients only finds the receipt.
func (s *server) enqueue(ctx context.Context, d *draft) (queue.Receipt, error) {
	if d.key == nil {
		return s.Queue.Enqueue(ctx, d.submission)
	}
	if d.submission.Idempotency.Key != [32]byte{} {
		repeated := *d.submission
		repeated.Recipients = nil
		if receipt, err := s.Queue.Enqueue(ctx, &repeated); err != nil || receipt.Replayed {
			return receipt, err
		}
	}
	if err := s.storeKey(ctx, *d.key, d.submission.Pin != ""); err != nil {
		return queue.Receipt{}, err
	}
	return s.Queue.Enqueue(ctx, d.submission)
}

func (s *server) hasKey(ctx context.Context, id string) error {
	_, err := s.Queue.Key(ctx, id, "")
	if errors.Is(err, queue.ErrNotFound) {
		return invalid("body.key_id", flaw{codeUnknownKey, "there is no such key"})
	}
	if err != nil {
		return fmt.Errorf("look up key: %w", err)
	}
	return nil
}

// submission makes the submission for the store. It holds the rejections too, for the answer to a repeated call.
func (s *server) submission(c *activityCall, a *audience) (*queue.Submission, error) {
	id, err := uuid.NewV7()
	if err != nil {
		return nil, fmt.Errorf("make an ID: %w", err)
	}
	var note []byte // most have nothing to note
	if len(a.rejected) > 0 {
		if note, err = json.Marshal(noted{a.rejected, a.more}); err != nil {
			return nil, fmt.Errorf("write the rejections: %w", err)
		}
	}
	key, refers := c.facts.orderingKey()
	role, object := c.facts.effect()
	return &queue.Submission{
		Activity: queue.Activity{
			ID: id.String(), URI: c.facts.id, Type: c.facts.kind, Actor: c.facts.actor, KeyID: c.KeyID, Priority: c.priority, Metadata: c.Metadata,
			OrderingKey: cmp.Or(c.OrderingKey, key), Refers: refers, Object: object, Role: role, Final: c.Final, Body: c.Activity,
		},
		Recipients: a.deliveries, TTL: cmp.Or(c.ttl, s.DeliveryTTL), Note: note,
	}, nil
}

// noted is the note of a submission: what was rejected before it reached the store.
type noted struct {
	Rejected []rejection `json:"rejected"`
	More     int         `json:"more,omitempty"`
}

// acceptedOf makes the answer from the receipt alone, so that a repeated call gets the same bytes.
func acceptedOf(r queue.Receipt) (accepted, error) {
	var before noted
	if len(r.Note) > 0 {
		if err := json.Unmarshal(r.Note, &before); err != nil {
			return accepted{}, fmt.Errorf("read the rejections of %s: %w", r.ID, err)
		}
	}
	all, more := refused(before.Rejected, r.Refused)
	return accepted{
		ID: r.ID, ActivityID: r.URI, Accepted: r.Accepted, Duplicates: r.Duplicates,
		Rejected: all, More: before.More + more, URL: activityURL(r.ID),
	}, nil
}

// idempotencyOf makes a call with a key harmless to repeat, for each caller on its own. Without one a call stands for
// itself, even if it has the bytes of an earlier one: a Follow after its Undo is a new wish.
func idempotencyOf(token, key string, body []byte) queue.Idempotency {
	if key == "" {
		return queue.Idempotency{}
	}
	return queue.Idempotency{Key: scoped(token, 'k', key), Fingerprint: sha256.Sum256(body)}
}

var (
	badIdempotencyKey = flaw{codeInvalidValue, "must be one value of 1 to 255 visible ASCII characters"}
	otherBytes        = flaw{codeIdempotencyMismatch, "was used with other bytes before"}
)

// idempotencyKey returns the Idempotency-Key of a request, "" if it has none.
func idempotencyKey(r *http.Request) (string, error) {
	keys := r.Header.Values("Idempotency-Key")
	switch {
	case len(keys) == 0:
		return "", nil
	case len(keys) > 1 || checkIdempotencyKey(keys[0]) != flaw{}:
		return "", invalid("header.Idempotency-Key", badIdempotencyKey)
	}
	return keys[0], nil
}

// scoped is a digest that no other token, kind and value have.
func scoped(token string, kind byte, value string) [32]byte {
	text := binary.AppendUvarint(nil, uint64(len(token)))
	text = append(append(append(text, token...), kind), value...)
	return sha256.Sum256(text)
}

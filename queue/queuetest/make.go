package queuetest

import (
	"crypto/sha256"
	"fmt"
	"net/url"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

const (
	keyID = "https://app.example/users/alice#main-key"
	// second is the unit of time in cases, long enough on a busy machine: what is due in a second is surely not due at
	// once, nor still waiting after passing.
	second  = 2 * time.Second
	passing = second + second/10
	ttl     = 72 * time.Hour // of deliveries
)

// submission is an activity with the URI given, to inboxes; an inbox may be a host alone.
func submission(uri string, inboxes ...string) *queue.Submission {
	id := uuid.Must(uuid.NewV7()).String()
	body := fmt.Appendf(nil, `{"id":%q,"type":"Create"}`, uri)
	s := &queue.Submission{
		Activity: queue.Activity{
			ID: id, URI: uri, Type: "Create", KeyID: keyID, OrderingKey: uri, Priority: queue.Normal, Body: body,
		},
		TTL:         ttl,
		Idempotency: queue.Idempotency{Key: sha256.Sum256([]byte(id)), Fingerprint: sha256.Sum256(body)},
	}
	for _, inbox := range inboxes {
		s.Recipients = append(s.Recipients, recipient(inbox))
	}
	return s
}

func recipient(inbox string) queue.Recipient {
	if u, err := url.Parse(inbox); err == nil && u.Host != "" {
		return queue.Recipient{Inbox: inbox, Host: u.Host}
	}
	return queue.Recipient{Inbox: "https://" + inbox + "/inbox", Host: inbox}
}

// hosts are n host names, in the order of their names.
func hosts(prefix string, n int) []string {
	names := make([]string, n)
	for i := range names {
		names[i] = fmt.Sprintf("%s%04d.example", prefix, i)
	}
	return names
}

// The ways to change a submission.

func ordering(key string) func(*queue.Submission) {
	return func(s *queue.Submission) { s.OrderingKey = key }
}

func priority(p queue.Priority) func(*queue.Submission) {
	return func(s *queue.Submission) { s.Priority = p }
}

func lasting(ttl time.Duration) func(*queue.Submission) {
	return func(s *queue.Submission) { s.TTL = ttl }
}

func traced(trace string) func(*queue.Submission) {
	return func(s *queue.Submission) { s.Trace = []byte(trace) }
}

func alsoTo(inboxes ...string) func(*queue.Submission) {
	return func(s *queue.Submission) {
		for _, inbox := range inboxes {
			s.Recipients = append(s.Recipients, recipient(inbox))
		}
	}
}

func uris(ds []queue.Delivery) []string {
	names := make([]string, len(ds))
	for i, d := range ds {
		names[i] = d.Activity.URI
	}
	return names
}

// The results that a delivery may have.

func delivered(d queue.Delivery) queue.Result {
	return queue.Result{ID: d.ID, Verdict: queue.Delivered, Spent: true, Attempt: attempt("delivered", 202)}
}

func retry(d queue.Delivery, after time.Duration) queue.Result {
	return queue.Result{ID: d.ID, Verdict: queue.Retry, After: after, Spent: true, Attempt: attempt("server_error", 500)}
}

func hostFailed(d queue.Delivery, after time.Duration) queue.Result {
	r := retry(d, after)
	r.HostFailed = true
	return r
}

func deferred(d queue.Delivery, after time.Duration) queue.Result {
	return queue.Result{ID: d.ID, Verdict: queue.Defer, After: after}
}

func waitKey(d queue.Delivery) queue.Result {
	return queue.Result{ID: d.ID, Verdict: queue.Defer, WaitKey: true}
}

func dead(d queue.Delivery, why queue.Reason) queue.Result {
	return queue.Result{ID: d.ID, Verdict: queue.Dead, Reason: why, Spent: true, Attempt: attempt("rejected", 403)}
}

// attempt is the description of an attempt made just now.
func attempt(outcome string, status int) *queue.LastAttempt {
	return &queue.LastAttempt{
		At: time.Now().UTC().Truncate(time.Millisecond), Status: status, Outcome: outcome, Error: "refused", Duration: 25 * time.Millisecond,
	}
}

// healthy is the record of a host whose last attempt succeeded.
func healthy() queue.HostRecord {
	return queue.HostRecord{Breaker: breaker.Record{LastSuccess: time.Now().UTC().Truncate(time.Millisecond)}}
}

// failing is the record of a host whose last attempt failed, with its breaker in the state given.
func failing(state breaker.State) queue.HostRecord {
	r := healthy()
	r.Breaker.Failed = true
	r.Breaker.Failures = 3
	r.Breaker.State = state
	return r
}

func letterURIs(letters []queue.DeadLetter) []string {
	names := make([]string, len(letters))
	for i, d := range letters {
		names[i] = d.URI
	}
	return names
}

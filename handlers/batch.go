package handlers

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"net/http"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/postrider/postrider/queue"
)

const (
	maxLines     = 1000
	linesAtOnce  = 64          // given to the store at one time, which writes them together
	batchTimeout = time.Minute // for the whole batch, once it was read
	fewInboxes   = 16          // up to so many are compared one by one
)

// lineAccepted is the answer to a line that was accepted.
type lineAccepted struct {
	Status   int  `json:"status" enum:"202"`
	Replayed bool `json:"replayed,omitempty" doc:"it is the answer of an earlier call with this idempotency key: nothing was stored"`
	AcceptedView
}

// lineProblem is the answer to a line that was not.
type lineProblem struct {
	*ProblemView
	RetryAfter int `json:"retry_after,omitempty" doc:"in how many seconds to come again"`
}

// line is one call of a batch.
type line struct {
	*lineResult
	draft  *draft  // nil if the call has a fault of its own
	before []*line // the calls that have to be accepted first
}

// lineResult is what came of a line. It outlives the call's bytes, which wait for no client that is slow to read its
// answers.
type lineResult struct {
	done   chan struct{} // closed once answer or err is there
	answer lineAccepted
	err    error
}

// postBatch is POST /v1/activities/batch: a call a line in, an answer a line out, in the same order.
func (s *server) postBatch(w http.ResponseWriter, r *http.Request) {
	body, release, err := s.bodies.read(w, r, maxCall, lineTypes)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	texts, err := splitLines(body)
	keys, badKey := lineKeys(r)
	if err = cmp.Or(err, badKey); err != nil {
		release()
		s.fail(w, r, err)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), batchTimeout)
	defer cancel()
	ctx = trace.ContextWithSpanContext(queue.WithCaller(ctx, visitOf(r).token), traceOf(r))
	lines := make(chan *lineResult, len(texts))
	go func() {
		defer close(lines)
		defer release()
		s.work(ctx, texts, visitOf(r).token, keys, lines)
	}()
	w.Header().Set("Content-Type", lineTypes[0])
	w.WriteHeader(http.StatusOK)
	for l := range lines {
		<-l.done
		if err := encode(w, l.result(visitOf(r))); err != nil {
			cancel() // the client is gone or stuck, and would not read more
		}
	}
}

// splitLines returns the lines of a batch. Each has a place in the answer, so a blank one counts, and is no call.
func splitLines(body []byte) ([][]byte, error) {
	const end = "\n"
	text := bytes.TrimSuffix(body, []byte(end))
	switch {
	case len(body) == 0:
		return nil, invalid("body", flaw{codeEmpty, "holds no call"})
	case bytes.Count(text, []byte(end)) >= maxLines: // before they take room
		return nil, invalid("body", flaw{codeTooMany, "more than 1000 lines"})
	}
	return bytes.Split(text, []byte(end)), nil
}

// lineKeys returns a function that makes a line harmless to repeat, if the batch has an Idempotency-Key: under that key
// and its number in the batch. A line with a key of its own needs none.
func lineKeys(r *http.Request) (func(i int, text []byte) queue.Idempotency, error) {
	key, err := idempotencyKey(r)
	if err != nil {
		return nil, err
	}
	token := visitOf(r).token
	return func(i int, text []byte) queue.Idempotency {
		if key == "" {
			return queue.Idempotency{}
		}
		// A space is in no key.
		return queue.Idempotency{Key: scoped(token, 'l', key+" "+strconv.Itoa(i)), Fingerprint: sha256.Sum256(text)}
	}, nil
}

// work gives the lines of a batch to the store, many at one time, sends their outcomes on in order, which must not have
// to wait, and returns when all are done.
func (s *server) work(
	ctx context.Context, texts [][]byte, token string, keys func(int, []byte) queue.Idempotency, lines chan<- *lineResult,
) {
	var working sync.WaitGroup
	defer working.Wait()
	slots := make(chan struct{}, linesAtOnce)
	var open []*line // those that later ones may have to wait for
	for i, text := range texts {
		slots <- struct{}{}
		l := &line{lineResult: &lineResult{done: make(chan struct{})}}
		s.guard(l, func() { l.draft, l.err = s.draft(text, token, keys(i, text)) })
		if l.err == nil {
			open = slices.DeleteFunc(open, (*line).accepted)
			l.before = l.among(open)
			open = append(open, l)
		}
		working.Go(func() {
			defer func() { <-slots }()
			defer close(l.done)
			defer s.traceLine(ctx, l)()
			s.guard(l, func() { s.submitLine(ctx, l) })
		})
		lines <- l.lineResult
	}
}

// guard makes an error of a panic, which outside of the request's own goroutine would end the program.
func (s *server) guard(l *line, do func()) {
	defer func() {
		if cause := recover(); cause != nil {
			s.logPanic(cause, debug.Stack())
			l.err = ownFault()
		}
	}()
	do()
}

// submitLine gives a line to the store when those before it are accepted. If one of these failed because the store
// could not take it, the line fails too: the client repeats both, in their order.
func (s *server) submitLine(ctx context.Context, l *line) {
	if l.err != nil {
		return
	}
	for _, first := range l.before {
		if <-first.done; first.failed() {
			l.err = fmt.Errorf("wait for an earlier line: %w", first.err)
			return
		}
	}
	l.before = nil // or the last line would keep all those before it
	l.answer.Status = http.StatusAccepted
	l.answer.AcceptedView, l.answer.Replayed, l.err = s.submit(ctx, l.draft)
}

// accepted reports whether a line has been accepted, or refused for its own fault, so that none has to wait for it.
func (l *line) accepted() bool {
	select {
	case <-l.done:
		return !l.failed()
	default:
		return false
	}
}

// failed reports whether the store could not take a line that is done.
func (l *line) failed() bool {
	return l.err != nil && problemOf(l.err).transient()
}

// among returns the lines that have to be accepted before this one.
func (l *line) among(open []*line) (before []*line) {
	for _, other := range open {
		if sameKey(other.draft, l.draft) || inOrder(other.draft.submission, l.draft.submission) {
			before = append(before, other)
		}
	}
	return before
}

// sameKey reports whether one of two calls puts the key that the other is signed by.
func sameKey(a, b *draft) bool {
	return (a.key != nil || b.key != nil) && a.submission.KeyID == b.submission.KeyID
}

// inOrder reports whether it may matter which of two submissions is accepted first. Those of one ordering key to one
// inbox go out in the order accepted. A reference to another activity may stand for any ordering key. A Delete counts
// for what was accepted before it, to any inbox.
func inOrder(a, b *queue.Submission) bool {
	switch {
	case deletesByName(a) || deletesByName(b):
		return true
	case a.Object != "" && a.Object == b.Object && a.Role != b.Role && (deletes(a) || deletes(b)):
		return true
	case a.OrderingKey == b.OrderingKey || a.Refers != "" || b.Refers != "":
		return mayShareInbox(a.Recipients, b.Recipients)
	}
	return false
}

// deletes reports whether a submission deletes its object, or takes that back.
func deletes(s *queue.Submission) bool { return s.Role == queue.Deletes || s.Role == queue.Restores }

// deletesByName reports whether a submission undoes a Delete that it names by its ID only.
func deletesByName(s *queue.Submission) bool { return s.Role == queue.Restores && s.Object == "" }

// mayShareInbox reports whether an inbox may be among both. With many recipients it does not look.
func mayShareInbox(a, b []queue.Recipient) bool {
	if len(a) > fewInboxes || len(b) > fewInboxes {
		return true
	}
	return slices.ContainsFunc(a, func(to queue.Recipient) bool {
		return slices.ContainsFunc(b, func(other queue.Recipient) bool { return other.Inbox == to.Inbox })
	})
}

// result returns the answer to a line that is done. It notes the first error that is not the client's for the log.
func (l *lineResult) result(v *visit) any {
	if l.err == nil {
		return l.answer
	}
	p := problemOf(l.err)
	p.name()
	if p.Status >= http.StatusInternalServerError && v.err == nil {
		v.err = l.err
	}
	return lineProblem{ProblemView: p, RetryAfter: int(p.retryAfter / time.Second)}
}

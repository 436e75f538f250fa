package delivery

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strconv"
	"time"

	"github.com/postrider/postrider/internal/resolver"
	"github.com/postrider/postrider/queue"
)

// faultPause is how long a delivery waits after a fault of our own.
const faultPause = 15 * time.Second

// panicPause is how long a delivery waits whose attempts panic again and again: it is set aside, and may go out after a
// restart with a version that does not panic.
const panicPause = 6 * time.Hour

// faultPause returns how long a delivery waits after a fault, and logs one that was a panic. Of panics that follow each
// other closely, the log shows the stack of the first. The pause is short where the node's name servers are away:
// another node may have better ones, and this one begins nothing before its own are back.
func (p *Pool) faultPause(a *attempt) time.Duration {
	err, ok := errors.AsType[*panicError](a.answer.Err)
	switch {
	case errors.Is(a.answer.Err, resolver.ErrAway):
		return namelessPause
	case !ok:
		return faultPause
	}
	pause := faultPause
	if p.panicked.has(a.delivery.ID) {
		pause = panicPause
	}
	p.panicked.add(a.delivery.ID)
	attrs := []any{"activity", a.delivery.Activity.ID, "delivery", a.delivery.ID, "inbox", a.delivery.Inbox,
		"error", shownError(err), "retry_at", time.Now().Add(pause)}
	if before, open := p.logSampler.Allow("attempt.panic"); open {
		attrs = append(attrs, "stack", string(err.stack), "stacks_suppressed", before)
	}
	p.Log.Error("attempt.panic", attrs...)
	return pause
}

// result gives the attempt's permit back and says what becomes of its delivery and, in s, of the lane.
func (t *turn) result(a *attempt, s *queue.Settlement) queue.Result {
	if a.outcome == OutcomeThrottled {
		t.countThrottle()
	}
	a.permit.Done(t.verdict(a))
	if a.answer.Status != 0 {
		t.breaker.Took(a.took)
	}
	r := queue.Result{ID: a.delivery.ID, Attempt: a.record()}
	t.note(a, r.Attempt)
	switch o := a.outcome; {
	case o == OutcomeDelivered:
		r.Verdict = queue.Delivered
		r.Spent = true
		t.alive(a)
	case o.reason() != "":
		r.Verdict = queue.Dead
		r.Reason = o.reason()
		r.Spent = true
		if o != OutcomePrivateAddress {
			t.alive(a)
		}
	case o == OutcomeThrottled:
		r.Verdict = queue.Defer
		t.throttled(a, s)
	case o == OutcomeKeyMissing:
		r.Verdict, r.WaitKey = queue.Defer, true
	case o == OutcomeFault:
		r.Verdict, r.After = queue.Defer, t.pool.faultPause(a)
		if t.host.Probed() { // a probe doesn't wait for the delivery's own time
			s.Wait = max(s.Wait, r.After)
		}
	case o == OutcomeAborted:
		r.Verdict, r.Attempt = queue.Defer, nil
		t.stop = true
	case o == OutcomeUnreachable, o == OutcomeServerError:
		t.retry(a, &r)
	default:
		t.alive(a)
		t.retry(a, &r)
	}
	a.end(&r)
	return r
}

// end makes a dead letter of a delivery whose app takes the answer for final, even if it is a failure of the host.
func (a *attempt) end(r *queue.Result) {
	if !slices.Contains(a.delivery.Activity.Final, a.answer.Status) {
		return
	}
	r.Verdict = queue.Dead
	r.Reason = queue.ReasonRejected
	r.Spent = true
	r.After = 0
	r.HostFailed = false
}

// retry tries again on the schedule, or makes a dead letter of a delivery that used up its attempts. A probe made
// before the delivery's own time tests the host: if it fails, it spends none of the delivery's attempts.
func (t *turn) retry(a *attempt, r *queue.Result) {
	hostFailed := a.outcome == OutcomeUnreachable || a.outcome == OutcomeServerError
	if a.delivery.Early && hostFailed {
		r.Verdict = queue.Defer
		return
	}
	r.Spent = true
	n := a.delivery.Attempts + 1
	if n >= t.pool.Schedule.Attempts(a.delivery.Activity.Priority) {
		r.Verdict, r.Reason = queue.Dead, queue.ReasonExhausted
		return
	}
	r.Verdict = queue.Retry
	r.After = t.pool.Schedule.Wait(n)
	r.HostFailed = hostFailed
}

// record describes the attempt for the API.
func (a *attempt) record() *queue.LastAttempt {
	l := &queue.LastAttempt{At: a.began.UTC(), Status: a.answer.Status, Outcome: string(a.outcome), Duration: a.took}
	if a.outcome == OutcomeDelivered {
		return l
	}
	l.Error = a.answer.Excerpt
	if a.answer.Err != nil {
		l.Error = shownError(a.answer.Err) // it may hold text that the host sent: of its certificate, of a broken head
	}
	return l
}

// publish publishes that a delivery arrived. The store itself tells what else became of it.
func (t *turn) publish(a *attempt, r queue.Result) {
	if r.Verdict != queue.Delivered {
		return
	}
	d := &a.delivery
	t.pool.Queue.Publish(queue.Event{
		Kind: queue.EventDelivered, At: time.Now().UTC(), Host: t.held.Host, ID: d.ID, ActivityID: d.Activity.ID, URI: d.Activity.URI,
		Metadata: d.Activity.Metadata, Inbox: d.Inbox, IDs: d.IDs, Attempts: d.Attempts + 1, Attempt: r.Attempt,
	})
}

// faultLevel is error for the first of many faults of ours, and for one in a while: all attempts may have the same one.
func (p *Pool) faultLevel() slog.Level {
	if _, open := p.logSampler.Allow("fault"); open {
		return slog.LevelError
	}
	return slog.LevelDebug
}

// report counts and logs an attempt: one line each. A delivery that succeeds at once gets only a debug line.
func (p *Pool) report(a *attempt, r queue.Result) {
	p.Metrics.attempt(a.outcome)
	p.Metrics.duration.Observe(a.took.Seconds())
	if a.answer.Status != 0 {
		p.Metrics.connections.WithLabelValues(strconv.FormatBool(a.answer.Reused)).Inc()
	}
	if r.Verdict == queue.Delivered {
		p.Metrics.delivered(a)
	}
	level := slog.LevelInfo
	switch {
	case r.Verdict == queue.Dead:
		p.Metrics.dead.WithLabelValues(string(r.Reason)).Inc()
		level = slog.LevelWarn
	case a.outcome == OutcomeFault:
		level = p.faultLevel()
	case a.outcome == OutcomeDelivered && a.delivery.Attempts == 0, a.outcome == OutcomeAborted:
		level = slog.LevelDebug
	}
	ctx := context.Background()
	if !p.Log.Enabled(ctx, level) {
		return
	}
	d := &a.delivery
	attrs := []slog.Attr{
		slog.String("activity", d.Activity.ID), slog.String("activity_uri", shown(d.Activity.URI)),
		slog.String("delivery", d.ID), slog.String("inbox", d.Inbox),
		slog.Int("attempt", d.Attempts+1), slog.Int("status", a.answer.Status), slog.String("outcome", string(a.outcome)),
		slog.Float64("duration_ms", float64(a.took.Microseconds())/1000),
	}
	if id := a.traceID(); id != "" {
		attrs = append(attrs, slog.String("trace_id", id))
	}
	if r.After > 0 {
		attrs = append(attrs, slog.Time("retry_at", time.Now().Add(r.After)))
	}
	if r.Reason != "" {
		attrs = append(attrs, slog.String("reason", string(r.Reason)))
	}
	if l := r.Attempt; l != nil && l.Error != "" {
		attrs = append(attrs, slog.String("error", l.Error))
	}
	p.Log.LogAttrs(ctx, level, "delivery.attempt", attrs...)
}

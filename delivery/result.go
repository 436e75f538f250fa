package delivery

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/postrider/postrider/queue"
)

// faultPause is how long a delivery waits after a fault of our own.
const faultPause = 15 * time.Second

// result gives the attempt's permit back and says what shall become of its delivery, and of the lane in s.
func (t *turn) result(a *attempt, s *queue.Settlement) queue.Result {
	verdict := a.outcome.verdict(a.answer.TimedOut)
	a.permit.Done(verdict)
	r := queue.Result{ID: a.delivery.ID, Attempt: a.record()}
	switch o := a.outcome; {
	case o == OutcomeDelivered:
		r.Verdict = queue.Delivered
		t.alive(a)
	case o.reason() != "":
		r.Verdict, r.Reason, r.Spent = queue.Dead, o.reason(), true
		if o != OutcomePrivateAddress {
			t.alive(a)
		}
	case o == OutcomeThrottled:
		r.Verdict = queue.Defer
		t.throttled(a, s)
	case o == OutcomeKeyMissing:
		r.Verdict, r.WaitKey = queue.Defer, true
	case o == OutcomeFault:
		r.Verdict, r.After = queue.Defer, faultPause
		if t.host.Probed() { // a probe doesn't wait for the delivery's own time
			s.Wait = max(s.Wait, faultPause)
		}
	case o == OutcomeAborted:
		r.Verdict, r.Attempt = queue.Defer, nil
	case o == OutcomeUnreachable, o == OutcomeServerError:
		t.host.LastError = r.Attempt
		t.retry(a, &r)
	default:
		t.alive(a)
		t.retry(a, &r)
	}
	return r
}

// alive notes that the host answered.
func (t *turn) alive(a *attempt) {
	t.host.Throttles = 0
	switch {
	case a.scheme != "":
		t.host.Scheme = string(a.scheme)
	case a.answer.Status == http.StatusUnauthorized, a.answer.Status == http.StatusBadRequest:
		t.host.Scheme = "" // it may have stopped to work: knock with both again
	}
}

// throttled makes the lane wait as long as the host asked, or as the schedule says.
func (t *turn) throttled(a *attempt, s *queue.Settlement) {
	t.host.Throttles++
	t.host.LastError = a.record()
	wait := retryAfter(a.answer, time.Now())
	t.asked = later(t.asked, time.Now().Add(wait))
	if wait <= 0 {
		wait = t.pool.Schedule.Wait(t.host.Throttles)
	}
	if t.host.Unavailable { // it is probed daily, however soon it wants to be asked again
		wait = max(wait, t.daily())
	}
	s.Wait = max(s.Wait, wait)
	t.stop = true
}

// retry tries again on the schedule, or buries a delivery that used up its attempts. A probe made before the delivery's
// own time was the host's affair: if it fails, it costs the delivery nothing.
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
	r.Verdict, r.After, r.HostFailed = queue.Retry, t.pool.Schedule.Wait(n), hostFailed
}

// record describes the attempt for whoever asks.
func (a *attempt) record() *queue.LastAttempt {
	l := &queue.LastAttempt{At: a.began.UTC(), Status: a.answer.Status, Outcome: string(a.outcome), Duration: a.took}
	if a.outcome == OutcomeDelivered {
		return l
	}
	l.Error = a.answer.Line
	if a.answer.Err != nil {
		l.Error = a.answer.Err.Error()
	}
	return l
}

// tell tells those who watch that a delivery has ended.
func (t *turn) tell(a *attempt, r queue.Result) {
	kind := queue.EventDelivered
	switch r.Verdict {
	case queue.Delivered:
	case queue.Dead:
		kind = queue.EventDead
	default:
		return
	}
	d := &a.delivery
	t.pool.Queue.Tell(queue.Event{
		Kind: kind, At: time.Now().UTC(), Host: t.held.Host, ID: d.ID, ActivityID: d.Activity.ID, URI: d.Activity.URI,
		Inbox: d.Inbox, Reason: r.Reason, Attempts: d.Attempts + 1, Attempt: r.Attempt,
	})
}

// faultLevel is error for the first of many faults of ours, and for one in a while: all attempts may have the same one.
func (p *Pool) faultLevel() slog.Level {
	if _, open := p.seldom.Open("fault"); open {
		return slog.LevelError
	}
	return slog.LevelDebug
}

// report tells the metrics and the log of an attempt: one line each. A delivery that goes well at once is only worth a
// debug line.
func (p *Pool) report(a *attempt, r queue.Result) {
	p.Metrics.attempt(a.outcome)
	p.Metrics.duration.Observe(a.took.Seconds())
	if a.answer.Status != 0 {
		p.Metrics.connection(a.answer.Reused)
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
		slog.String("activity", d.Activity.ID), slog.String("delivery", d.ID), slog.String("inbox", d.Inbox),
		slog.Int("attempt", d.Attempts+1), slog.Int("status", a.answer.Status), slog.String("outcome", string(a.outcome)),
		slog.Float64("duration_ms", float64(a.took.Microseconds())/1000),
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

package delivery

import (
	"net/http"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

// note records what an attempt says of its host, beside what the breaker records: when it answered, whether it accepts
// or refuses, and its last error. described is the attempt. It comes after the attempt's permit was given back.
func (t *turn) note(a *attempt, described *queue.LastAttempt) {
	switch a.outcome {
	case OutcomeKeyMissing, OutcomeFault, OutcomeAborted:
		return // not the host's doing
	case OutcomeDelivered:
	default:
		t.host.LastError = described
	}
	if a.answer.Status == 0 {
		return
	}
	t.host.LastAnswer = t.answeredAt(a)
	switch {
	case a.outcome == OutcomeDelivered:
		t.host.LastSuccess, t.host.Refusals = t.host.LastAnswer, 0
	case refusal(a.answer.Status):
		t.host.Refusals++
	default:
		t.host.Refusals = 0
	}
}

// answeredAt returns when an answer came: the time that the breaker keeps where it keeps one, so that a host's record
// holds one time and not two that hardly differ.
func (t *turn) answeredAt(a *attempt) time.Time {
	switch a.outcome.verdict(a.answer.TimedOut) {
	case breaker.Alive, breaker.Slow:
		return t.breaker.Record().LastSuccess
	}
	return t.now().UTC()
}

// refusal reports whether an answer with this status refuses the sender, or anything that it sends. Redirects do, and
// client errors but for 404 and 410, which are about one inbox, and 429, which only asks to wait.
func refusal(status int) bool {
	switch status {
	case http.StatusNotFound, http.StatusGone, http.StatusTooManyRequests:
		return false
	}
	return status >= 300 && status <= 499
}

// keepRecent sets at back to known where it is hardly later, as that is not worth writing.
func keepRecent(at *time.Time, known time.Time) {
	if at.Sub(known) < answerStep {
		*at = known
	}
}

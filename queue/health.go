package queue

import "net/http"

// How a host takes what it is sent, beside whether it can be reached.

// RefusingAfter is how many refusals in a row make a host HostRefusing.
const RefusingAfter = 10

// Reached reports whether the host ever answered, whatever it said.
func (h *HostRecord) Reached() bool { return !h.LastAnswer.IsZero() || !h.Breaker.LastSuccess.IsZero() }

// Refusing reports whether the host refuses whatever it is sent.
func (h *HostRecord) Refusing() bool { return h.Refusals >= RefusingAfter }

// Throttled reports whether the host asked to wait when it was last sent something. While its lane still waits, it is
// HostThrottled.
func (h *HostRecord) Throttled() bool { return h.Throttles > 0 }

// AnswerKind is how a host answered last.
type AnswerKind uint8

// The ways in which a host may have answered last.
const (
	AnsweredNever        AnswerKind = iota
	AnsweredAccepted                // with a 2xx
	AnsweredUnauthorized            // with a 401, and with refusals at least unauthorizedAfter times in a row
	AnsweredOther
	AnswerKinds = 4 // how many there are
)

// unauthorizedAfter keeps a 401 in passing from counting.
const unauthorizedAfter = 3

// AnswerKind returns how the host answered last.
func (h *HostRecord) AnswerKind() AnswerKind {
	switch {
	case h.LastAnswer.IsZero():
		return AnsweredNever
	case !h.LastSuccess.Before(h.LastAnswer):
		return AnsweredAccepted
	case h.Refusals >= unauthorizedAfter && h.LastError != nil && h.LastError.Status == http.StatusUnauthorized:
		return AnsweredUnauthorized
	}
	return AnsweredOther
}

// Warning is something about the whole store that an operator should look at.
type Warning struct{ Code, Message string }

// WarnUnauthorized is the code of the warning that most hosts answer 401 and none accepts anything.
const WarnUnauthorized = "most_hosts_unauthorized"

// Warnings returns what the totals say that an operator should look at.
func (s *Stats) Warnings() []Warning {
	refuse := s.Answers[AnsweredUnauthorized]
	if s.Answers[AnsweredAccepted] > 0 || refuse <= s.Answers[AnsweredOther] {
		return nil
	}
	return []Warning{{
		Code:    WarnUnauthorized,
		Message: "most hosts answer 401 and none accepts: check that receivers can fetch your public key",
	}}
}

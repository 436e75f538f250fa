package redisq

import (
	"encoding/binary"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

// storedAnswers is what a record says of a host's answers, as it is stored. Of most hosts the last answer is their last
// success and what their breaker has as such: Same stands for these times.
type storedAnswers struct {
	Refusals    int   `json:"refusals,omitempty"`
	Same        int   `json:"ok,omitempty"` // 1 if it is so
	LastAnswer  int64 `json:"answer,omitempty"`
	LastSuccess int64 `json:"accepted,omitempty"`
}

func storeAnswers(r *queue.HostRecord) storedAnswers {
	s := storedAnswers{Refusals: r.Refusals, LastAnswer: since2025(r.LastAnswer), LastSuccess: since2025(r.LastSuccess)}
	if alive := since2025(r.Breaker.LastSuccess); alive != 0 && s.LastAnswer == alive && s.LastSuccess == alive {
		s.Same = 1
		s.LastAnswer = 0
		s.LastSuccess = 0
	}
	return s
}

// restore undoes storeAnswers. The breaker's record must be there.
func (s storedAnswers) restore(r *queue.HostRecord) {
	r.Refusals = s.Refusals
	r.LastAnswer = after2025(s.LastAnswer)
	r.LastSuccess = after2025(s.LastSuccess)
	if s.Same != 0 {
		r.LastAnswer = r.Breaker.LastSuccess
		r.LastSuccess = r.Breaker.LastSuccess
	}
}

// Flags are what scripts know of a record; see lane.lua, f.
const (
	isGood = 1 << iota
	isProbing
	isUnavailable
	isFailed
	isRefusing
	isThrottled
	answerKind // and what is above it
)

func recordFlags(r *queue.HostRecord) (f int) {
	for flag, is := range map[int]bool{
		isGood: !r.Breaker.Suspect(), isProbing: r.Probed(),
		isUnavailable: r.Unavailable, isFailed: r.Breaker.Failed, isRefusing: r.Refusing(), isThrottled: r.Throttled(),
	} {
		if is {
			f |= flag
		}
	}
	return f + answerKind*int(r.AnswerKind())
}

// storedRecord is a host's record as it is stored, but for its last error. Times are ms since 2025, 0 for none.
type storedRecord struct {
	State       breaker.State `json:"state,omitempty"`
	Failures    int           `json:"failures,omitempty"`
	Trips       int           `json:"trips,omitempty"`
	Window      int           `json:"window,omitempty"`
	Days        []int32       `json:"days,omitempty"`
	Failed      bool          `json:"failed,omitempty"`
	OpenedAt    int64         `json:"opened_at,omitempty"`
	LastSuccess int64         `json:"last_success,omitempty"`
	Scheme      string        `json:"scheme,omitempty"`
	Throttles   int           `json:"throttles,omitempty"`
	Unavailable bool          `json:"unavailable,omitempty"`
	Doubts      int           `json:"doubts,omitempty"`
	DoubtedAt   int64         `json:"doubted_at,omitempty"`
	RefusedAt   int64         `json:"refused_at,omitempty"`
	Slow        int           `json:"slow,omitempty"`
	storedAnswers
}

// shrinkRecord returns a host's record as scripts have it, but for its epoch, which is the store's.
func shrinkRecord(r *queue.HostRecord) string {
	b := &r.Breaker
	return joinRecord(shrunk+compress(storedRecord{
		b.State, b.Failures, b.Trips, b.Window, b.Days, b.Failed, since2025(b.OpenedAt), since2025(b.LastSuccess),
		r.Scheme, r.Throttles, r.Unavailable, r.Doubts, since2025(r.DoubtedAt), since2025(r.RefusedAt), b.Slow, storeAnswers(r),
	}), shrinkAttempt(r.LastError))
}

// joinRecord makes a record as scripts have it of what they store: the length of it but for its last error, that, and the
// last error.
func joinRecord(text, failure string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(len(text)))) + text + failure // some dozens
}

// record undoes shrinkRecord. A host that nothing is known of has none.
func record(text string, epoch int64) (queue.HostRecord, error) {
	r := queue.HostRecord{Epoch: epoch}
	if text == "" {
		return r, nil
	}
	if len(text) < 2 {
		return r, errShrunk
	}
	end := 2 + int(binary.BigEndian.Uint16([]byte(text)))
	if end < 3 || len(text) < end || text[2:3] != shrunk {
		return r, errShrunk
	}
	var s storedRecord
	if err := decompress(text[3:end], &s); err != nil {
		return r, err
	}
	r.Breaker = breaker.Record{
		State: s.State, Failures: s.Failures, Trips: s.Trips, Window: s.Window, Days: s.Days, Failed: s.Failed,
		OpenedAt: after2025(s.OpenedAt), LastSuccess: after2025(s.LastSuccess), Slow: s.Slow,
	}
	r.Scheme = s.Scheme
	r.Throttles = s.Throttles
	r.Unavailable = s.Unavailable
	r.Doubts = s.Doubts
	r.DoubtedAt = after2025(s.DoubtedAt)
	r.RefusedAt = after2025(s.RefusedAt)
	s.storedAnswers.restore(&r)
	var err error
	r.LastError, err = attemptOf(text[end:])
	return r, err
}

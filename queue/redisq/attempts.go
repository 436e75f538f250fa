package redisq

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/postrider/postrider/queue"
)

// The last attempt of a delivery is kept with it, in its lane or its dead letter. Those before it are in its activity's list,
// where they make no lane larger: few deliveries have any. Scripts move a last attempt there when a newer one comes; see
// keep_attempt in activity.lua.
//
// An attempt is stored as shrunk, when it began (ms since 1970, 6 bytes), how long it took (µs, 4 bytes), and how it went,
// compressed. Before the last one, two bytes with the length of that stand in place of the mark and behind the times; 0 is
// for one that went as the attempt after it did.
const (
	attemptTimes = 10               // bytes of both times
	attemptHead  = 1 + attemptTimes // bytes before how it went
	pastHead     = attemptTimes + 2 // the same of one before the last
)

// attemptResult is how an attempt went, as it is stored, in the order of what the phrases have of it.
type attemptResult struct {
	Status  int    `json:"status,omitempty"`
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"`
}

func resultOf(a *queue.LastAttempt) attemptResult { return attemptResult{a.Status, a.Outcome, a.Error} }

// shrinkAttempt returns a last attempt as it is stored, "" for none.
func shrinkAttempt(a *queue.LastAttempt) string {
	if a == nil {
		return ""
	}
	return shrunk + times(a) + compress(resultOf(a))
}

// times returns when an attempt was made and how long it took, as that is stored.
func times(a *queue.LastAttempt) string {
	b := make([]byte, 8, 8+4)
	if !a.At.IsZero() {
		binary.BigEndian.PutUint64(b, uint64(max(0, a.At.UnixMilli()))) // it is not negative
	}
	took := min(max(0, a.Duration.Microseconds()), math.MaxUint32)
	return string(binary.BigEndian.AppendUint32(b, uint32(took))[2:]) // it is no more
}

// attemptOf undoes shrinkAttempt.
func attemptOf(text string) (*queue.LastAttempt, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // none is an answer
	}
	if len(text) < attemptHead || text[:1] != shrunk {
		return nil, errShrunk
	}
	return readAttempt(text[1:attemptHead], text[attemptHead:])
}

func readAttempt(times, result string) (*queue.LastAttempt, error) {
	var r attemptResult
	if err := decompress(result, &r); err != nil {
		return nil, err
	}
	a := &queue.LastAttempt{Status: r.Status, Outcome: r.Outcome, Error: r.Error}
	a.At, a.Duration = readTimes(times)
	return a, nil
}

// readTimes undoes times.
func readTimes(text string) (at time.Time, took time.Duration) {
	b := append([]byte{0, 0}, text...)
	if ms := int64(binary.BigEndian.Uint64(b)); ms != 0 { // it has 48 bits
		at = time.UnixMilli(ms).UTC()
	}
	return at, time.Duration(binary.BigEndian.Uint32(b[8:])) * time.Microsecond
}

// pastOf returns the attempts before the last one as they are stored.
func pastOf(h queue.History) (past string) {
	for i := 1; i < len(h); i++ {
		result := ""
		if resultOf(&h[i]) != resultOf(&h[i-1]) {
			result = compress(resultOf(&h[i]))
		}
		past += times(&h[i]) + string(binary.BigEndian.AppendUint16(nil, uint16(len(result)))) + result // errors are short
	}
	return past
}

// historyOf returns the history of a delivery with a last attempt, nil if there is none, and others before it.
func historyOf(last *queue.LastAttempt, past string) (queue.History, error) {
	if last == nil {
		return nil, nil
	}
	h := queue.History{*last}
	for past != "" {
		if len(past) < pastHead || len(past) < pastHead+int(binary.BigEndian.Uint16([]byte(past[attemptTimes:]))) {
			return h, errShrunk
		}
		end := pastHead + int(binary.BigEndian.Uint16([]byte(past[attemptTimes:])))
		a := h[len(h)-1] // it went like this one, if nothing else is said
		a.At, a.Duration = readTimes(past[:attemptTimes])
		if end > pastHead {
			read, err := readAttempt(past[:attemptTimes], past[pastHead:end])
			if err != nil {
				return h, err
			}
			a = *read
		}
		h = append(h, a)
		past = past[end:]
	}
	return h, nil
}

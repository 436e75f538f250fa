package redisq

import (
	"encoding/binary"
	"errors"
	"time"

	"github.com/klauspost/compress/s2"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

// Records of hosts and last attempts are stored by the hundred thousand, each as JSON that is compressed with what most of
// them have in common. So they take less than the 64 bytes up to which Redis keeps a lane in one piece of memory.

// phrases is what records and last attempts have in common, the most frequent last. What is stored can't be read
// without it: it may never change. Another one would need another mark than shrunk.
const phrases = `,"scheme":"rfc9421","throttles":1,"unavailable":true}` +
	`{"state":2,"failures":10,"trips":1,"window":16,"days":[20780],"failed":true,"scheme":"cavage","throttles":1}` +
	`,"status":400,"outcome":"unauthorized","error":"Bad Request"}` +
	`,"outcome":"unreachable","error":"tls: failed to verify certificate: x509: certificate has expired or is not yet valid: ` +
	`current time 2026-12-31T23:59:59Z is after 2026-12-31T23:59:59Z"}` +
	`"error":"tls: failed to verify certificate: x509: certificate is valid for example.org, not example.org"}` +
	`"error":"read tcp 10.0.0.1:443: read: connection reset by peer"}"error":"unexpected EOF"}` +
	`"error":"context deadline exceeded (Client.Timeout exceeded while awaiting headers)"}` +
	`"error":"dial tcp [2001:db8::1]:443: connect: no route to host"}` +
	`,"status":429,"outcome":"throttled","error":"Too Many Requests"}` +
	`,"status":502,"outcome":"server_error","error":"Bad Gateway"}` +
	`,"status":503,"outcome":"server_error","error":"Service Unavailable"}` +
	`,"outcome":"unreachable","error":"dial tcp: lookup social.example on 127.0.0.53:53: no such host"}` +
	`,"outcome":"unreachable","error":"dial tcp 127.0.0.1:443: i/o timeout"}` +
	`{"at":59712345678,"took":12345,"outcome":"unreachable","error":"dial tcp 127.0.0.1:443: connect: connection refused"}` +
	`{"state":1,"failures":10,"trips":1,"window":1,"days":[20780,20781,20782],"failed":true,"opened_at":59712345678,"last_success":59712345678,"scheme":"cavage"}` +
	`{"failures":1,"days":[20780],"failed":true}{"window":8,"last_success":59712345678,"scheme":"cavage"}`

// shrunk marks what was compressed with phrases.
const shrunk = "\x01"

var (
	dictionary = s2.MakeDict([]byte(phrases), []byte(`{"`))
	errShrunk  = errors.New("a stored record is not what it was written as")
)

// shrink returns v as few bytes, of which no first one is that of a delivery (see lane.lua).
func shrink(v any) (string, error) {
	text, err := encode(v, false)
	if err != nil {
		return "", err
	}
	return shrunk + string(dictionary.Encode(nil, []byte(text))), nil
}

// expand undoes shrink.
func expand(text string, v any) error {
	if text == "" || text[:1] != shrunk {
		return errShrunk
	}
	whole, err := dictionary.Decode(nil, []byte(text[1:]))
	if err != nil {
		return err
	}
	return decode(string(whole), v)
}

const year2025 = 1_735_689_600_000 // ms since the Unix epoch

// storedAttempt is a last attempt as it is stored, in the order of what the phrases have of it.
type storedAttempt struct {
	At      int64  `json:"at"`   // ms since 2025
	Took    int64  `json:"took"` // µs
	Status  int    `json:"status,omitempty"`
	Outcome string `json:"outcome"`
	Error   string `json:"error,omitempty"`
}

// shrinkAttempt returns a last attempt as it is stored, "" for none.
func shrinkAttempt(a *queue.LastAttempt) (string, error) {
	if a == nil {
		return "", nil
	}
	return shrink(storedAttempt{since2025(a.At), a.Duration.Microseconds(), a.Status, a.Outcome, a.Error})
}

// attemptOf undoes shrinkAttempt.
func attemptOf(text string) (*queue.LastAttempt, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // none is an answer
	}
	var a storedAttempt
	if err := expand(text, &a); err != nil {
		return nil, err
	}
	return &queue.LastAttempt{
		At: after2025(a.At), Status: a.Status, Outcome: a.Outcome, Error: a.Error,
		Duration: time.Duration(a.Took) * time.Microsecond,
	}, nil
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
}

func since2025(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli() - year2025
}

func after2025(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms + year2025).UTC()
}

// shrinkRecord returns a host's record as scripts have it, but for its epoch, which is the store's.
func shrinkRecord(r *queue.HostRecord) (string, error) {
	failure, err := shrinkAttempt(r.LastError)
	if err != nil {
		return "", err
	}
	b := &r.Breaker
	text, err := shrink(storedRecord{
		b.State, b.Failures, b.Trips, b.Window, b.Days, b.Failed, since2025(b.OpenedAt), since2025(b.LastSuccess),
		r.Scheme, r.Throttles, r.Unavailable,
	})
	return joinRecord(text, failure), err
}

// joinRecord makes a record as scripts have it of what they store: the length of it but for its last error, that, and the
// last error.
func joinRecord(text, failure string) string {
	return string(binary.BigEndian.AppendUint16(nil, uint16(len(text)))) + text + failure //nolint:gosec // some dozens
}

// record undoes shrinkRecord. A host of which nothing was learnt has none.
func record(text string, epoch int64) (queue.HostRecord, error) {
	r := queue.HostRecord{Epoch: epoch}
	if text == "" {
		return r, nil
	}
	if len(text) < 2 || len(text) < 2+int(binary.BigEndian.Uint16([]byte(text))) {
		return r, errShrunk
	}
	end := 2 + int(binary.BigEndian.Uint16([]byte(text)))
	var s storedRecord
	if err := expand(text[2:end], &s); err != nil {
		return r, err
	}
	r.Breaker = breaker.Record{
		State: s.State, Failures: s.Failures, Trips: s.Trips, Window: s.Window, Days: s.Days, Failed: s.Failed,
		OpenedAt: after2025(s.OpenedAt), LastSuccess: after2025(s.LastSuccess),
	}
	r.Scheme, r.Throttles, r.Unavailable = s.Scheme, s.Throttles, s.Unavailable
	var err error
	r.LastError, err = attemptOf(text[end:])
	return r, err
}

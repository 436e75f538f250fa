package redisq

import (
	"encoding/base64"
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

var (
	aTime     = time.Date(2026, 11, 22, 13, 14, 15, 167e6, time.UTC)
	aRecord   = queue.HostRecord{Breaker: breaker.Record{Failures: 2, Days: []int32{20780}, Failed: true}, LastError: &refused}
	refused   = queue.LastAttempt{At: aTime, Outcome: "unreachable", Error: "dial tcp 192.0.2.17:443: connect: connection refused", Duration: 1234 * time.Microsecond}
	everyPart = queue.HostRecord{
		Breaker: breaker.Record{
			State: breaker.Open, Failures: 9, Trips: 3, Window: 4, Days: []int32{20780, 20781}, Failed: true, LastSuccess: aTime, OpenedAt: aTime, Slow: 16,
		},
		Scheme: "rfc9421", Throttles: 2, Refusals: 11, Unavailable: true, Epoch: 7,
		Doubts: 1, DoubtedAt: aTime, RefusedAt: aTime.Add(time.Second),
		LastAnswer: aTime.Add(time.Second), LastSuccess: aTime.Add(-time.Hour),
		LastError: &queue.LastAttempt{At: aTime, Status: 503, Outcome: "server_error", Error: "\x00 \n ü", Duration: time.Hour},
	}
)

// TestShrinks checks that what is stored by the hundred thousand takes no more than Redis keeps in one piece.
func TestShrinks(t *testing.T) {
	dead := everyPart.Breaker
	dead.Slow = 0 // few are both
	for name, v := range map[string]any{
		"healthy":  queue.HostRecord{Breaker: breaker.Record{Window: 8, LastSuccess: aTime}, Scheme: "cavage", LastAnswer: aTime, LastSuccess: aTime},
		"refusing": queue.HostRecord{Breaker: breaker.Record{Window: 8, LastSuccess: aTime}, Refusals: 120, LastAnswer: aTime},
		"failing":  aRecord,
		"slow":     queue.HostRecord{Breaker: breaker.Record{Window: 8, LastSuccess: aTime, Slow: 16}, Scheme: "cavage", LastAnswer: aTime, LastSuccess: aTime},
		"dead":     queue.HostRecord{Breaker: dead, Scheme: "cavage", LastAnswer: aTime, LastSuccess: aTime},
		"refused":  refused,
		"dns":      queue.LastAttempt{At: aTime, Outcome: "unreachable", Error: "dial tcp: lookup dead.example.org: no such host", Duration: 98765432},
		"time-out": queue.LastAttempt{At: aTime, Outcome: "unreachable", Error: "context deadline exceeded (Client.Timeout exceeded while awaiting headers)", Duration: 10 * time.Second},
		"status":   queue.LastAttempt{At: aTime, Status: 502, Outcome: "server_error", Error: "<title>502 Bad Gateway</title>", Duration: 98765432},
	} {
		var text string
		switch v := v.(type) {
		case queue.LastAttempt:
			text = shrinkAttempt(&v)
		case queue.HostRecord:
			v.LastError = nil // stored beside it
			text = shrinkRecord(&v)
		}
		if len(text) > 64 {
			t.Errorf("%s takes %d bytes", name, len(text))
		}
	}
}

func TestShrinkKeepsAll(t *testing.T) {
	for _, v := range []reflect.Value{reflect.ValueOf(everyPart), reflect.ValueOf(everyPart.Breaker), reflect.ValueOf(*everyPart.LastError)} {
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("%s has no %s, so it isn't tried", v.Type(), v.Type().Field(i).Name)
			}
		}
	}
	usual := queue.HostRecord{Breaker: breaker.Record{LastSuccess: aTime}, LastAnswer: aTime, LastSuccess: aTime}
	for name, r := range map[string]queue.HostRecord{"none": {}, "some": aRecord, "all": everyPart, "usual": usual} {
		got, err := record(shrinkRecord(&r), r.Epoch)
		if diff := cmp.Diff(r, got); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", name, err, diff)
		}
	}
}

// Every later version has to read stored records: this text may never change.
func TestReadsWhatWasStored(t *testing.T) {
	for stored, want := range map[string]queue.HostRecord{
		"AI0BuAJWAAEAORX/ADMZ/wA0NoMAFCwyMDc4MTqJADr5ACA2NjM2NTUxNjdGlQAdGxWVUjIGADJKMgYoLCJkb3VidHMiOjENCzVsHVgQcmVmdXM2GQAANgUABHNs0UpM" +
			"cmVmdXNhbHMiOjExLCJhbnN3ZXIVRgktVGFjY2VwdGVkIjo1OTY2MDA1NTE2N30BAaIDZJz/1pOkAD6+RQI0XHUwMDAwIFxuIMO8In0=": everyPart,
	} {
		text, err := base64.StdEncoding.DecodeString(stored)
		if err != nil {
			t.Fatal(err)
		}
		got, err := record(string(text), 7)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
	}
}

func TestRefusesWhatIsNotARecord(t *testing.T) {
	good := shrinkRecord(&aRecord)
	for _, text := range []string{"x", "\x00", good[:4], good[:len(good)-3], "\x00\x05hello", good + "x", `{"failures":1}`} {
		if r, err := record(text, 0); err == nil {
			t.Errorf("%q was read as %+v", text, r)
		}
	}
}

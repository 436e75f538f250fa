package handlers

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/postrider/postrider/queue"
)

// largeCall is a call with n inboxes, each on a host of its own, or n recipients.
func largeCall(n int, recipients bool) string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf(`"https://host-%d.example/users/somebody/inbox"`, i)
		if recipients {
			list[i] = fmt.Sprintf(`{"id":"https://host-%d.example/users/a","inbox":%s,"shared_inbox":"https://host-%d.example/inbox"}`, i, list[i], i)
		}
	}
	member := `"inboxes":[`
	if recipients {
		member = `"recipients":[`
	}
	return call(anActivity, aKey, member+strings.Join(list, ",")+"]")
}

// BenchmarkIntake is a whole call through the API, with a store that costs nothing.
func BenchmarkIntake(b *testing.B) {
	for _, bb := range []struct {
		name string
		body string
	}{
		{"inboxes=1", largeCall(1, false)},
		{"inboxes=20000", largeCall(20_000, false)},
		{"recipients=20000", largeCall(20_000, true)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			g := newRig(b, func(o *Options) { o.Log = slog.New(slog.DiscardHandler) })
			b.ReportAllocs()
			b.SetBytes(int64(len(bb.body)))
			for b.Loop() {
				g.queue.receipts = map[[32]byte]queue.Receipt{}
				req := newRequest(http.MethodPost, "/v1/activities", strings.NewReader(bb.body))
				req.Header.Set("Content-Type", "application/json")
				rec := httptest.NewRecorder()
				g.handler.ServeHTTP(rec, req)
				if rec.Code != http.StatusAccepted {
					b.Fatal(rec.Body)
				}
				g.queue.submissions = nil
			}
		})
	}
}

// BenchmarkParseCall is the parser alone.
func BenchmarkParseCall(b *testing.B) {
	body := []byte(largeCall(20_000, true))
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := parseCall(body); err != nil {
			b.Fatal(err)
		}
	}
}

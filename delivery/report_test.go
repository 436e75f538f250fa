package delivery

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
)

// TestAttemptsAreLogged checks which attempts have a line in the log, at which level, and what it names, without characters of
// the app's that should not be shown.
func TestAttemptsAreLogged(t *testing.T) {
	var out bytes.Buffer
	var id string
	answers := []int{500, 202, 202, 410}
	answer := func(*http.Request) Answer {
		status := answers[0]
		answers = answers[1:]
		return Answer{Status: status, Excerpt: http.StatusText(status)}
	}
	log := func(o *Options) { o.Log = slog.New(slog.NewJSONHandler(&out, nil)) }
	pooled(t, answer, log, func(r *rig) {
		id = r.submit("https://app.example/\x1b[31m\u202e1", "a", queue.Normal, day, "h.example")
		time.Sleep(time.Hour)
		r.submit("https://app.example/at-once", "a", queue.Normal, day, "h.example")
		time.Sleep(time.Minute)
		r.submit("https://app.example/gone", "a", queue.Normal, day, "h.example")
		time.Sleep(time.Minute)
	})
	type line struct {
		Level, Msg, Activity, Inbox, Outcome string
		URI                                  string `json:"activity_uri"`
		Attempt, Status                      int
	}
	var got []line
	for text := range strings.Lines(out.String()) {
		var l line
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			t.Fatal(err)
		}
		if l.Msg == "delivery.attempt" {
			got = append(got, l)
		}
	}
	const inbox, first = "https://h.example/inbox", "https://app.example/[31m1"
	gone := got[len(got)-1].Activity
	want := []line{
		{"INFO", "delivery.attempt", id, inbox, "server_error", first, 1, 500},
		{"INFO", "delivery.attempt", id, inbox, "delivered", first, 2, 202},
		{"WARN", "delivery.attempt", gone, inbox, "gone", "https://app.example/gone", 1, 410},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

package delivery

import (
	"net/http"
	"path"
	"testing"
	"time"

	"github.com/postrider/postrider/queue"
)

// What a turn has in hand begins soon after a slot gets free, though the turn's own attempts go on for long.
func TestATurnThatFoundNoSlotLooksAgain(t *testing.T) {
	t.Parallel()
	lasts := map[string]time.Duration{"short": 5 * time.Second, "long": 20 * time.Second}
	pooled(t, func(req *http.Request) Answer {
		lasting(req, lasts[path.Base(bodyOf(req))])
		return Answer{Status: 202}
	}, func(o *Options) { o.Concurrency = 2 }, func(r *rig) {
		const busy, other = "busy.example", "other.example"
		r.backlog(10, busy) // opens the windows
		r.backlog(10, other)
		time.Sleep(time.Second)
		r.submit("https://app.example/short", "short", queue.Normal, day, other)
		r.submit("https://app.example/long", "long", queue.Normal, day, busy)
		time.Sleep(time.Second)
		waits := r.submit("https://app.example/waits", "waits", queue.Normal, day, busy)
		time.Sleep(2 * time.Second)
		if c := r.counts(waits); c.Pending != 1 {
			t.Errorf("while there is no slot: %+v, want pending", c)
		}
		time.Sleep(5 * time.Second)
		if c := r.counts(waits); c.Delivered != 1 {
			t.Errorf("once there is a slot: %+v, want delivered", c)
		}
	})
}

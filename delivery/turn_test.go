package delivery

import (
	"fmt"
	"net/http"
	"path"
	"testing"
	"time"

	"github.com/postrider/postrider/queue"
)

// slowly is an inbox that takes 2 s for each answer.
func slowly(req *http.Request) Answer { return after(2 * time.Second)(req) }

// after is an inbox that takes d for each answer.
func after(d time.Duration) func(*http.Request) Answer {
	return func(req *http.Request) Answer {
		lasting(req, d)
		return Answer{Status: 202}
	}
}

// queued submits n activities to a host while it is paused, and ends the pause.
func (r *rig) queued(n int, host string) (ids []string) {
	r.t.Helper()
	r.act(host, queue.Pause)
	for i := range n {
		uri := fmt.Sprintf("https://app.example/%d", i)
		ids = append(ids, r.submit(uri, uri, queue.Normal, day, host))
	}
	r.act(host, queue.Resume)
	return ids
}

// Deliveries that an operator or the app stops do not begin any more, though the host's turn goes on.
func TestWhatIsStoppedBeginsNoMore(t *testing.T) {
	t.Parallel()
	const host = "slow.example"
	for name, stop := range map[string]func(r *rig, ids []string){
		"pause": func(r *rig, _ []string) { r.act(host, queue.Pause) },
		"block": func(r *rig, _ []string) { r.act(host, queue.Block) },
		"cancel": func(r *rig, ids []string) {
			for _, id := range ids {
				if _, err := r.store.Cancel(r.t.Context(), id); err != nil {
					r.t.Error(err)
				}
			}
		},
	} {
		for _, d := range []time.Duration{2 * time.Second, 60 * time.Millisecond} {
			t.Run(name+" after "+d.String(), func(t *testing.T) {
				t.Parallel()
				pooled(t, after(d), nil, func(r *rig) {
					ids := r.queued(40, host)
					time.Sleep(2*d + d/4) // by now there is room for four at once
					before := len(r.to(host))
					stop(r, ids)
					time.Sleep(time.Minute)
					if late := len(r.to(host)) - before; before < 3 || late > 0 {
						t.Errorf("%d requests before, %d after", before, late)
					}
				})
			})
		}
	}
}

// A delivery that is more urgent than the rest of a slow host's lane does not wait for the rest.
func TestWhatIsUrgentOvertakes(t *testing.T) {
	t.Parallel()
	const host = "slow.example"
	pooled(t, slowly, nil, func(r *rig) {
		r.queued(14, host)
		time.Sleep(time.Second)
		r.submit("https://app.example/urgent", "urgent", queue.High, day, host)
		time.Sleep(2 * time.Second)
		for _, q := range r.to(host)[1:] { // one was in flight
			if path.Base(q.body) == "urgent" {
				return
			}
		}
		t.Error("what was accepted before went first")
	})
}

// A look at the store now and then takes no time from a slow host: its window is always full.
func TestSlowHostsAreKeptBusy(t *testing.T) {
	t.Parallel()
	const host = "slow.example"
	pooled(t, slowly, func(o *Options) { o.Concurrency = 512 }, func(r *rig) {
		ids := r.queued(1+2+4+8+8+8, host)
		time.Sleep(6*2*time.Second + 100*time.Millisecond)
		for i, id := range ids {
			if c := r.counts(id); c.Delivered != 1 {
				t.Errorf("%d: %+v", i, c)
			}
		}
		if n := len(r.to(host)); n != len(ids) {
			t.Errorf("%d requests for %d deliveries", n, len(ids))
		}
	})
}

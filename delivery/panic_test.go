package delivery

import (
	"bytes"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/queue"
)

// TestPanicConcernsOneDelivery holds that an attempt that panics is a fault that counts against no host, and that its
// delivery is set aside when that happens again, while others go on.
func TestPanicConcernsOneDelivery(t *testing.T) {
	var out bytes.Buffer
	answer := func(r *http.Request) Answer {
		if r.URL.Host == "odd.example" {
			panic("what is this?")
		}
		return Answer{Status: http.StatusAccepted}
	}
	log := func(o *Options) { o.Log = slog.New(slog.NewTextHandler(&out, nil)) }
	pooled(t, answer, log, func(r *rig) {
		odd := r.submit("https://app.example/odd", "a", queue.Normal, 72*time.Hour, "odd.example")
		other := r.submit("https://app.example/other", "b", queue.Normal, 72*time.Hour, "well.example")
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := len(r.to("odd.example")); n != 2 {
			t.Errorf("%d attempts in an hour, want 2", n)
		}
		d := r.delivery(odd)
		if d.Attempts != 0 || d.History.Last() == nil || d.History.Last().Outcome != string(OutcomeFault) {
			t.Errorf("delivery %+v", d)
		}
		if h := r.host("odd.example"); h.Record.Breaker.Failures != 0 {
			t.Errorf("the host is blamed: %+v", h)
		}
		if got := r.counts(other); got.Delivered != 1 {
			t.Errorf("the other delivery: %+v", got)
		}
		if text := out.String(); strings.Count(text, "msg=attempt.panic") != 2 || !strings.Contains(text, "activity="+odd) ||
			!strings.Contains(text, "panic_test.go") {
			t.Errorf("log:\n%s", text)
		}
	})
}

// A panic in the goroutine of a request is an error for the caller that waits for it.
func TestPanicOfAPost(t *testing.T) {
	c := newClient(t, ClientOptions{Policy: loopback})
	c.transport = nil
	got := c.Post(newPost(t, "http://127.0.0.1:1/inbox"))
	if got.Err == nil || outcomeOf(got) != OutcomeFault {
		t.Errorf("got %+v", got)
	}
	c.transport = c.http1 // for Close
}

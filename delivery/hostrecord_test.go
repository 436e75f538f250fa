package delivery

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/queue"
)

const oneHost = "h.example"

// observed is what is known of a host after its answers.
type observed struct {
	state     queue.HostState
	refusals  int
	answered  bool
	succeeded bool
	lastError int // its status
}

func (r *rig) observed(host string) observed {
	r.t.Helper()
	h := r.host(host)
	l := observed{h.State, h.Record.Refusals, !h.Record.LastAnswer.IsZero(), !h.Record.LastSuccess.IsZero(), 0}
	if h.Record.LastError != nil {
		l.lastError = h.Record.LastError.Status
	}
	return l
}

// A host that answers nothing but refusals shows it from the tenth on, and only a 2xx counts as its success.
func TestHostsThatRefuse(t *testing.T) {
	for status, want := range map[int]observed{
		202: {state: queue.HostHealthy, answered: true, succeeded: true},
		302: {queue.HostRefusing, 10, true, false, 302},
		304: {queue.HostRefusing, 10, true, false, 304},
		400: {queue.HostRefusing, 10, true, false, 400},
		401: {queue.HostRefusing, 10, true, false, 401},
		403: {queue.HostRefusing, 10, true, false, 403},
		404: {queue.HostHealthy, 0, true, false, 404},
		410: {queue.HostHealthy, 0, true, false, 410},
		413: {queue.HostRefusing, 10, true, false, 413},
		429: {queue.HostThrottled, 0, true, false, 429},
		501: {queue.HostHealthy, 0, true, false, 501},
		500: {queue.HostOpen, 0, true, false, 500},
		408: {queue.HostOpen, 10, true, false, 408}, // the graver state shows
		0:   {state: queue.HostOpen},
	} {
		t.Run(strconv.Itoa(status), func(t *testing.T) {
			answer := Answer{Status: status, RetryAfter: "3600"}
			if status == 0 {
				answer.Err = errors.New("connection refused")
			}
			pooled(t, func(*http.Request) Answer { return answer }, nil, func(r *rig) {
				r.backlog(10, oneHost)
				time.Sleep(time.Second)
				synctest.Wait()
				if got := r.observed(oneHost); got != want {
					t.Errorf("observed %+v, want %+v", got, want)
				}
			})
		})
	}
}

// Nine refusals are not ten: what is no refusal begins the count again, but no answer at all does not.
func TestRefusalsAreCountedInARow(t *testing.T) {
	script := []int{403, 403, 403, 403, 403, 403, 403, 403, 403, 404, 403, 403, 0, 403, 202, 403, 429, 403}
	counts := []int{1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 1, 2, 2, 3, 0, 1, 0, 1}
	var status atomic.Int64
	pooled(t, func(*http.Request) Answer {
		if s := int(status.Load()); s != 0 {
			return Answer{Status: s}
		}
		return Answer{Err: errors.New("connection refused")}
	}, nil, func(r *rig) {
		for i, s := range script {
			status.Store(int64(s))
			uri := fmt.Sprint("https://app.example/", i)
			r.submit(uri, uri, queue.Normal, time.Hour, oneHost)
			time.Sleep(time.Second)
			synctest.Wait()
			if got := r.host(oneHost).Record.Refusals; got != counts[i] {
				t.Errorf("%d refusals after %v, want %d", got, script[:i+1], counts[i])
			}
			if s == 0 || s == 429 { // it must not be tried again meanwhile
				if _, err := r.store.Act(r.t.Context(), oneHost, queue.Block, queue.Order{}); err != nil {
					r.t.Fatal(err)
				}
				if _, err := r.store.Act(r.t.Context(), oneHost, queue.Unblock, queue.Order{}); err != nil {
					r.t.Fatal(err)
				}
				if _, err := r.store.Act(r.t.Context(), oneHost, queue.Probe, queue.Order{}); err != nil {
					r.t.Fatal(err)
				}
			}
		}
	})
}

// Refusals add up though each comes to another turn of another pool, and a success heals at once.
func TestRefusalsSurviveTurns(t *testing.T) {
	var healed atomic.Bool
	pooled(t, func(*http.Request) Answer {
		if healed.Load() {
			return Answer{Status: 202}
		}
		return Answer{Status: 401}
	}, nil, func(r *rig) {
		for i := range queue.RefusingAfter {
			if got := r.host(oneHost); got.State != queue.HostHealthy {
				r.t.Fatalf("%s after %d refusals", got.State, i)
			}
			r.halt()
			r.submit(fmt.Sprint("https://app.example/", i), fmt.Sprint(i), queue.Normal, 24*time.Hour, oneHost)
			r.start()
			time.Sleep(time.Second)
			synctest.Wait()
		}
		want := observed{queue.HostRefusing, queue.RefusingAfter, true, false, 401}
		if got := r.observed(oneHost); got != want {
			r.t.Fatalf("observed %+v, want %+v", got, want)
		}
		healed.Store(true)
		time.Sleep(time.Minute)
		want = observed{queue.HostHealthy, 0, true, true, 401} // the last error stays
		if got := r.observed(oneHost); got != want {
			t.Errorf("observed %+v, want %+v", got, want)
		}
		h := r.host(oneHost).Record
		if h.LastSuccess != h.LastAnswer || h.LastSuccess != h.Breaker.LastSuccess || time.Since(h.LastSuccess) > time.Minute {
			t.Errorf("last success %s, answer %s, alive %s", h.LastSuccess, h.LastAnswer, h.Breaker.LastSuccess)
		}
	})
}

// A host that asked to wait is throttled until it has waited, also where what it was sent before is accepted meanwhile.
func TestThrottledUntilItHasWaited(t *testing.T) {
	var calls, ask atomic.Int64
	pooled(t, func(req *http.Request) Answer {
		switch n := calls.Add(1); {
		case ask.Load() == 0:
			lasting(req, time.Second)
			return Answer{Status: 202}
		case n%2 == 0:
			return Answer{Status: 503, RetryAfter: "600"}
		default:
			lasting(req, 5*time.Second)
			return Answer{Status: 202}
		}
	}, nil, func(r *rig) {
		r.backlog(30, oneHost) // the window grows
		time.Sleep(time.Minute)
		ask.Store(1)
		began := time.Now()
		for i := range 4 {
			uri := fmt.Sprint("https://app.example/more/", i)
			r.submit(uri, uri, queue.Normal, 24*time.Hour, oneHost)
		}
		time.Sleep(30 * time.Second)
		h := r.host(oneHost)
		if h.State != queue.HostThrottled || h.RetryAt.Sub(began) < 600*time.Second || h.Record.LastSuccess.Before(began) {
			t.Errorf("%s until %s, last success %s", h.State, h.RetryAt, h.Record.LastSuccess)
		}
		ask.Store(0)
		time.Sleep(10 * time.Minute)
		if h := r.host(oneHost); h.State != queue.HostHealthy || h.Pending != 0 || h.Record.Throttles != 0 {
			t.Errorf("%s with %d pending and %d throttles after its wait", h.State, h.Pending, h.Record.Throttles)
		}
	})
}

// A host that needs no attempt to be quiet again is listed so, too.
func TestThrottledEndsByItself(t *testing.T) {
	wait := Answer{Status: 429, RetryAfter: "60"}
	pooled(t, func(*http.Request) Answer { return wait }, nil, func(r *rig) {
		id := r.submit("https://app.example/1", "k", queue.Normal, time.Hour, oneHost)
		time.Sleep(time.Second)
		if _, err := r.store.Cancel(r.t.Context(), id); err != nil {
			r.t.Fatal(err)
		}
		states := func() map[queue.HostState]int {
			st, err := r.store.Stats(r.t.Context())
			if err != nil {
				r.t.Fatal(err)
			}
			return st.Hosts
		}
		if got := states(); got[queue.HostThrottled] != 1 {
			t.Errorf("hosts %v", got)
		}
		time.Sleep(61 * time.Second)
		if got := states(); got[queue.HostHealthy] != 1 || got[queue.HostThrottled] != 0 {
			t.Errorf("hosts %v", got)
		}
	})
}

// Each change of a host's record costs an fsync or a call: another answer moments later is not worth one.
func TestNews(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	known := queue.HostRecord{Breaker: breaker.Record{LastSuccess: at}, LastAnswer: at, LastSuccess: at}
	after := func(answer, success time.Duration) queue.HostRecord {
		r := known
		r.LastAnswer, r.LastSuccess = at.Add(answer), at.Add(success)
		r.Breaker.LastSuccess = r.LastAnswer
		return r
	}
	refused := after(time.Millisecond, 0)
	refused.Refusals = 1
	for name, c := range map[string]struct {
		host queue.HostRecord
		want bool
	}{
		"the same":              {known, false},
		"accepted again":        {after(answerStep-1, answerStep-1), false},
		"accepted again, later": {after(answerStep, answerStep), true},
		"answered otherwise":    {after(time.Millisecond, 0), true},
		"refused":               {refused, true},
	} {
		if got := (&turn{host: c.host, known: known}).recordChanged(); got != c.want {
			t.Errorf("%s: recordChanged %t, want %t", name, got, c.want)
		}
	}
}

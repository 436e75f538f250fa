package delivery

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/queuetest"
	"github.com/postrider/postrider/signer"
)

// offer enqueues an activity that lasts for 72 h to a host, and reports whether it was accepted.
func (r *rig) offer(uri, host string, p queue.Priority) bool {
	r.t.Helper()
	receipt, err := r.store.Enqueue(r.t.Context(), &queue.Submission{
		Activity:    queue.Activity{ID: uuid.Must(uuid.NewV7()).String(), URI: uri, KeyID: testKey, OrderingKey: uri, Priority: p, Body: []byte(uri)},
		Recipients:  []queue.Recipient{{Inbox: "https://" + host + "/inbox", Host: host}},
		TTL:         72 * time.Hour,
		Idempotency: queue.Idempotency{Key: sha256.Sum256([]byte(uri)), Fingerprint: sha256.Sum256([]byte(uri))},
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return receipt.Accepted == 1
}

// stream offers a delivery to a host every few hours, for so many days. It returns how many were accepted.
func (r *rig) stream(host string, days int) (accepted int) {
	r.t.Helper()
	const pause = 3 * time.Hour
	for i := range days * int(24*time.Hour/pause) {
		if r.offer(fmt.Sprintf("https://app.example/%d/%d", time.Now().Unix(), i), host, queue.Normal) {
			accepted++
		}
		time.Sleep(pause)
	}
	return accepted
}

// act does something to a host.
func (r *rig) act(host string, action queue.HostAction) {
	r.t.Helper()
	if _, err := r.store.Act(r.t.Context(), host, action, queue.Order{}); err != nil {
		r.t.Fatal(err)
	}
}

// rarely lets the pool sweep and extend its leases less often, so that days pass quickly.
func rarely(o *Options) {
	const ttl = time.Hour
	f := queuetest.Faulty(o.Queue.(queue.Queue))
	f.Delay("Sweep", time.Hour)
	leases := lockmgr.NewLocal(ttl)
	o.Queue, o.Leases = ending{f, leases}, lockmgr.NewKeeper(leases, ttl, o.Log)
}

// ending is a store that ends other leases than those it was opened with.
type ending struct {
	queue.Queue
	leases lockmgr.Manager
}

func (q ending) Settle(ctx context.Context, l lockmgr.Lease, s queue.Settlement, n int) ([]queue.Delivery, error) {
	next, err := q.Queue.Settle(ctx, l, s, n)
	if err == nil && s.Release && len(next) == 0 {
		err = q.leases.Release(ctx, []lockmgr.Lease{l})
	}
	return next, err
}

// dying answers 500 until it is healed.
func dying() (healed *atomic.Bool, answer func(*http.Request) Answer) {
	healed = new(atomic.Bool)
	return healed, func(*http.Request) Answer {
		if healed.Load() {
			return Answer{Status: 202}
		}
		return Answer{Status: 500}
	}
}

// elsewhen is a store whose clock is ahead of the node's.
type elsewhen struct {
	queue.Lanes
	ahead time.Duration
}

func (q elsewhen) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	turns, err := q.Lanes.Take(ctx, leases, n)
	for i := range turns {
		turns[i].Now = turns[i].Now.Add(q.ahead)
	}
	return turns, err
}

// TestDaysOfFailureAreTheStores holds that nodes whose clocks differ count the same days.
func TestDaysOfFailureAreTheStores(t *testing.T) {
	t.Parallel()
	const ahead = 26 * time.Hour
	behind := func(o *Options) { o.Queue = elsewhen{o.Queue, ahead} }
	pooled(t, status(500), behind, func(r *rig) {
		opened := time.Now().Add(ahead)
		r.backlog(10, "h.example")
		time.Sleep(30 * time.Second)
		b := r.host("h.example").Record.Breaker
		if want := int32(opened.Unix() / 86400); len(b.Days) != 1 || b.Days[0] != want {
			t.Errorf("failed on days %v, want %d", b.Days, want)
		}
		if b.OpenedAt.Sub(opened).Abs() > 10*time.Second {
			t.Errorf("opened at %s, want about %s", b.OpenedAt, opened)
		}
	})
}

func TestAHostThatFailsForDaysIsGivenUpAndProbedOnceADay(t *testing.T) {
	t.Parallel()
	healed, answer := dying()
	pooled(t, answer, rarely, func(r *rig) {
		const host = "h.example"
		r.stream(host, 6)
		if h := r.host(host); h.State != queue.HostOpen {
			t.Fatalf("after six days the host is %s, want open", h.State)
		}
		r.stream(host, 2)
		h := r.host(host)
		if h.State != queue.HostUnavailable || h.Pending > 1 {
			t.Fatalf("after eight days the host is %s with %d pending, want it unavailable with its next probe at the most", h.State, h.Pending)
		}
		dead, err := r.store.DeadLetters(r.t.Context(), queue.DeadLetterFilter{Reason: queue.ReasonHostUnavailable}, queue.Page{Limit: 1})
		if err != nil || len(dead.Items) == 0 {
			t.Errorf("%d dead letters of an unavailable host, %v", len(dead.Items), err)
		}
		before := len(r.to(host))
		accepted := r.stream(host, 10)
		if n := len(r.to(host)) - before; n < 8 || n > 11 {
			t.Errorf("%d probes in ten days, want one a day", n)
		}
		if accepted > 10 {
			t.Errorf("%d deliveries accepted in ten days, want no more than there were probes", accepted)
		}
		healed.Store(true)
		r.stream(host, 2)
		if h := r.host(host); h.State != queue.HostHealthy || h.Pending != 0 {
			t.Errorf("two days after the host was healed it is %s with %d pending", h.State, h.Pending)
		}
	})
}

// A dead host costs little, however much the app sends to it.
func TestAttemptsOnADeadHostInAMonth(t *testing.T) {
	t.Parallel()
	pooled(t, status(500), rarely, func(r *rig) {
		r.stream("h.example", 30)
		n := len(r.to("h.example"))
		t.Logf("%d attempts in 30 days", n)
		if n > 220 || n < 30 {
			t.Errorf("%d attempts in 30 days, want no more than 220", n)
		}
	})
}

func TestSeenHastensTheProbe(t *testing.T) {
	t.Parallel()
	healed, answer := dying()
	pooled(t, answer, rarely, func(r *rig) {
		const host = "h.example"
		r.stream(host, 8)
		for i := range 4 {
			before := len(r.to(host))
			r.act(host, queue.Seen)
			time.Sleep(queue.SeenPause(i) + time.Second)
			if n := len(r.to(host)) - before; n != 1 {
				t.Errorf("%d probes after the host was seen, want 1", n)
			}
			time.Sleep(time.Minute)
		}
		healed.Store(true)
		r.act(host, queue.Seen)
		time.Sleep(queue.SeenPause(4))
		if h := r.host(host); h.State != queue.HostHealthy || h.Pending != 0 {
			t.Errorf("after a probe that succeeded the host is %s with %d pending", h.State, h.Pending)
		}
	})
}

func TestHighPriorityIsTheNextProbe(t *testing.T) {
	for name, threshold := range map[string]int{"open": 10, "closed": 1000} { // the breaker
		t.Run(name, func(t *testing.T) { highPriorityProbes(t, threshold) })
	}
}

func highPriorityProbes(t *testing.T, threshold int) {
	t.Parallel()
	healed, answer := dying()
	change := func(o *Options) {
		rarely(o)
		o.Breaker.Threshold = threshold
	}
	pooled(t, answer, change, func(r *rig) {
		const host = "h.example"
		r.stream(host, 8)
		time.Sleep(3 * time.Hour)
		healed.Store(true)
		if r.offer("https://app.example/normal", host, queue.Normal) {
			t.Error("a delivery of normal priority was accepted while the host waits for its next probe")
		}
		before := len(r.to(host))
		if !r.offer("https://app.example/high", host, queue.High) {
			t.Fatal("a delivery of high priority was refused")
		}
		time.Sleep(time.Minute)
		if probes := r.to(host)[before:]; len(probes) == 0 || probes[0].body != "https://app.example/high" {
			t.Errorf("the probes were %+v, want the one of high priority first", probes)
		}
		if h := r.host(host); h.State != queue.HostHealthy || h.Pending != 0 {
			t.Errorf("after a probe that succeeded the host is %s with %d pending", h.State, h.Pending)
		}
	})
}

// A host that an operator resets while an attempt is on its way stays reset.
func TestResetIsNotUndoneByTheTurn(t *testing.T) {
	t.Parallel()
	pooled(t, func(req *http.Request) Answer {
		lasting(req, 20*time.Second)
		return Answer{Status: 500}
	}, func(o *Options) { o.Breaker.Threshold = 1 }, func(r *rig) {
		r.submit("https://app.example/1", "k", queue.Normal, day, "h.example")
		time.Sleep(10 * time.Second)
		r.act("h.example", queue.Reset)
		time.Sleep(11 * time.Second)
		if h := r.host("h.example"); h.State != queue.HostHealthy || !h.RetryAt.IsZero() {
			t.Errorf("after its attempt failed the host is %s until %v, want it as it was reset", h.State, h.RetryAt)
		}
	})
}

// An unavailable host is probed once a day, even if it then only asks to wait, and for a short time.
func TestAHostThatWasGivenUpIsProbedDailyWhateverItAsks(t *testing.T) {
	t.Parallel()
	var throttles atomic.Bool
	pooled(t, func(*http.Request) Answer {
		if throttles.Load() {
			return Answer{Status: 503, RetryAfter: "60"}
		}
		return Answer{Status: 500}
	}, rarely, func(r *rig) {
		const host = "h.example"
		r.stream(host, 8)
		throttles.Store(true)
		before := len(r.to(host))
		r.stream(host, 5)
		if n := len(r.to(host)) - before; n < 4 || n > 6 {
			t.Errorf("%d probes in five days, want one a day", n)
		}
		if h := r.host(host); h.State != queue.HostUnavailable {
			t.Errorf("the host is %s", h.State)
		}
	})
}

// Seen does not shorten the time that a host asked for, also while the host is to be probed.
func TestSeenLeavesTheTimeAskedFor(t *testing.T) {
	t.Parallel()
	var throttles atomic.Bool
	pooled(t, func(*http.Request) Answer {
		if throttles.Load() {
			return Answer{Status: 429, RetryAfter: "3600"}
		}
		return Answer{Status: 500}
	}, func(o *Options) { o.Breaker.Threshold = 1 }, func(r *rig) {
		const host = "h.example"
		r.offer("https://app.example/1", host, queue.Normal)
		time.Sleep(time.Second)
		throttles.Store(true)
		r.act(host, queue.Probe)
		time.Sleep(time.Second)
		before := r.host(host)
		if wait := time.Until(before.RetryAt); before.State != queue.HostOpen || wait < 59*time.Minute {
			t.Fatalf("a probe that was answered by a plea for patience leaves the host %s for %s", before.State, wait)
		}
		r.act(host, queue.Seen)
		if h := r.host(host); !h.RetryAt.Equal(before.RetryAt) {
			t.Errorf("seen, the host is probed at %s, it asked for %s", h.RetryAt, before.RetryAt)
		}
	})
}

// faulty is a signer that may fail for reasons of ours.
type faulty struct {
	keySigner
	broken atomic.Bool
	calls  atomic.Int32
}

func (s *faulty) Sign(ctx context.Context, req *http.Request, p signer.Params) (signer.Scheme, error) {
	if s.broken.Load() {
		s.calls.Add(1)
		return "", errors.New("the key is broken")
	}
	return s.keySigner.Sign(ctx, req, p)
}

// A probe that a fault of ours kept from the host is made again soon, but not over and over, and without waiting a day.
func TestAFaultDelaysAProbeLittle(t *testing.T) {
	t.Parallel()
	healed, answer := dying()
	s := &faulty{}
	pooled(t, answer, func(o *Options) {
		rarely(o)
		s.keySigner = o.Signer.(keySigner)
		o.Signer = s
	}, func(r *rig) {
		const host = "h.example"
		r.stream(host, 8)
		healed.Store(true)
		s.broken.Store(true)
		r.act(host, queue.Probe)
		time.Sleep(5 * time.Minute)
		if n := s.calls.Load(); n < 2 || n > 25 {
			t.Errorf("%d probes were tried in five minutes of faults, want one in 15 s", n)
		}
		s.broken.Store(false)
		time.Sleep(time.Minute)
		if h := r.host(host); h.State != queue.HostHealthy {
			t.Errorf("a minute after the fault was mended the host is %s", h.State)
		}
	})
}

// bodyOf is the body of a request, which is its activity's URI here.
func bodyOf(req *http.Request) string {
	body, err := req.GetBody()
	if err != nil {
		return ""
	}
	text, _ := io.ReadAll(body)
	return string(text)
}

// A host that answers one request after another one made it unavailable need not wait for a day.
func TestALateAnswerTakesGivingUpBack(t *testing.T) {
	t.Parallel()
	var failed atomic.Bool
	pooled(t, func(req *http.Request) Answer {
		switch path.Base(bodyOf(req)) {
		case "fails":
			if lasting(req, time.Second); failed.CompareAndSwap(false, true) {
				return Answer{Status: 500}
			}
		case "late":
			lasting(req, 2*time.Second)
		}
		return Answer{Status: 202}
	}, func(o *Options) { o.Breaker.UnavailableDays = 1 }, func(r *rig) {
		const host = "h.example"
		for i := range 4 { // opens the window
			r.submit(fmt.Sprintf("https://app.example/%d", i), "k", queue.Normal, day, host)
		}
		time.Sleep(time.Second)
		late := r.submit("https://app.example/late", "late", queue.Normal, day, host)
		r.submit("https://app.example/fails", "fails", queue.Normal, day, host)
		time.Sleep(3 * time.Second)
		if h := r.host(host); h.State != queue.HostHealthy || r.counts(late).Delivered != 1 {
			t.Errorf("after a late answer the host is %s", h.State)
		}
		next := r.submit("https://app.example/next", "next", queue.Normal, day, host)
		time.Sleep(time.Second)
		if c := r.counts(next); c.Delivered != 1 {
			t.Errorf("what comes next: %+v, want delivered", c)
		}
	})
}

package delivery

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

const theHost = "h.example"

// schemeOf returns the scheme that a request was signed by.
func schemeOf(req *http.Request) signer.Scheme { return signer.Scheme(req.Header.Get("Test-Scheme")) }

// taking is a host that takes one scheme at a time, and refuses the other with a status.
type taking struct {
	scheme  atomic.Value
	refusal int
}

func (h *taking) answer(req *http.Request) Answer {
	if schemeOf(req) == h.scheme.Load() {
		return Answer{Status: 202}
	}
	return Answer{Status: h.refusal}
}

func takes9421(refusal int) *taking   { return newTaking(signer.RFC9421, refusal) }
func takesCavage(refusal int) *taking { return newTaking(signer.Cavage, refusal) }

func newTaking(s signer.Scheme, refusal int) *taking {
	h := &taking{refusal: refusal}
	h.scheme.Store(s)
	return h
}

// send delivers one more activity, signed by a key, and returns the schemes of the requests that came of that at once.
func (r *rig) send(keyID string) string {
	r.t.Helper()
	before := len(r.to(theHost))
	uri := fmt.Sprint("https://app.example/", time.Now().UnixNano())
	r.submitBy(keyID, uri, uri, queue.Normal, 72*time.Hour, theHost)
	time.Sleep(time.Second)
	var schemes []string
	for _, q := range r.to(theHost)[before:] {
		schemes = append(schemes, string(q.scheme))
	}
	return strings.Join(schemes, " ")
}

// sends checks the schemes of the requests of one more delivery, and what the host is known to take then.
func (r *rig) sends(keyID, want string, known signer.Scheme) {
	r.t.Helper()
	if got := r.send(keyID); got != want {
		r.t.Errorf("requests %q, want %q", got, want)
	}
	if got := r.host(theHost).Record.Scheme; got != string(known) {
		r.t.Errorf("the host is known to take %q, want %q", got, known)
	}
}

func TestSecondKnockIsLearnt(t *testing.T) {
	for _, refusal := range []int{400, 401} {
		t.Run(fmt.Sprint(refusal), func(t *testing.T) {
			pooled(t, takes9421(refusal).answer, nil, func(r *rig) {
				r.backlog(5, theHost)
				time.Sleep(time.Minute)
				if n := len(r.to(theHost)); n != 6 {
					t.Errorf("%d requests for 5 deliveries, want 6", n)
				}
				if h := r.host(theHost); h.Record.Scheme != string(signer.RFC9421) || h.Pending != 0 {
					t.Errorf("scheme %q, %d pending", h.Record.Scheme, h.Pending)
				}
			})
		})
	}
}

// An Ed25519 key signs by RFC 9421, also where the other scheme is asked for. So nothing follows from its answers, and
// there is nothing else to ask by.
func TestAnEdwardsKeyTeachesNothing(t *testing.T) {
	pooled(t, status(202), nil, func(r *rig) {
		r.sends(edwardsKey, "rfc9421", "")
		r.sends(testKey, "cavage", signer.Cavage)
		for range 2 * doubtsNeeded {
			r.sends(edwardsKey, "rfc9421", signer.Cavage)
			time.Sleep(doubtGap)
		}
		if got := r.host(theHost).Record.Doubts; got != 0 {
			t.Errorf("%d doubts about the host's scheme, want none", got)
		}
	})
}

func TestAnEdwardsKeyKnocksOnce(t *testing.T) {
	for _, known := range []signer.Scheme{"", signer.Cavage, signer.RFC9421} {
		for _, refusal := range []int{400, 401} {
			t.Run(fmt.Sprintf("%d from a host known to take %q", refusal, known), func(t *testing.T) {
				pooled(t, nil, nil, func(r *rig) {
					if r.answers(takes9421(401).answer); known == signer.Cavage {
						r.answers(status(202))
					}
					if known != "" {
						r.send(testKey)
					}
					r.answers(status(refusal))
					r.sends(edwardsKey, "rfc9421", known)
					if !r.host(theHost).Record.RefusedAt.IsZero() {
						t.Error("the host counts as one that refuses both schemes")
					}
				})
			})
		}
	}
}

// A proxy that answers 401 for a while must not make a host that takes draft-cavage one that is asked by RFC 9421
// first: it may answer 2xx to that and drop it.
func TestOneRefusalDoesNotRelearnCavage(t *testing.T) {
	host := takesCavage(401)
	pooled(t, host.answer, nil, func(r *rig) {
		r.sends(testKey, "cavage", signer.Cavage)
		host.scheme.Store(signer.RFC9421)
		for range 5 { // in five seconds, which are one time
			r.sends(testKey, "cavage rfc9421", signer.Cavage)
		}
		time.Sleep(doubtGap)
		r.sends(testKey, "cavage rfc9421", signer.Cavage)
		host.scheme.Store(signer.Cavage) // which ends the row
		r.sends(testKey, "cavage", signer.Cavage)
		host.scheme.Store(signer.RFC9421)
		for n := range doubtsNeeded {
			if n > 0 {
				time.Sleep(doubtGap)
			}
			if got := r.send(testKey); got != "cavage rfc9421" {
				t.Errorf("refusal %d: requests %q", n, got)
			}
		}
		r.sends(testKey, "rfc9421", signer.RFC9421)
	})
}

// A host that took RFC 9421 is relearned at once: no host answers 2xx to draft-cavage without understanding it.
func TestCavageIsRelearnedAtOnce(t *testing.T) {
	for _, refusal := range []int{400, 401} {
		t.Run(fmt.Sprint(refusal), func(t *testing.T) {
			host := takes9421(refusal)
			pooled(t, host.answer, nil, func(r *rig) {
				r.sends(testKey, "cavage rfc9421", signer.RFC9421)
				r.sends(testKey, "rfc9421", signer.RFC9421)
				host.scheme.Store(signer.Cavage)
				r.sends(testKey, "rfc9421 cavage", signer.Cavage)
				r.sends(testKey, "cavage", signer.Cavage)
			})
		})
	}
}

// A 400 from a host whose scheme is right is about the activity.
func TestABadRequestByAKnownScheme(t *testing.T) {
	pooled(t, status(202), nil, func(r *rig) {
		r.sends(testKey, "cavage", signer.Cavage)
		r.answers(status(400))
		r.sends(testKey, "cavage", signer.Cavage)
		r.sends(testKey, "cavage", signer.Cavage)
	})
}

// A host that refuses both schemes is asked once an attempt from then on, by the scheme that is likelier to work, until
// it takes something.
func TestBothSchemesRefused(t *testing.T) {
	pooled(t, status(401), nil, func(r *rig) {
		r.sends(testKey, "cavage rfc9421", "")
		r.sends(testKey, "cavage", "")
		r.sends(testKey, "cavage", "")
		r.answers(status(202))
		time.Sleep(time.Minute) // all are delivered
		r.answers(status(401))
		r.sends(testKey, "cavage rfc9421", signer.Cavage)
		r.sends(testKey, "cavage", signer.Cavage)
		if _, err := r.store.Act(t.Context(), theHost, queue.Reset, queue.Order{}); err != nil {
			t.Fatal(err)
		}
		r.sends(testKey, "cavage rfc9421", "")
	})
}

// It is asked by both again after some hours, so that one that takes only RFC 9421 by then is found.
func TestRefusalOfBothSchemesIsNotForGood(t *testing.T) {
	pooled(t, status(401), nil, func(r *rig) {
		id := r.submit("https://app.example/1", "k", queue.Normal, 72*time.Hour, theHost)
		time.Sleep(day)
		both := 0
		for _, q := range r.to(theHost) {
			if q.scheme == signer.RFC9421 {
				both++
			}
		}
		if attempts := r.delivery(id).Attempts; both < 2 || both > 4 || len(r.to(theHost)) != attempts+both {
			t.Errorf("%d attempts in a day made %d requests, %d of them by RFC 9421", attempts, len(r.to(theHost)), both)
		}
		r.answers(takes9421(401).answer)
		time.Sleep(day)
		if c := r.counts(id); c.Delivered != 1 {
			t.Errorf("counts %+v, want 1 delivered", c)
		}
	})
}

// finals is a store whose activities have final statuses.
type finals struct {
	queue.Lanes
	statuses []int
}

func (q finals) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	turns, err := q.Lanes.Take(ctx, leases, n)
	for i := range turns {
		for j := range turns[i].Deliveries {
			d := &turns[i].Deliveries[j]
			activity := *d.Activity
			activity.Final = q.statuses
			d.Activity = &activity
		}
	}
	return turns, err
}

func TestFinalStatuses(t *testing.T) {
	for _, c := range []struct {
		answer   Answer
		known    signer.Scheme
		requests string
		failures int // of the host
		waits    bool
	}{
		{answer: Answer{Status: 401}, requests: "cavage rfc9421"},
		{answer: Answer{Status: 401}, known: signer.Cavage, requests: "cavage"},
		{answer: Answer{Status: 401}, known: signer.RFC9421, requests: "rfc9421 cavage"},
		{answer: Answer{Status: 408}, requests: "cavage", failures: 1},
		{answer: Answer{Status: 429, RetryAfter: "3600"}, requests: "cavage", waits: true},
		{answer: Answer{Status: 404}, requests: "cavage"},
	} {
		t.Run(fmt.Sprintf("%d %s", c.answer.Status, c.known), func(t *testing.T) {
			pooled(t, takes9421(401).answer, func(o *Options) { o.Queue = finals{o.Queue, []int{c.answer.Status}} }, func(r *rig) {
				if c.known == signer.Cavage {
					r.answers(status(202))
				}
				if c.known != "" {
					r.send(testKey)
				}
				before := len(r.to(theHost))
				r.answers(func(*http.Request) Answer { return c.answer })
				id := r.submit("https://app.example/1", "k", queue.Normal, 72*time.Hour, theHost)
				time.Sleep(time.Minute)
				d := r.delivery(id)
				if d.State != queue.StateDead || d.Reason != queue.ReasonRejected || d.Attempts != 1 {
					t.Errorf("%s, %q after %d attempts; want dead, rejected after 1", d.State, d.Reason, d.Attempts)
				}
				var got []string
				for _, q := range r.to(theHost)[before:] {
					got = append(got, string(q.scheme))
				}
				if strings.Join(got, " ") != c.requests {
					t.Errorf("requests %q, want %q", got, c.requests)
				}
				h := r.host(theHost)
				if h.Record.Breaker.Failures != c.failures || h.RetryAt.IsZero() == c.waits {
					t.Errorf("the host has %d failures and waits until %s", h.Record.Breaker.Failures, h.RetryAt)
				}
			})
		})
	}
}

package simulation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// post is one call of the app, and what was answered.
type post struct {
	at       time.Duration
	body     string // its name, too
	twin     string // the body of an earlier one with the same activity URI
	uri, key string
	role     queue.Role
	priority queue.Priority
	ttl      time.Duration
	to       []queue.Recipient
	again    time.Duration // when the call is repeated, 0 is never

	// Guarded by the checker's mutex.
	offered, answered bool
	cancelled         bool // by an operator
	id                string
	accepted          int
}

// plan draws what the app posts: notes that are made, changed and deleted, direct messages, bulk, the same twice.
func plan(w *world) []*post {
	r := dice(w.seed, "app")
	var ps []*post
	add := func(at time.Duration, key string, role queue.Role, pr queue.Priority, to []queue.Recipient) *post {
		p := &post{
			at: at, body: fmt.Sprintf("p%d", len(ps)), key: key, role: role, priority: pr, to: to,
			ttl: pick(r, ttl, ttl, 24*time.Hour),
		}
		p.uri = "https://app.example/" + p.body
		ps = append(ps, p)
		return p
	}
	for len(ps) < w.config.posts {
		at, key := between(r, 0, w.end), fmt.Sprintf("note%d", len(ps))
		switch n := r.IntN(20); {
		case n < 6: // a note with its followers, and what becomes of it
			to := w.recipients(r, 0.2+0.8*r.Float64())
			first := add(at, key, queue.Makes, queue.Normal, to)
			if r.IntN(3) == 0 {
				first.again = at + between(r, time.Second, 20*time.Hour)
			}
			for range r.IntN(3) {
				at += pick(r, between(r, time.Millisecond, time.Minute), between(r, time.Minute, 12*time.Hour))
				add(at, key, queue.Other, queue.Normal, to)
			}
			if r.IntN(2) == 0 {
				at += pick(r, between(r, time.Millisecond, time.Minute), between(r, time.Minute, 12*time.Hour))
				add(at, key, queue.Deletes, queue.Normal, to)
			}
		case n < 12: // a direct message
			add(at, key, queue.Other, queue.High, w.some(r, 1+r.IntN(3)))
		case n < 16: // bulk
			add(at, key, queue.Other, queue.Low, w.recipients(r, 0.5*r.Float64()))
		case n < 18: // the same activity twice, to more
			to := w.recipients(r, 0.5)
			first := add(at, key, queue.Other, queue.Normal, to[:len(to)/2])
			second := add(at+between(r, time.Second, time.Hour), key, queue.Other, queue.Normal, to)
			second.uri, second.twin = first.uri, first.body
		default: // many for few
			to := w.some(r, 1+r.IntN(2))
			for range 1 + r.IntN(12) {
				add(at, fmt.Sprintf("note%d", len(ps)), queue.Other, queue.Normal, to)
				at += between(r, time.Millisecond, time.Second)
			}
		}
	}
	return ps
}

// recipients draws a share of the hosts, some with more than one inbox.
func (w *world) recipients(r *rand.Rand, share float64) (to []queue.Recipient) {
	for _, h := range w.list {
		if r.Float64() > share {
			continue
		}
		inboxes := []string{"/inbox"}
		if r.IntN(12) == 0 {
			inboxes = append(inboxes, "/users/bob/inbox")
		}
		for _, i := range inboxes {
			to = append(to, queue.Recipient{Inbox: "https://" + h.name + i, Host: h.name})
		}
	}
	return to
}

// some draws a few hosts.
func (w *world) some(r *rand.Rand, n int) (to []queue.Recipient) {
	for _, i := range r.Perm(len(w.list))[:n] {
		h := w.list[i]
		to = append(to, queue.Recipient{Inbox: "https://" + h.name + "/inbox", Host: h.name})
	}
	return to
}

// submission makes the call. A repeated one is the same.
func (p *post) submission(seed uint64, start time.Time) *queue.Submission {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:], uint64(start.Add(p.at).UnixMilli())<<16)
	binary.BigEndian.PutUint64(id[8:], mix(seed, p.body))
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return &queue.Submission{
		Activity: queue.Activity{
			ID: id.String(), URI: p.uri, Type: "Create", KeyID: testKey, OrderingKey: p.key, Priority: p.priority, Role: p.role,
			Body: []byte(p.body),
		},
		Recipients: p.to, TTL: p.ttl,
		Idempotency: queue.Idempotency{Key: sha256.Sum256([]byte(p.body)), Fingerprint: sha256.Sum256([]byte(p.body))},
	}
}

// post makes the calls, one after another, each until it is answered.
func (w *world) post() {
	calls := map[time.Duration]*post{}
	var ats []time.Duration
	for _, p := range w.plan {
		if len(p.to) == 0 {
			continue
		}
		for _, at := range []time.Duration{p.at, p.again} {
			if at > 0 {
				calls[at] = p
				ats = append(ats, at)
			}
		}
	}
	r := dice(w.seed, "app calls")
	for _, at := range byTime(ats) {
		if !w.wait(at) {
			return
		}
		p := calls[at]
		for !w.check.pointless(p) && w.life.Err() == nil {
			_, err := w.store().Enqueue(w.life, p.submission(w.seed, w.start))
			if err == nil {
				break
			}
			time.Sleep(between(r, 100*time.Millisecond, 10*time.Second))
		}
		time.Sleep(between(r, time.Microsecond, time.Millisecond))
	}
}

// pointless tells that a call need not be repeated: all of it was refused, and what is refused now may be taken later.
func (c *checker) pointless(p *post) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return p.answered && p.id == ""
}

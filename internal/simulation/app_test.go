package simulation

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// post is one call of the app, and its answer.
type post struct {
	at       time.Duration
	name     string // unique
	body     string // that of another post if the same activity is sent again
	uri, key string
	refers   string
	object   string
	role     queue.Role
	priority queue.Priority
	ttl      time.Duration
	to       []queue.Recipient
	keyless  bool          // it has no idempotency key: made again, it is another post
	again    time.Duration // when the call is repeated, 0 is never

	// Guarded by the checker's mutex.
	offered, answered bool
	cancelled         bool   // by an operator
	cancels           int    // how many deliveries that ended
	id                string // "" until it is stored
	nth               int    // its ordinal in the order accepted
	ordering          string // its ordering key as the store has to find it
	accepted          int
	deaths            int           // how many of its deliveries are dead, by the feed
	done              *queue.Counts // what the feed has of its end; nil while anything is pending
}

// queueID returns the ID that the call gives the activity.
func (p *post) queueID(seed uint64, start time.Time) string {
	var id uuid.UUID
	binary.BigEndian.PutUint64(id[:], uint64(start.Add(p.at).UnixMilli())<<16)
	binary.BigEndian.PutUint64(id[8:], mix(seed, p.name))
	id[6], id[8] = id[6]&0x0f|0x70, id[8]&0x3f|0x80
	return id.String()
}

// metadata returns what the app says of every other post.
func (p *post) metadata() []byte {
	if mix(0, p.name)%2 == 0 {
		return nil
	}
	return fmt.Appendf(nil, `{"post":%q}`, p.name)
}

// submission makes the call. A repeated one is the same.
func (p *post) submission(w *world) *queue.Submission {
	s := &queue.Submission{
		Activity: queue.Activity{
			ID: p.queueID(w.seed, w.start), URI: p.uri, Type: "Create", KeyID: testKey, OrderingKey: p.key, Refers: p.refers,
			Object: p.object, Role: p.role, Priority: p.priority, Body: []byte(p.body), Metadata: p.metadata(),
		},
		Recipients: p.to, TTL: p.ttl,
	}
	if !p.keyless {
		s.Idempotency = queue.Idempotency{Key: sha256.Sum256([]byte(p.name)), Fingerprint: sha256.Sum256([]byte(p.body))}
	}
	return s
}

// post makes the calls, one after another, and repeats each until it is answered.
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
			_, err := w.store().Enqueue(w.life, p.submission(w))
			if err == nil {
				break
			}
			time.Sleep(between(r, 100*time.Millisecond, 10*time.Second))
			p = w.madeAgain(p)
		}
		time.Sleep(between(r, time.Microsecond, time.Millisecond))
	}
}

// madeAgain returns the call that an app makes after one that failed: the same or, without an idempotency key, another.
func (w *world) madeAgain(p *post) *post {
	if !p.keyless {
		return p
	}
	w.check.mu.Lock()
	defer w.check.mu.Unlock()
	q := &post{
		at: p.at, name: p.name + "'", body: p.body, uri: p.uri, key: p.key, refers: p.refers, object: p.object, role: p.role,
		priority: p.priority, ttl: p.ttl, to: p.to, keyless: true,
	}
	w.posts[q.queueID(w.seed, w.start)] = q
	return q
}

// pointless reports whether a call need not be repeated: all of it was refused, though it may be accepted later.
func (c *checker) pointless(p *post) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return p.answered && p.id == ""
}

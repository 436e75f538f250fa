package simulation

import (
	"context"
	"fmt"
	"hash/fnv"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// grain is the store's: it counts in whole milliseconds.
const grain = time.Millisecond

// checker checks all events against the promises. It knows the hosts' answers and what was settled, never the state of
// the engine.
type checker struct {
	w     *world
	rules rules

	mu         sync.Mutex
	hosts      map[string]*host
	pairs      map[string]*pair // by the post's name and inbox
	byID       map[string]*pair // by delivery
	chains     map[string][]*pair
	tombstones map[string][]*tombstone // by object
	posts      []*post
	opened     time.Time // when the store was last opened
	stored     int       // posts accepted so far
	revivals   int       // dead letters made pending again
	accepted   int
	violations []string
	trace      io.Writer // may be nil
	hash       uint64
	steps      int
	figures    figures
	busy       map[int]chan struct{} // closed when a node sends something
	feed       feed
	delays     []span // in which others may be late
}

// pair is a delivery: one activity and one inbox.
type pair struct {
	post     *post
	inbox    string
	host     *host
	nth      int  // in the order accepted
	known    bool // accepted for certain
	accepted time.Time
	expires  time.Time
	took     time.Time // when it was taken last
	void     time.Time // when it may have ended without an attempt; if it was taken before, it may still be attempted
	revived  time.Time // when it was made pending again
	deleted  bool      // its dead letter was
	tried    bool      // an attempt was settled
	restored int       // the latest post that undid a Delete of its object while it was pending
	stuck    bool      // it was taken as its host was paused
	token    uint64    // of the lease that took it last
	early    bool
	first    bool     // its host had never been reached when it was accepted
	open     *attempt // begun and not settled
	spent    int
	attempts int
	received int // 2xx sent by the host
	arrived  time.Time
	ended    queue.DeliveryState // "" while pending
	last     meaning
	result   *queue.LastAttempt // of the last attempt that was settled
	told     queue.EventKind    // how the feed says that it ended; "" while it is pending
}

const stateDelivered queue.DeliveryState = "delivered"

func (p *pair) String() string { return p.post.name + " to " + p.inbox }

// attempt is one attempt, of one or two requests.
type attempt struct {
	pair    *pair
	node    *node
	token   uint64
	began   time.Time
	early   bool
	suspect bool // when it began
	answers []answered
	fault   bool // on our side: not to be counted
	freed   bool // its slot is free
}

// answered is one answer.
type answered struct {
	reply
	at time.Time
}

// meaning returns the meaning of an attempt's answers together: the second request counts if it had another result.
func (a *attempt) meaning() verdict {
	if a.fault || len(a.answers) == 0 {
		return verdict{}
	}
	v := a.answers[0]
	if len(a.answers) > 1 {
		if s := a.answers[len(a.answers)-1]; s.means == delivered || s.means == throttled || s.Status == 0 {
			v = s
		}
	}
	return verdict{v.means, v.at, v.at.Add(-a.view().lag).Unix() / 86400, v.asked, v.Status}
}

// wrong records a broken promise. c.mu is held.
func (c *checker) wrong(format string, args ...any) {
	text := fmt.Sprintf("%s: ", c.w.since()) + fmt.Sprintf(format, args...)
	c.note("WRONG", text)
	wanted := c.w.until != "" && strings.Contains(text, c.w.until)
	if wanted {
		c.w.abort()
	}
	if len(c.violations) < 20 || wanted {
		c.violations = append(c.violations, text)
	}
}

// note adds a step to the trace. c.mu is held.
func (c *checker) note(what string, args ...any) {
	h := fnv.New64a()
	line := fmt.Appendf(nil, "%d %s %v", time.Since(c.w.start), what, args)
	h.Write(line)
	c.hash = (c.hash^h.Sum64())*1099511628211 + 1
	c.steps++
	if c.trace != nil {
		fmt.Fprintf(c.trace, "%s\n", line)
	}
}

// begin checks the start of an attempt. A request by the other scheme belongs to the same attempt.
func (c *checker) begin(n *node, id, body, inbox string) *attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.byID[id]
	if p == nil {
		c.wrong("attempted, but never accepted: %s to %s", body, inbox)
		return nil
	}
	if body != p.post.body || inbox != p.inbox {
		c.wrong("%s: attempted with the body %q at %s", p, body, inbox)
	}
	token, now := n.taken[p], time.Now()
	if a := n.attempts[p]; a != nil && a.token == token && (a == p.open || token < p.host.token) {
		return a
	}
	a := &attempt{pair: p, node: n, token: token, began: now, early: p.early}
	a.suspect = p.host.suspect() && a.view().epoch == p.host.epoch
	c.checkBegin(a)
	p.open, n.attempts[p] = a, a
	p.attempts++
	p.host.begun[a] = true
	n.begun++
	if a.suspect {
		n.suspects++
	}
	if n.begun > c.rules.concurrency {
		c.wrong("node %d has %d attempts in flight", n.id, n.begun)
	}
	if most := max(1, c.rules.concurrency/2); n.suspects > most && a.suspect && c.suspects(n) > most {
		c.wrong("node %d has %d attempts in flight to suspect hosts", n.id, c.suspects(n))
	}
	return a
}

// suspects counts the slots that a node holds for hosts that are still suspect: one that fails and succeeds by turns,
// as its inboxes differ, frees them for others each time.
func (c *checker) suspects(n *node) (count int) {
	for _, h := range c.w.list {
		for a := range h.begun {
			if a.node == n && a.suspect && !a.freed && h.suspect() {
				count++
			}
		}
	}
	return count
}

func (c *checker) checkBegin(a *attempt) {
	p, h := a.pair, a.pair.host
	switch {
	case p.ended != "" && !p.void.After(p.took):
		c.wrong("%s: attempted after it had ended (%s)", p, p.ended)
	case h.held() && p.took.After(h.heldSince()):
		c.wrong("%s: attempted although %s is paused or blocked", p, h.name)
	case a.token == 0:
		c.wrong("%s: attempted without having been taken", p)
	case p.open != nil && !p.open.node.faulty(p.open.began, a.began):
		c.wrong("%s: attempted twice", p)
	case a.token < h.token && !a.node.faulty(time.Time{}, a.began):
		c.wrong("%s: attempted under an old lease", p)
	case a.began.After(h.sweptBy(p).Add(time.Hour)):
		c.wrong("%s: attempted long after it expired", p)
	case a.began.Before(h.wait.Add(-grain)) && a.token == h.token:
		c.wrong("%s: attempted although %s waits until %s", p, h.name, c.w.at(h.wait))
	}
	same := 1
	for o := range h.begun {
		if o.token == a.token {
			same++
		}
	}
	switch {
	case h.probed() && same > 1:
		c.wrong("%s: %d probes of %s at a time", p, same, h.name)
	case h.failures+same > c.rules.threshold && !h.probed():
		c.wrong("%s: %d failures and %d attempts in flight to %s", p, h.failures, same, h.name)
	case same > c.rules.window:
		c.wrong("%s: %d attempts in flight to %s", p, same, h.name)
	}
	c.checkOrder(p)
}

// sent checks a request that arrives at the host, and lets the host answer it.
func (c *checker) sent(a *attempt, scheme signer.Scheme) reply {
	c.mu.Lock()
	defer c.mu.Unlock()
	h := a.pair.host
	for _, o := range sorted(h.inFlight) {
		if o.token != a.token && !o.node.faulty(o.began, time.Now()) && !a.node.faulty(a.began, time.Now()) {
			c.wrong("%s: nodes %d and %d work on %s at once", a.pair, o.node.id, a.node.id, h.name)
		}
	}
	if holder := c.w.leases.holder(h.name); holder != a.token && !a.node.faulty(a.began.Add(-c.w.lease), time.Now()) {
		c.wrong("%s: node %d works on %s without its lease", a.pair, a.node.id, h.name)
	}
	h.inFlight[a] = true
	c.note("sent", a.node.id, a.pair.post.name, a.pair.inbox, a.token, scheme)
	h.requests++
	h.sentTo = time.Now()
	c.strike(a.node.id)
	c.figures.request(h, c.w.since())
	return h.serve(time.Now(), c.w.start, a.pair.inbox, scheme)
}

// received records that the host has accepted the activity, even if its answer is lost.
func (c *checker) received(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := a.pair
	if p.received++; p.received == 1 {
		p.arrived = time.Now()
		c.figures.arrived(p)
	} else {
		c.figures.repeats++
	}
}

// answered records the answer, or that there was none (nothing).
func (c *checker) answered(a *attempt, r reply) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(a.pair.host.inFlight, a)
	a.answers = append(a.answers, answered{r, time.Now()})
	c.note("answer", a.node.id, a.pair.post.name, a.pair.inbox, r.Status, r.means)
}

// turnEnded records that a turn has ended: its slots are free.
func (c *checker) turnEnded(n *node, l lockmgr.Lease) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for a := range c.hosts[l.Host].begun {
		if a.node == n && a.token == l.Token {
			c.free(a)
		}
	}
}

// died records that a node has died: its attempts in flight end.
func (c *checker) died(n *node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.note("died", n.id)
	for _, h := range c.hosts {
		for a := range h.inFlight {
			if a.node == n {
				delete(h.inFlight, a)
			}
		}
	}
}

// sorted returns attempts in the order in which they began.
func sorted(set map[*attempt]bool) []*attempt {
	as := make([]*attempt, 0, len(set))
	for a := range set {
		as = append(as, a)
	}
	slices.SortFunc(as, func(a, b *attempt) int { return a.began.Compare(b.began) })
	return as
}

// nodeKey carries the node through contexts.
type nodeKey struct{}

func nodeOf(ctx context.Context) *node {
	n, _ := ctx.Value(nodeKey{}).(*node)
	return n
}

package simulation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/postrider/postrider/queue"
)

// feed is the feed as the checker has read it, entry by entry, and what has to be in it by now.
type feed struct {
	calls  int // to the store that may write entries and have not returned
	cursor string
	log    []logged
	places map[string]int // how many entries there are up to a cursor
	owed   []*pair        // deliveries that ended
	ending map[*post]bool // posts that may have ended
}

// logged is an entry that was read.
type logged struct {
	queue.Event
	text string // all that it says, but for the time
	read time.Time
}

// textOf returns all that an entry says, but for the time: the wall clock jumps.
func textOf(e *queue.Event) string {
	text := fmt.Sprint(e.Cursor, " ", e.Kind, " ", e.Host, e.State, " ", e.ActivityID, " ", e.Inbox, e.IDs, " ", e.Reason, e.Attempts)
	if e.Counts != nil {
		text += fmt.Sprintf(" %+v", *e.Counts)
	}
	return text
}

// calling begins a call that may write entries. The function that it returns ends it and, if look is set, checks the feed.
func (c *checker) calling(look bool) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.feed.calls++
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.feed.calls--; look {
			c.checkFeed()
		}
	}
}

// look checks the feed between two calls.
func (c *checker) look() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checkFeed()
}

// checkFeed reads what is new in the feed and checks that all of it is true and nothing is missing. It reports whether it
// could: the store may be closed, and what is written by a call that has not returned may be in the feed before the account
// knows of it. c.mu is held.
func (c *checker) checkFeed() bool {
	if c.feed.calls > 0 || !c.readFeed() {
		return false
	}
	for _, p := range c.feed.owed {
		if p.told == "" && (p.ended == queue.StateDead || c.w.feedLimits.Delivered) {
			c.wrong("%s: it ended (%s), and the feed has no entry", p, p.ended)
		}
		c.feed.ending[p.post] = true
	}
	for p := range c.feed.ending {
		if p.done == nil && p.accepted > 0 && len(c.left(p)) == 0 {
			c.wrong("%s: it is done, and the feed has no entry", p.name)
		}
	}
	c.feed.owed = nil
	clear(c.feed.ending)
	for _, h := range c.w.list {
		if must, may := h.states(time.Now()); h.told != must && h.told != may {
			c.wrong("%s: by the feed it is %s, must be %s or %s", h.name, h.told, must, may)
		}
	}
	return true
}

// everyEntry passes all entries, so that each cursor that a reader gets is known, also one of an action.
var everyEntry = queue.FeedFilter{Kinds: []queue.EventKind{
	queue.EventDead, queue.EventHostState, queue.EventActivityDone, queue.EventDelivered, queue.EventAction,
}}

// readFeed reads what is new in the feed, unless the store is closed.
func (c *checker) readFeed() bool {
	for {
		list, err := c.w.store().Queue.Feed(context.WithoutCancel(c.w.life), everyEntry, queue.Page{Limit: 500, Cursor: c.feed.cursor})
		if errors.Is(err, queue.ErrClosed) {
			return false
		} else if err != nil {
			panic(err)
		}
		for _, e := range list.Items {
			c.feed.log = append(c.feed.log, logged{e, textOf(&e), time.Now()})
			c.feed.places[e.Cursor] = len(c.feed.log)
			c.entry(&e)
		}
		if c.feed.cursor = list.Next; len(list.Items) < 500 { // this store's pages are shorter only at the end
			return true
		}
	}
}

// entry checks one entry.
func (c *checker) entry(e *queue.Event) {
	if c.trace != nil { // no step: what one transaction writes of several activities or hosts is in any order
		fmt.Fprintf(c.trace, "%d entry %s\n", c.w.since(), textOf(e))
	}
	switch e.Kind {
	case queue.EventHostState:
		c.stateEntry(e)
		return
	case queue.EventAction: // the contract of the stores says which calls have one
		return
	}
	p := c.byPost(e.ActivityID)
	switch {
	case p == nil:
		c.wrong("the feed has %q of an activity that was never accepted", textOf(e))
	case e.URI != p.uri || string(e.Metadata) != string(p.metadata()):
		c.wrong("%s: in the feed as %s with %s", p.name, e.URI, e.Metadata)
	case p.done != nil:
		c.wrong("%s: %q comes after the entry that it is done", p.name, textOf(e))
	case e.Kind == queue.EventActivityDone:
		c.doneEntry(p, e)
	default:
		c.endEntry(c.pairs[p.name+" "+e.Inbox], p, e)
	}
}

// stateEntry checks that a host changed its state. Whether to the right one, checkFeed looks.
func (c *checker) stateEntry(e *queue.Event) {
	h := c.hosts[e.Host]
	if h == nil || h.told == e.State {
		c.wrong("%s: by the feed it is %s, which is no change", e.Host, e.State)
		return
	}
	h.told = e.State
}

// endEntry checks that a delivery ended as the feed says.
func (c *checker) endEntry(q *pair, p *post, e *queue.Event) {
	if q == nil || !q.known || q.told != "" {
		c.wrong("%s: the feed has %q of what is not pending", p.name, textOf(e))
		return
	}
	q.told = e.Kind
	c.feed.ending[p] = true
	if e.Host != q.host.name || !slices.Equal(e.IDs, q.ids()) || c.byID[e.ID] != nil && c.byID[e.ID] != q {
		c.wrong("%s: in the feed as %s of %s with the IDs %v", q, e.ID, e.Host, e.IDs)
	}
	if (e.Attempt == nil) != (q.result == nil) || e.Attempt != nil && (e.Attempt.Status != q.result.Status || e.Attempt.Outcome != q.result.Outcome) {
		c.wrong("%s: its last attempt in the feed is %+v, must be %+v", q, e.Attempt, q.result)
	}
	switch e.Kind {
	case queue.EventDead:
		p.deaths++
		if q.ended == stateDelivered {
			c.wrong("%s: dead by the feed, though it was delivered", q)
		}
		c.checkDeath(q, e.Reason, e.Attempts)
	case queue.EventDelivered:
		if q.ended != stateDelivered || e.Attempts != q.spent+1 || !c.w.feedLimits.Delivered {
			c.wrong("%s: delivered by the feed at attempt %d of %d (%s)", q, e.Attempts, q.spent+1, q.ended)
		}
	}
}

// ids returns the IDs of the actors behind the inbox, as the post named them.
func (p *pair) ids() []string {
	i := slices.IndexFunc(p.post.to, func(r queue.Recipient) bool { return r.Inbox == p.inbox })
	return p.post.to[i].IDs
}

// doneEntry checks that nothing of a post is pending, and the counts.
func (c *checker) doneEntry(p *post, e *queue.Event) {
	want := queue.Counts{Total: p.accepted, Dead: p.deaths}
	for _, r := range p.to {
		if c.pairs[p.name+" "+r.Inbox].ended == stateDelivered {
			want.Delivered++
		}
	}
	want.Cancelled = want.Total - want.Delivered - want.Dead
	if e.Counts == nil || *e.Counts != want {
		c.wrong("%s: done by the feed with %+v, must be %+v", p.name, e.Counts, want)
	}
	for _, q := range c.left(p) {
		if !c.mayVanish(q) {
			c.wrong("%s: done by the feed, which has no end of %s", p.name, q)
		}
	}
	p.done = e.Counts
}

// left returns the deliveries of a post that may be pending, by the feed.
func (c *checker) left(p *post) (all []*pair) {
	for _, r := range p.to {
		if q := c.pairs[p.name+" "+r.Inbox]; q.known && q.ended == "" && q.told == "" {
			all = append(all, q)
		}
	}
	return all
}

// states returns the state that the feed has to show of a host, and another that it may show: that a host is throttled no
// longer is known only when the store looks.
func (h *host) states(now time.Time) (must, may queue.HostState) {
	switch {
	case h.blocked:
		must = queue.HostBlocked
	case h.paused:
		must = queue.HostPaused
	case h.unavailable:
		must = queue.HostUnavailable
	case h.open:
		must = queue.HostOpen
	case h.failures > 0:
		must = queue.HostFailing
	case h.refusals >= queue.RefusingAfter:
		must = queue.HostRefusing
	case h.throttles == 0:
		must = queue.HostHealthy
	case now.Before(h.wait.Add(-grain)):
		must = queue.HostThrottled
	default:
		return queue.HostHealthy, queue.HostThrottled
	}
	return must, must
}

// compareFeed compares what the feed said with what the store says of posts and dead letters. c.mu is held.
func (c *checker) compareFeed() {
	if !c.checkFeed() {
		return
	}
	for _, p := range c.posts {
		if p.accepted == 0 {
			continue
		}
		a, err := c.w.store().Queue.Activity(context.WithoutCancel(c.w.life), p.id)
		if err != nil {
			return
		}
		if (a.Counts.Pending == 0) != (p.done != nil) || p.done != nil && *p.done != a.Counts {
			c.wrong("%s: done by the feed with %+v, but it has %+v", p.name, p.done, a.Counts)
		}
	}
	for _, l := range c.w.deadLetters() {
		if p := c.byPost(l.ActivityID); p != nil && c.pairs[p.name+" "+l.Inbox].told != queue.EventDead {
			c.wrong("%s: a dead letter, and the feed has no entry", c.pairs[p.name+" "+l.Inbox])
		}
	}
}

// finishFeed checks that the feed still says what it said, as long as it keeps it.
func (c *checker) finishFeed() {
	var all []queue.Event
	for cursor := ""; ; {
		list, err := c.w.store().Queue.Feed(context.WithoutCancel(c.w.life), everyEntry, queue.Page{Limit: 500, Cursor: cursor})
		if err != nil {
			panic(err)
		}
		if all = append(all, list.Items...); list.Next == cursor {
			break
		}
		cursor = list.Next
	}
	gone := len(c.feed.log) - len(all)
	for i, l := range c.feed.log {
		switch kept := c.w.feedLimits.Retention; {
		case i < gone && (kept == 0 || time.Since(l.read) < kept-24*time.Hour): // what a sweep wrote was read hours later
			c.wrong("the feed has lost %q", l.text)
		case i >= gone && l.text != textOf(&all[i-gone]):
			c.wrong("the feed had %q, and now %q", l.text, textOf(&all[i-gone]))
		}
	}
}

package simulation

import (
	"slices"
	"time"

	"github.com/postrider/postrider/queue"
)

// reader is an app that sleeps for hours and then reads what the feed has new. It must get what the checker got.
type reader struct {
	w      *world
	name   string
	filter queue.FeedFilter
	limit  int
	picky  bool // it goes on behind the last entry that it got, as subscribers of events do
	stored bool // its position is in the store
	cursor string
}

// newReaders draws the readers of a world.
func newReaders(w *world) []*reader {
	r := dice(w.seed, "readers")
	some := queue.FeedFilter{Hosts: []string{pick(r, w.list...).name, pick(r, w.list...).name, pick(r, w.list...).name}}
	ends := queue.FeedFilter{Kinds: []queue.EventKind{queue.EventDead, queue.EventActivityDone}}
	return []*reader{
		{w: w, name: "of all", limit: 1 + r.IntN(20)},
		{w: w, name: "of ends", limit: 1 + r.IntN(20), filter: ends},
		{w: w, name: "of hosts", limit: 1 + r.IntN(5), filter: some, picky: true},
		{w: w, name: "stored", limit: 100, stored: true},
	}
}

// run reads until the posts and faults have ended, and then once more.
func (r *reader) run() {
	d := dice(r.w.seed, "reader", r.name)
	for last := false; !last; {
		wake := r.w.since() + pick(d, time.Hour, between(d, time.Minute, 20*time.Hour))
		if last = wake > r.w.end+ttl+11*time.Hour; !r.w.wait(wake) {
			return
		}
		r.catchUp()
	}
}

// catchUp reads to the end of the feed or, if the store fails, until then.
func (r *reader) catchUp() {
	from, err := r.cursor, error(nil)
	if r.stored {
		from, err = r.w.store().FeedPosition(r.w.life, r.name)
	}
	for err == nil {
		var list queue.List[queue.Event]
		if list, err = r.w.store().Feed(r.w.life, r.filter, queue.Page{Limit: r.limit, Cursor: from}); err != nil {
			break
		}
		next, n := list.Next, len(list.Items)
		if r.picky && n > 0 {
			next = list.Items[n-1].Cursor
		}
		r.w.check.hasRead(r, list.Items, from, next)
		r.cursor = next
		if n == 0 && next == from {
			break
		}
		if from = next; r.stored {
			err = r.w.store().SetFeedPosition(r.w.life, r.name, next) // if it fails, it reads again
		}
	}
}

// hasRead checks a page of the feed: all entries between the cursors that pass the reader's filter, and no other. One that
// ends where it began must be the end.
func (c *checker) hasRead(r *reader, items []queue.Event, from, next string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.checkFeed() {
		return
	}
	start, end := c.feed.places[from], c.feed.places[next]
	if from == next {
		end = len(c.feed.log)
	}
	var want, got []string
	for _, l := range c.feed.log[start:max(start, end)] {
		if r.filter.Passes(&l.Event) {
			want = append(want, l.text)
		}
	}
	for i := range items {
		got = append(got, textOf(&items[i]))
	}
	if end < start || !slices.Equal(want, got) {
		c.wrong("reader %s: read %q between %s and %s, must be %q", r.name, got, from, next, want)
	}
}

package redisq

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

const (
	feedChunk   = 16   // entries that a page reads of each partition at first, or twice its share if that is more
	feedRefills = 16   // how often a page reads more of a partition
	feedLooked  = 5000 // entries that a page looks at
	feedTrim    = 1000 // entries of each partition that are looked at to drop the oldest
	feedSlack   = 10   // this part of the cap may be written by a node until it has the feed swept
)

// position is that of an entry in a partition: its time there, and its number among those of that time. The zero position is
// before all entries.
type position struct{ ms, n int64 }

func (a position) compare(b position) int {
	return cmp.Or(cmp.Compare(a.ms, b.ms), cmp.Compare(a.n, b.n))
}

// id is the ID of the entry in the stream.
func (a position) id() string { return strconv.FormatInt(a.ms, 10) + "-" + strconv.FormatInt(a.n, 10) }

// feedPart is what a page knows of the feed of a partition.
type feedPart struct {
	*partition
	at      position    // of the last entry that was passed; newest first, if none was, behind the newest
	back    bool        // newest first
	entries []feedEntry // that come next
	whole   bool        // there were no others
	newest  position    // that there ever was, when the entries were read
	now     int64       // by the partition's clock, likewise
}

// read reads the entries that come next, some at most.
func (f *feedPart) read(ctx context.Context, most int) error {
	var lag int64
	var texts []string
	at := ""
	if f.at != (position{}) {
		at = f.at.id()
	}
	args := []string{at, strconv.Itoa(most), flag(f.back)}
	err := f.run(ctx, script.ReadFeed, nil, args, &lag, &f.now, &f.newest.ms, &f.newest.n, &texts)
	if err != nil {
		return err
	}
	if f.back && at == "" {
		f.at = position{f.newest.ms, f.newest.n + 1}
	}
	f.noteLag(lag)
	for pair := range slices.Chunk(texts, 2) {
		f.entries = append(f.entries, f.entry(pair[0], pair[1]))
	}
	f.whole = len(f.entries) < most
	return nil
}

// passed reports whether all entries up to one were passed, or are gone: none can come any more before the time of this reading.
func (f *feedPart) passed(to position) bool {
	switch {
	case f.at.compare(to) >= 0:
		return true
	case len(f.entries) > 0:
		return f.entries[0].at.compare(to) > 0
	}
	return f.whole && (f.newest.compare(to) >= 0 || f.now > to.ms)
}

// feedPage is a page of the feed on its way: the entries of all partitions are merged by time. After an entry that says so,
// others of other partitions come first.
type feedPage struct {
	parts   []*feedPart // those that are read
	all     []*feedPart // by number
	filter  queue.FeedFilter
	refills int // that are left
}

// Feed implements queue.Feed. A partition that can't be read holds up no other; what it has comes later.
func (s *reader) Feed(ctx context.Context, f queue.FeedFilter, p queue.Page) (list queue.List[queue.Event], err error) {
	defer wrap(&err, "feed")
	page, err := s.newFeedPage(p.Cursor, f)
	if err != nil {
		return list, err
	}
	if p.Cursor == queue.FeedEnd && !f.NewestFirst {
		list.Next, err = s.feedEnd(ctx, page)
		return list, err
	}
	if err := page.begin(ctx, p.Limit); err != nil {
		return list, err
	}
	for looked := 0; len(list.Items) < p.Limit && looked < feedLooked; looked++ {
		e, err := page.next(ctx, p.Limit)
		if err != nil {
			return list, err
		}
		if e == nil {
			break
		}
		if f.Passes(&e.Event) {
			e.Cursor = f.Cursor(s.feedCursor(page.all))
			list.Items = append(list.Items, e.Event)
		}
	}
	if !f.NewestFirst || !page.isOver() {
		list.Next = f.Cursor(s.feedCursor(page.all))
	}
	return list, nil
}

// newFeedPage begins a page behind a cursor. Only partitions of the hosts that are asked for are read.
func (s *reader) newFeedPage(cursor string, f queue.FeedFilter) (*feedPage, error) {
	text, err := f.ParseCursor(cursor)
	if err != nil {
		return nil, err
	}
	at, err := s.parseFeedCursor(text)
	if err != nil {
		return nil, err
	}
	page := &feedPage{filter: f, refills: feedRefills}
	wanted := s.byPartition(f.Hosts)
	for i, p := range s.parts {
		part := &feedPart{partition: p, at: at[i], back: f.NewestFirst}
		page.all = append(page.all, part)
		if len(f.Hosts) == 0 || wanted[p] != nil {
			page.parts = append(page.parts, part)
		}
	}
	return page, nil
}

// feedEnd returns the cursor behind the newest entry.
func (s *reader) feedEnd(ctx context.Context, page *feedPage) (string, error) {
	err := s.forEach(func(p *partition) error {
		f := page.all[p.N]
		err := f.read(ctx, 0)
		f.at = f.newest
		return err
	})
	return s.feedCursor(page.all), err
}

// begin reads the first entries of all partitions. It fails only if none can be read.
func (g *feedPage) begin(ctx context.Context, limit int) error {
	most := limit
	if len(g.parts) > 1 {
		most = max(feedChunk, 2*limit/len(g.parts))
	}
	errs := make(chan error, len(g.parts))
	for _, f := range g.parts {
		go func() { errs <- f.read(ctx, most) }()
	}
	var failed error
	worked := false
	for range g.parts {
		err := <-errs
		worked = worked || err == nil
		failed = cmp.Or(failed, err)
	}
	if worked {
		return nil
	}
	return failed
}

// next passes the next entry, or returns nil if none can be passed yet.
func (g *feedPage) next(ctx context.Context, limit int) (*feedEntry, error) {
	for _, f := range g.parts {
		if len(f.entries) > 0 || f.whole || f.now == 0 {
			continue // it has some, has no more, or can't be read
		}
		if g.refills--; g.refills < 0 {
			return nil, nil //nolint:nilnil // no entry is an answer
		}
		most := max(limit, feedChunk)
		if f.back {
			most = max(limit, feedLooked/feedRefills) // most may be left out, and nobody comes back for the rest by himself
		}
		if err := f.read(ctx, most); err != nil {
			return nil, err
		}
	}
	var first *feedPart
	for _, f := range g.parts {
		if len(f.entries) > 0 && (first == nil || f.isBefore(first)) && g.isReady(&f.entries[0]) {
			first = f
		}
	}
	if first == nil {
		return nil, nil //nolint:nilnil // likewise
	}
	e := &first.entries[0]
	first.at = e.at
	first.entries = first.entries[1:]
	return e, nil
}

// time is when the next entry was written, by the wall clock.
func (f *feedPart) time() int64 { return f.entries[0].at.ms + f.lag.ms.Load() }

// isBefore reports whether the next entry is listed before that of another partition.
func (f *feedPart) isBefore(other *feedPart) bool {
	if f.back {
		return f.time() > other.time()
	}
	return f.time() < other.time()
}

// isOver reports whether all entries of all partitions that are read were passed.
func (g *feedPage) isOver() bool {
	return !slices.ContainsFunc(g.parts, func(f *feedPart) bool { return len(f.entries) > 0 || !f.whole })
}

// isReady reports whether an entry may be listed: what has to be before it was. Newest first, its time is all that counts.
func (g *feedPage) isReady(e *feedEntry) bool {
	if g.filter.NewestFirst {
		return true
	}
	for _, after := range e.after {
		if f := g.all[after.partition]; !f.passed(after.position) && g.filter.Passes(&e.Event) {
			return false
		}
	}
	return true
}

// trimFeed drops so many entries of the feed, or fewer: the oldest ones.
func (s *sweeper) trimFeed(ctx context.Context, many int) error {
	if len(s.parts) == 1 {
		_, err := s.do(ctx, s.client.B().Xtrim().Key(s.parts[0].Key(rediskeys.Feed)).Maxlen().Threshold(strconv.Itoa(s.opts.Feed.Cap)).Build())
		return err
	}
	page := &feedPage{all: make([]*feedPart, len(s.parts)), filter: queue.FeedFilter{Kinds: []queue.EventKind{queue.EventFed}}} // no entry
	err := s.forEach(func(p *partition) error {
		page.all[p.N] = &feedPart{partition: p}
		return page.all[p.N].read(ctx, min(feedTrim, many))
	})
	if err != nil {
		return err
	}
	page.parts = page.all
	for range many {
		if e, err := page.next(ctx, 0); err != nil || e == nil {
			break // others follow in the next sweep
		}
	}
	return s.dropPassed(ctx, page)
}

// dropPassed drops the entries that a page has passed.
func (s *sweeper) dropPassed(ctx context.Context, page *feedPage) error {
	var commands []rueidis.Completed
	for _, f := range page.all {
		if f.at != (position{}) {
			next := position{f.at.ms, f.at.n + 1}
			commands = append(commands, s.client.B().Xtrim().Key(f.Key(rediskeys.Feed)).Minid().Threshold(next.id()).Build())
		}
	}
	_, err := s.do(ctx, commands...)
	return err
}

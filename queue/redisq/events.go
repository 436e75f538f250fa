package redisq

import (
	"context"
	"encoding/json"
	"time"

	"github.com/postrider/postrider/queue"
)

// Nodes publish events on a channel of their own, but only while some node has a subscriber: that node says so every
// watchEvery, on the channel that all nodes receive.
const (
	watchMessage = "watch"
	watchEvery   = 10 * time.Second // how often a node with subscribers says so
	watchTTL     = 3 * watchEvery   // how long that is believed
	eventBuffer  = 4096             // events on their way out of a node at most
	eventBatch   = 256              // of these in one message
)

func (s *channels) watched() bool { return int64(time.Since(s.start)) < s.watchedUntil.Load() }

func (s *channels) beWatched() { s.watchedUntil.Store(int64(time.Since(s.start) + watchTTL)) }

// Events implements queue.Watching.
func (s *channels) Events(ctx context.Context) (<-chan queue.Event, error) {
	return s.hub.Subscribe(ctx)
}

// receiveEvents is the source of the hub: it subscribes to the channel of events, and has all nodes publish there.
func (s *channels) receiveEvents(ctx context.Context, ready func()) {
	s.beWatched()
	s.work.Go(func() { s.announce(ctx) })
	s.work.Go(func() {
		for ctx.Err() == nil {
			sub := s.subscribe(func(_, message string) { s.received(message) }, func(string) { ready() })
			if sub.add(ctx, s.keys.Events()) == nil { // listen logs why it fails
				sub.wait(ctx)
			}
			sub.release()
			_ = pause(ctx, listenPause)
		}
	})
}

// received publishes to this node's subscribers what a node published.
func (s *channels) received(message string) {
	var events []queue.Event
	if err := json.Unmarshal([]byte(message), &events); err == nil {
		s.hub.Publish(events...)
	}
}

// announce tells all nodes that somebody watches, until ctx ends.
func (s *channels) announce(ctx context.Context) {
	again := time.Tick(watchEvery)
	for {
		s.beWatched()
		s.broadcast(ctx, watchMessage) // maybe in vain, but it is said again
		select {
		case <-ctx.Done():
			return
		case <-again:
		}
	}
}

// fedPause is how long a node waits, once the feed has new entries, for others of which it need not tell then.
const fedPause = 20 * time.Millisecond

// fed tells subscribers on all nodes that a script wrote so many entries to the feed, and sees to it that the feed is kept
// within its bounds.
func (s *channels) fed(entries int) {
	if entries == 0 {
		return
	}
	if limits := s.opts.Feed; limits.Cap > 0 && s.unswept.Add(int64(entries)) > int64(limits.Cap/feedSlack) {
		s.unswept.Store(0)
		s.sweepIn(0)
	}
	if s.opts.Feed.Retention > 0 {
		s.sweepIn(s.opts.Feed.Retention)
	}
	if s.watched() && s.telling.CompareAndSwap(false, true) {
		time.AfterFunc(fedPause, func() {
			s.telling.Store(false)
			s.Publish(queue.Event{Kind: queue.EventFed, At: time.Now().UTC()})
		})
	}
}

package redisq

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/postrider/postrider/queue"
)

// Events go to all nodes over a channel of their own, but only while somebody watches: who does says so, again and again,
// on the channel that all nodes hear.
const (
	watchMessage = "watch"
	watchEvery   = 10 * time.Second // how often who watches says so
	watchTTL     = 3 * watchEvery   // how long that is believed
	toldBuffer   = 4096             // events on their way out of a node at most
	toldBatch    = 256              // of these in one message
	watchBuffer  = 1024             // events on their way to one who watches
)

// watchers are those who watch on this node.
type watchers struct {
	mu     sync.Mutex
	all    map[chan queue.Event]struct{} // guarded by mu
	stop   func()                        // guarded by mu: ends listening; set while there is anybody
	ready  chan struct{}                 // guarded by mu: closed once events are heard
	closed bool                          // guarded by mu
}

func (s *Store) watched() bool { return int64(time.Since(s.start)) < s.watchedUntil.Load() }

func (s *Store) beWatched() { s.watchedUntil.Store(int64(time.Since(s.start) + watchTTL)) }

// Tell implements queue.Lanes.
func (s *Store) Tell(events ...queue.Event) {
	if !s.watched() {
		return
	}
	for _, e := range events {
		select {
		case s.told <- e:
		default:
			return
		}
	}
}

// spread sends out what was told, until ctx ends.
func (s *Store) spread(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-s.told:
			batch := []queue.Event{e}
			for len(batch) < min(toldBatch, 1+len(s.told)) {
				batch = append(batch, <-s.told)
			}
			if text, err := encode(batch, false); err == nil {
				_, _ = s.number(ctx, tellScript, s.parts[0], nil, []string{s.keys.Events(), text}) // events may be lost
			}
		}
	}
}

// Events implements queue.Watching.
func (s *Store) Events(ctx context.Context) (<-chan queue.Event, error) {
	events := make(chan queue.Event, watchBuffer)
	ready, err := s.join(ctx, events)
	if err != nil {
		return nil, err
	}
	waiting, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	select {
	case <-ready:
		return events, nil
	case <-waiting.Done():
		s.watchers.leave(events)
		return nil, context.Cause(waiting)
	}
}

// join adds one who watches until ctx ends. The first makes this node listen.
func (s *Store) join(ctx context.Context, events chan queue.Event) (ready <-chan struct{}, err error) {
	w := &s.watchers
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closed {
		return nil, queue.ErrClosed
	}
	if len(w.all) == 0 {
		watching, stop := context.WithCancel(context.WithoutCancel(ctx))
		ready := make(chan struct{})
		w.ready, w.stop = ready, stop
		s.beWatched()
		s.work.Go(func() { s.watch(watching, sync.OnceFunc(func() { close(ready) })) })
		s.work.Go(func() { s.announce(watching) })
	}
	w.all[events] = struct{}{}
	context.AfterFunc(ctx, func() { w.leave(events) })
	return w.ready, nil
}

// leave takes out one who watches, if it is there. The last ends listening.
func (w *watchers) leave(events chan queue.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, there := w.all[events]; !there {
		return
	}
	delete(w.all, events)
	close(events)
	if len(w.all) == 0 {
		w.stop()
	}
}

// close takes out all who watch, for ever.
func (w *watchers) close() {
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	for {
		w.mu.Lock()
		var one chan queue.Event
		for one = range w.all {
			break
		}
		w.mu.Unlock()
		if one == nil {
			return
		}
		w.leave(one)
	}
}

// give gives events to all who watch. Who is too slow loses them.
func (w *watchers) give(events []queue.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for ch := range w.all {
		for _, e := range events {
			select {
			case ch <- e:
			default:
			}
		}
	}
}

// watch hears events until ctx ends.
func (s *Store) watch(ctx context.Context, ready func()) {
	for ctx.Err() == nil {
		_ = s.subscribe(ctx, s.keys.Events(), s.hear, ready) // listen tells of trouble
		select {
		case <-ctx.Done():
		case <-time.After(listenPause):
		}
	}
}

// announce tells all nodes that somebody watches, until ctx ends.
func (s *Store) announce(ctx context.Context) {
	again := time.NewTicker(watchEvery)
	defer again.Stop()
	for {
		s.beWatched()
		s.tellNodes(ctx, watchMessage) // maybe in vain, but it is said again
		select {
		case <-ctx.Done():
			return
		case <-again.C:
		}
	}
}

// hear gives what was told to those who watch.
func (s *Store) hear(message string) {
	var events []queue.Event
	if err := json.Unmarshal([]byte(message), &events); err == nil {
		s.watchers.give(events)
	}
}

// tellState tells that a host's state turned, if a script says so.
func (s *Store) tellState(host, state string) {
	if state != "" {
		s.Tell(queue.Event{Kind: queue.EventHostState, At: time.Now().UTC(), Host: host, State: queue.HostState(state)})
	}
}

// tellDead tells of letters that the store made by itself.
func (s *Store) tellDead(ctx context.Context, p *partition, names []string) {
	if len(names) == 0 || !s.watched() {
		return
	}
	letters, err := s.letters(ctx, p, names)
	if err == nil {
		err = s.addURIs(ctx, p, letters)
	}
	if err != nil {
		return // events may be lost
	}
	for _, l := range letters {
		if l != nil {
			s.Tell(queue.Event{
				Kind: queue.EventDead, At: time.Now().UTC(), Host: l.Host, ID: l.ID, ActivityID: l.ActivityID, URI: l.URI, Inbox: l.Inbox,
				Reason: l.Reason, Attempts: l.Attempts, Attempt: l.LastAttempt,
			})
		}
	}
}

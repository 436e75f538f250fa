package redisq

import (
	"context"
	"math"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/queue"
	"github.com/redis/rueidis"
)

// channels are what nodes hear of each other: which of them look for work, that a lane became due, and events while somebody
// subscribes to them. They keep when there may be something to do.
type channels struct {
	*conn
	wake    chan struct{}
	asleep  atomic.Int64 // until when Due said that nothing is due, in ns since the start
	idle    atomic.Int64 // until when nothing is due, as was heard since, likewise
	choosy  atomic.Bool  // as the last Due said
	sweepAt atomic.Int64 // when there may be something to sweep, likewise

	company  *company
	info     atomic.Pointer[func() queue.NodeInfo] // see Join
	looks    atomic.Bool                           // Due was called
	beating  atomic.Bool                           // this node joined, or looks for work
	begun    chan struct{}                         // either has just become so
	hearing  chan struct{}                         // closed when the wakes of all partitions served were first heard
	heardAll sync.Once
	reshared chan struct{} // the company's shares changed, so wakes of other partitions are to be heard

	unswept atomic.Int64 // entries of the feed that this node wrote since it had that swept because of them
	telling atomic.Bool  // whether it is about to be published that the feed has new entries

	queued       chan queue.Event // to be published
	watchedUntil atomic.Int64     // until when some node surely has a subscriber, in ns since the start
	hub          queue.Hub        // of this node
}

func newChannels(c *conn) *channels {
	ch := &channels{
		conn: c, wake: make(chan struct{}, 1), company: newCompany(len(c.parts)), begun: make(chan struct{}, 1), hearing: make(chan struct{}),
		reshared: make(chan struct{}, 1),
		queued:   make(chan queue.Event, eventBuffer),
	}
	ch.hub.Source = ch.receiveEvents
	ch.asleep.Store(math.MaxInt64) // until Due was asked every wake counts
	ch.idle.Store(math.MaxInt64)
	return ch
}

// Wake implements queue.Lanes.
func (s *channels) Wake() <-chan struct{} { return s.wake }

func (s *channels) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

const listenPause = time.Second // between tries to listen

// broadcast tells all nodes, this one too.
func (s *channels) broadcast(ctx context.Context, message string) {
	_, _ = s.do(ctx, s.client.B().Publish().Channel(s.keys.Channel()).Message(message).Build())
}

// listen hears until ctx ends what nodes tell each other. While it can't, Due asks all partitions, and finds all work, at most
// queue.MaxIdle after it came.
func (s *channels) listen(ctx context.Context) {
	failing := false
	for {
		err := s.hear(ctx, func() {
			if failing {
				s.log.Info("store.subscription_restored")
				s.sweepAt.Store(0) // it may be another Redis, or an empty one
			}
			failing = false
			s.signal() // something may have been missed
		})
		for n := range s.parts {
			s.agenda.hear(n, false)
		}
		if ctx.Err() != nil {
			return
		}
		if !failing {
			failing = true
			s.log.Warn("store.subscription_lost", "error", err)
		}
		_ = pause(ctx, listenPause)
	}
}

// hear hears until ctx ends, or an error, what is said to all nodes, and the wakes of the partitions that this one serves. It
// calls listening once it hears.
func (s *channels) hear(ctx context.Context, listening func()) error {
	sub := s.subscribe(s.heard, func(channel string) {
		if n, ok := s.keys.WakesOf(channel); ok {
			s.agenda.hear(n, true)
			if s.agenda.hears(s.company.served()) {
				s.heardAll.Do(func() { close(s.hearing) })
			}
			s.signal()
		} else {
			listening()
		}
	})
	defer sub.release()
	if err := sub.add(ctx, s.keys.Channel()); err != nil {
		return err
	}
	hears := make([]bool, len(s.parts))
	for {
		if err := s.hearWakes(ctx, sub, hears); err != nil {
			return err
		}
		select {
		case err := <-sub.broken:
			return err
		case <-s.reshared:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// awaitWakes waits until wakes are heard, unless that takes long.
func (s *channels) awaitWakes(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	select {
	case <-s.hearing:
	case <-ctx.Done():
	}
}

// hearWakes has a subscription hear the wakes of those partitions that this node serves, and no others. It changes which it
// hears.
func (s *channels) hearWakes(ctx context.Context, sub *subscription, hears []bool) error {
	var gained, lost []string
	for n, serves := range s.company.served() {
		switch {
		case serves && !hears[n]:
			gained = append(gained, s.keys.Wakes(n))
		case !serves && hears[n]:
			s.agenda.hear(n, false)
			lost = append(lost, s.keys.Wakes(n))
		}
		hears[n] = serves
	}
	if err := sub.add(ctx, gained...); err != nil {
		return err
	}
	return sub.drop(ctx, lost...)
}

// subscription is a connection of its own that listens to channels.
type subscription struct {
	conn    rueidis.DedicatedClient
	broken  <-chan error
	release func()
}

// subscribe returns a subscription to nothing yet. It calls listening for each channel that it hears from then on.
func (s *channels) subscribe(heard func(channel, message string), listening func(channel string)) *subscription {
	conn, release := s.client.Dedicate()
	return &subscription{conn: conn, release: release, broken: conn.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage: func(m rueidis.PubSubMessage) { heard(m.Channel, m.Message) },
		OnSubscription: func(sub rueidis.PubSubSubscription) {
			if sub.Kind == "subscribe" {
				listening(sub.Channel)
			}
		},
	})}
}

// add has it hear more channels.
func (sub *subscription) add(ctx context.Context, channels ...string) error {
	return sub.change(ctx, channels, sub.conn.B().Subscribe().Channel(channels...).Build())
}

// drop has it hear some no more.
func (sub *subscription) drop(ctx context.Context, channels ...string) error {
	return sub.change(ctx, channels, sub.conn.B().Unsubscribe().Channel(channels...).Build())
}

func (sub *subscription) change(ctx context.Context, channels []string, command rueidis.Completed) error {
	if len(channels) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	return sub.conn.Do(ctx, command).Error()
}

// wait returns when it broke, or ctx ended.
func (sub *subscription) wait(ctx context.Context) {
	select {
	case <-sub.broken: //nolint:errcheck // the caller subscribes again, whatever broke it
	case <-ctx.Done():
	}
}

// Messages to all nodes, besides watchMessage.
const (
	// stagedMessage says that a submission is accepted that its node has yet to release: should that die, another does. A
	// node that doesn't hear it sweeps as soon as it hears again.
	stagedMessage = "staged"

	nodeMessage = "node" // a node is there, with what it says of itself
	goneMessage = "gone" // a node is gone, with its name
)

// heard takes in a message.
func (s *channels) heard(channel, message string) {
	if n, ok := s.keys.WakesOf(channel); ok {
		s.heardWake(n, message)
		return
	}
	kind, text, _ := strings.Cut(message, " ")
	switch kind {
	case watchMessage:
		s.beWatched()
	case stagedMessage:
		s.sweepIn(stageTTL)
	case nodeMessage:
		s.heardBeat(text)
	case goneMessage:
		s.company.left(text)
		s.reshare()
	}
}

// heardWake signals if a lane of a partition is due, in the milliseconds given, before Due said that one would be.
func (s *channels) heardWake(n int, text string) {
	ms, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		ms = 0
	}
	s.wakeAt(n, time.Since(s.start)+time.Duration(ms)*time.Millisecond)
}

// wakeAt notes when a lane of a partition is due, and signals it if that is before Due said that one would be.
func (s *channels) wakeAt(n int, at time.Duration) {
	s.agenda.put(n, at)
	bringForward(&s.idle, at)
	if int64(at) < s.asleep.Load() {
		s.signal()
	}
}

// bringForward makes a time, in ns since the start, an earlier one.
func bringForward(v *atomic.Int64, at time.Duration) {
	for {
		old := v.Load()
		if old <= int64(at) || v.CompareAndSwap(old, int64(at)) {
			return
		}
	}
}

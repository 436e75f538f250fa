package redisq

import (
	"context"
	"math"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/postrider/postrider/queue"
	"github.com/redis/rueidis"
)

// channels are what nodes hear of each other: that a lane became due, and events while somebody subscribes to them. They keep
// when there may be something to do.
type channels struct {
	*conn
	wake    chan struct{}
	asleep  atomic.Int64 // until when Due said that nothing is due, in ns since the start
	sweepAt atomic.Int64 // when there may be something to sweep, likewise

	unswept atomic.Int64 // entries of the feed that this node wrote since it had that swept because of them
	telling atomic.Bool  // whether it is about to be published that the feed has new entries

	queued       chan queue.Event // to be published
	watchedUntil atomic.Int64     // until when some node surely has a subscriber, in ns since the start
	hub          queue.Hub        // of this node
}

func newChannels(c *conn) *channels {
	ch := &channels{conn: c, wake: make(chan struct{}, 1), queued: make(chan queue.Event, eventBuffer)}
	ch.hub.Source = ch.receiveEvents
	ch.asleep.Store(math.MaxInt64) // until Due was asked every wake counts
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

// listen receives until ctx ends which lanes become due, and signals those that Due did not announce. While it can't listen,
// Due still finds all work, at most queue.MaxIdle after it came.
func (s *channels) listen(ctx context.Context) {
	failing := false
	for {
		err := s.subscribe(ctx, s.keys.Channel(), s.heard, func() {
			if failing {
				s.log.Info("store.subscription_restored")
				s.sweepAt.Store(0) // it may be another Redis, or an empty one
			}
			failing = false
			s.signal() // something may have been missed
		})
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

// subscribe listens to a channel on a connection of its own until that breaks or ctx ends. It calls listening once it
// hears.
func (s *channels) subscribe(ctx context.Context, channel string, heard func(message string), listening func()) error {
	conn, release := s.client.Dedicate()
	defer release()
	broken := conn.SetPubSubHooks(rueidis.PubSubHooks{
		OnMessage:      func(m rueidis.PubSubMessage) { heard(m.Message) },
		OnSubscription: func(rueidis.PubSubSubscription) { listening() },
	})
	call, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	err := conn.Do(call, conn.B().Subscribe().Channel(channel).Build()).Error()
	cancel()
	if err != nil {
		return err
	}
	select {
	case err = <-broken:
	case <-ctx.Done():
	}
	return err
}

// stagedMessage says that a submission is accepted that its node has yet to release: should that die, another does. A node that
// doesn't hear it sweeps as soon as it hears again.
const stagedMessage = "staged"

// heard signals if a lane is due, in the milliseconds given, before Due said that one would be. The message may also be
// another.
func (s *channels) heard(message string) {
	switch message {
	case watchMessage:
		s.beWatched()
		return
	case stagedMessage:
		s.sweepIn(stageTTL)
		return
	}
	ms, err := strconv.ParseInt(message, 10, 64)
	if err != nil || int64(time.Since(s.start))+ms*int64(time.Millisecond) < s.asleep.Load() {
		s.signal()
	}
}

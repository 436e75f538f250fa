package redisq

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/rueidis"
)

// Wake implements queue.Lanes.
func (s *Store) Wake() <-chan struct{} { return s.wake }

func (s *Store) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Stops implements queue.Lanes.
func (s *Store) Stops() uint64 { return s.stops.Load() }

// stopMessage says that something was stopped.
const stopMessage = "stop"

// tellStop counts what was stopped on all nodes, on this one at once.
func (s *Store) tellStop(ctx context.Context) {
	s.stops.Add(1)
	s.tellNodes(ctx, stopMessage)
}

const listenPause = time.Second // between tries to listen

// tellNodes tells all nodes, this one too.
func (s *Store) tellNodes(ctx context.Context, message string) {
	_, _ = s.do(ctx, s.client.B().Publish().Channel(s.keys.Channel()).Message(message).Build())
}

// listen hears until ctx ends what lanes become due, and signals those that Due did not tell of. While it can't listen,
// Due still finds all work, at most queue.MaxIdle after it came.
func (s *Store) listen(ctx context.Context) {
	failing := false
	for {
		err := s.subscribe(ctx, s.keys.Channel(), s.heard, func() {
			if failing {
				s.log.Info("store.wakes_heard_again")
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
			s.log.Warn("store.wakes_not_heard", "error", err)
		}
		select {
		case <-ctx.Done():
		case <-time.After(listenPause):
		}
	}
}

// subscribe listens to a channel on a connection of its own until that breaks or ctx ends. It calls listening once it
// hears.
func (s *Store) subscribe(ctx context.Context, channel string, heard func(message string), listening func()) error {
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

// stagedMessage says that a submission is accepted that its node has yet to release: should that die, another does. Who
// doesn't hear it sweeps as soon as it hears again.
const stagedMessage = "staged"

// heard signals if a lane is due, in the milliseconds given, before Due said that one would be. The message may also be
// another.
func (s *Store) heard(message string) {
	switch message {
	case watchMessage:
		s.beWatched()
		return
	case stopMessage:
		s.stops.Add(1)
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

package handlers

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/queue"
)

const (
	maxSubscribers = 100              // to the events of a node, at one time
	statsEvery     = 5 * time.Second  // and once at first
	heartbeat      = 15 * time.Second // so that no proxy takes the connection for dead
	reconnectAfter = 5 * time.Second  // when a subscriber is asked to reconnect after the stream broke off
	lookEvery      = 5 * time.Second  // into the feed, should news have been lost
	eventsAtOnce   = 64 << 10         // bytes after which events are sent though more are there already
)

// eventStats is an event that the node makes: it has no host.
const eventStats queue.EventKind = "stats"

var eventKinds = []queue.EventKind{
	queue.EventDelivered, queue.EventDead, queue.EventHostState, queue.EventActivityDone, queue.EventAction, eventStats,
}

// eventFilterOf reads a filter of events of these kinds. Without types it has all of them but for EventAction, and not stats if
// hosts are named.
func eventFilterOf(q *query, kinds []queue.EventKind) (want queue.FeedFilter) {
	for _, kind := range listed(q.Values["type"]) {
		if !slices.Contains(kinds, queue.EventKind(kind)) {
			q.refuse("type", mustBeOneOf(kinds))
		}
		want.Kinds = append(want.Kinds, queue.EventKind(kind))
	}
	for _, host := range listed(q.Values["host"]) {
		name, err := normalised("query.host", host)
		if q.err == nil {
			q.err = err
		}
		want.Hosts = append(want.Hosts, name)
	}
	if len(want.Kinds) > 0 {
		return want
	}
	want.Kinds = slices.DeleteFunc(slices.Clone(kinds), func(k queue.EventKind) bool {
		return k == queue.EventAction || k == eventStats && len(want.Hosts) > 0
	})
	return want
}

// listed returns the values of a parameter that may be repeated and hold several, separated by commas.
func listed(values []string) (list []string) {
	for _, value := range values {
		list = append(list, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
	}
	return list
}

// events is GET /v1/events: server-sent events, until the subscriber goes, is stuck, or the node stops.
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	q := queryOf(r)
	want := eventFilterOf(q, eventKinds)
	err := q.err
	subscriber := s.subscribers.claim(visitOf(r).token)
	if err == nil && !subscriber.tryGrow(1) {
		err = &problem{Status: http.StatusServiceUnavailable, Detail: "too many subscribers", retryAfter: reconnectAfter}
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer subscriber.release()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.Life, cancel)() // the other of the two that end a stream
	st := &stream{w: w, want: want, feed: s.feedOf(want)}
	published, err := s.listen(ctx, st, r.Header.Get("Last-Event-ID"))
	if err != nil {
		s.fail(w, r, fmt.Errorf("listen: %w", err))
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep events back
	w.Header().Set("Connection", "close")     // the next call is another subscriber
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	s.stream(ctx, st, published)
}

// feedOf returns which events come from the feed: all that are kept there.
func (s *server) feedOf(want queue.FeedFilter) queue.FeedFilter {
	want.Kinds = slices.DeleteFunc(slices.Clone(want.Kinds), func(k queue.EventKind) bool {
		return k == eventStats || k == queue.EventDelivered && !s.FeedDelivered
	})
	return want
}

// listen subscribes to news, if the subscriber wants any, and finds its place in the feed: behind the last entry that it got
// or, if it names none, at the end. If the store does not know that entry, it begins with the oldest.
func (s *server) listen(ctx context.Context, st *stream, last string) (published <-chan queue.Event, err error) {
	if len(st.feed.Kinds) == 0 && !slices.Contains(st.want.Kinds, queue.EventDelivered) {
		return nil, nil
	}
	if published, err = s.Queue.Events(ctx); err != nil || len(st.feed.Kinds) == 0 {
		return published, err
	}
	if st.cursor = last; last != "" {
		_, err = s.Queue.Feed(ctx, st.feed, queue.Page{Limit: 1, Cursor: last})
		if errors.Is(err, queue.ErrBadCursor) {
			st.cursor, err = "", nil
		}
		return published, err
	}
	end, err := s.Queue.Feed(ctx, st.feed, queue.Page{Limit: 1, Cursor: queue.FeedEnd})
	st.cursor = end.Next
	return published, err
}

// stream sends events to a subscriber until ctx ends or it can't be reached.
func (s *server) stream(ctx context.Context, st *stream, published <-chan queue.Event) {
	look := time.Tick(lookEvery)
	beat := time.Tick(heartbeat)
	var stats <-chan time.Time
	fmt.Fprintf(&st.text, "retry: %d\n\n", reconnectAfter.Milliseconds())
	if slices.Contains(st.want.Kinds, eventStats) {
		s.writeStats(ctx, st)
		stats = time.Tick(statsEvery)
	}
	err := st.flush()
	if err == nil {
		err = s.writeFeed(ctx, st)
	}
	for err == nil {
		select {
		case <-ctx.Done():
			return
		case e, more := <-published:
			if !more {
				return
			}
			if fed := st.write(&e) || st.drain(published); fed {
				err = s.writeFeed(ctx, st)
			}
		case <-look:
			err = s.writeFeed(ctx, st)
		case <-stats:
			s.writeStats(ctx, st)
		case <-beat:
			st.text.WriteString(":\n\n") // a comment
		}
		err = cmp.Or(err, st.flush())
	}
}

// writeFeed sends all entries of the feed that the subscriber has not got. If the store is away, they come later. The
// error means that the subscriber is gone or stuck.
func (s *server) writeFeed(ctx context.Context, st *stream) error {
	for len(st.feed.Kinds) > 0 && ctx.Err() == nil {
		list, err := s.Queue.Feed(ctx, st.feed, queue.Page{Limit: maxLimit, Cursor: st.cursor})
		if err != nil || len(list.Items) == 0 && list.Next == st.cursor {
			return nil //nolint:nilerr // what the store can't tell now comes later
		}
		st.cursor = list.Next
		for i := range list.Items {
			st.put(list.Items[i].Kind, list.Items[i].Cursor, entryOf(&list.Items[i]))
		}
		if err := st.flush(); err != nil {
			return err
		}
	}
	return nil
}

// writeStats puts the totals into the stream, unless the store is away.
func (s *server) writeStats(ctx context.Context, st *stream) {
	ctx, cancel := context.WithTimeout(ctx, statsEvery)
	defer cancel()
	if view, err := s.count(ctx); err == nil {
		st.put(eventStats, "", view)
	}
}

// stream is the event stream of a subscriber. One goroutine uses it.
type stream struct {
	w      http.ResponseWriter
	want   queue.FeedFilter
	feed   queue.FeedFilter // which events come from the feed; none if it has no kinds
	cursor string           // the place in the feed
	text   bytes.Buffer     // not sent yet
}

// write puts an event into the stream, if it is wanted and does not come from the feed, and reports whether it says that the feed has more.
func (st *stream) write(e *queue.Event) (fed bool) {
	if e.Kind == queue.EventFed {
		return true
	}
	wanted := slices.Contains(st.want.Kinds, e.Kind) && (len(st.want.Hosts) == 0 || slices.Contains(st.want.Hosts, e.Host))
	if wanted && !slices.Contains(st.feed.Kinds, e.Kind) {
		st.put(e.Kind, "", entryOf(e))
	}
	return false
}

// drain also writes events that wait already, as many as are worth one call to the subscriber.
func (st *stream) drain(published <-chan queue.Event) (fed bool) {
	for len(published) > 0 && st.text.Len() < eventsAtOnce {
		e, more := <-published
		if !more {
			break // stream finds out
		}
		fed = st.write(&e) || fed
	}
	return fed
}

// put adds an event; cursor is its place in the feed, "" if it has none. The encoder ends the line, and escapes those in the
// data.
func (st *stream) put(kind queue.EventKind, cursor string, data any) {
	st.text.WriteString("event: " + string(kind) + "\n")
	if cursor != "" {
		st.text.WriteString("id: " + cursor + "\n")
	}
	st.text.WriteString("data: ")
	_ = encode(&st.text, data) // one of our own types, which can't fail, into memory
	st.text.WriteByte('\n')
}

// flush sends the text collected. Its error means that the subscriber is gone or stuck.
func (st *stream) flush() error {
	if st.text.Len() == 0 {
		return nil
	}
	if _, err := st.text.WriteTo(st.w); err != nil {
		return err
	}
	return http.NewResponseController(st.w).Flush()
}

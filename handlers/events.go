package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/postrider/postrider/queue"
)

const (
	maxListeners = 100              // to the events of a node, at one time
	statsEvery   = 5 * time.Second  // and once at first
	heartbeat    = 15 * time.Second // so that nobody between takes the connection for dead
	stuckAfter   = 10 * time.Second // a listener that takes nothing for so long is let go
	comeAgain    = 5 * time.Second  // when a listener shall call again after the stream broke off
	eventsAtOnce = 64 << 10         // bytes after which events are sent though more are there already
)

// eventStats is an event that the node makes: it has no host.
const eventStats queue.EventKind = "stats"

var eventKinds = []queue.EventKind{queue.EventDelivered, queue.EventDead, queue.EventHostState, eventStats}

// deliveryEvent tells that a delivery has ended.
type deliveryEvent struct {
	At          string   `json:"at" format:"date-time"`
	ID          string   `json:"id" doc:"the delivery's"`
	ActivityID  string   `json:"activity_id" doc:"the activity's own id"`
	Inbox       string   `json:"inbox"`
	Host        string   `json:"host"`
	Reason      string   `json:"reason,omitempty" doc:"why it is dead"`
	Attempts    int      `json:"attempts"`
	LastAttempt *attempt `json:"last_attempt,omitempty"`
	URL         string   `json:"url" doc:"where the activity can be watched"`
}

// hostEvent tells that a host's state is another than before.
type hostEvent struct {
	At    string `json:"at" format:"date-time"`
	Host  string `json:"host"`
	State string `json:"state" enum:"healthy,failing,open,unavailable,paused,blocked"`
}

// interest is what a listener wants to hear of.
type interest struct {
	kinds []queue.EventKind
	hosts []string // none is any
}

// interestOf reads what is wanted: without types all but, where hosts are named, what has none.
func interestOf(q url.Values) (want interest, err error) {
	for _, kind := range listed(q["type"]) {
		if !slices.Contains(eventKinds, queue.EventKind(kind)) {
			return want, invalid("query.type", "must be of "+strings.Join(texts(eventKinds), ", "))
		}
		want.kinds = append(want.kinds, queue.EventKind(kind))
	}
	for _, host := range listed(q["host"]) {
		name, err := normalised("query.host", host)
		if err != nil {
			return want, err
		}
		want.hosts = append(want.hosts, name)
	}
	if len(want.kinds) > 0 {
		return want, nil
	}
	want.kinds = eventKinds
	if len(want.hosts) > 0 {
		want.kinds = eventKinds[:len(eventKinds)-1]
	}
	return want, nil
}

// listed returns the values of a parameter that may be repeated and hold several, separated by commas.
func listed(values []string) (list []string) {
	for _, value := range values {
		list = append(list, strings.FieldsFunc(value, func(r rune) bool { return r == ',' })...)
	}
	return list
}

func (i *interest) in(e *queue.Event) bool {
	return slices.Contains(i.kinds, e.Kind) && (len(i.hosts) == 0 || slices.Contains(i.hosts, e.Host))
}

func (i *interest) inStats() bool { return slices.Contains(i.kinds, eventStats) }

// inStore tells whether the store has anything to tell that is wanted.
func (i *interest) inStore() bool {
	return slices.ContainsFunc(i.kinds, func(k queue.EventKind) bool { return k != eventStats })
}

// events is GET /v1/events: server-sent events, until the listener goes, is stuck, or the node stops.
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	want, err := interestOf(r.URL.Query())
	if err == nil && !s.listeners.TryAcquire(1) {
		err = &problem{Status: http.StatusServiceUnavailable, Detail: "too many listen already", retryAfter: comeAgain}
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	defer s.listeners.Release(1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(s.Life, cancel)() //nolint:contextcheck // the other of the two that end a stream
	var told <-chan queue.Event
	if want.inStore() {
		if told, err = s.Queue.Events(ctx); err != nil {
			s.fail(w, r, fmt.Errorf("listen: %w", err))
			return
		}
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep events back
	w.Header().Set("Connection", "close")     // what comes after the end is another listener
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodHead {
		return
	}
	st := &stream{w: w, want: want}
	s.feed(ctx, st, told)
}

// feed sends a listener what there is until ctx ends or it can't be reached.
func (s *server) feed(ctx context.Context, st *stream, told <-chan queue.Event) {
	var stats <-chan time.Time
	if st.want.inStats() {
		ticker := time.NewTicker(statsEvery)
		defer ticker.Stop()
		stats = ticker.C
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	fmt.Fprintf(&st.text, "retry: %d\n\n", comeAgain.Milliseconds())
	if stats != nil {
		s.tellStats(ctx, st)
	}
	for st.flush() == nil {
		select {
		case <-ctx.Done():
			return
		case e, more := <-told:
			if !more {
				return
			}
			st.tell(&e)
			st.drain(told)
		case <-stats:
			s.tellStats(ctx, st)
		case <-beat.C:
			st.text.WriteString(":\n\n") // a comment
		}
	}
}

// tellStats tells the totals. While the store is away there are none.
func (s *server) tellStats(ctx context.Context, st *stream) {
	ctx, cancel := context.WithTimeout(ctx, statsEvery)
	defer cancel()
	if view, err := s.count(ctx); err == nil {
		st.put(eventStats, view)
	}
}

// stream is what goes to a listener. One goroutine uses it.
type stream struct {
	w    http.ResponseWriter
	want interest
	text bytes.Buffer // not sent yet
}

// tell puts an event into the stream, if it is wanted.
func (st *stream) tell(e *queue.Event) {
	switch {
	case !st.want.in(e):
	case e.Kind == queue.EventHostState:
		st.put(e.Kind, hostEvent{At: stamp(e.At), Host: e.Host, State: string(e.State)})
	default:
		st.put(e.Kind, deliveryEvent{
			At: stamp(e.At), ID: e.ID, ActivityID: e.URI, Inbox: e.Inbox, Host: e.Host, Reason: string(e.Reason), Attempts: e.Attempts,
			LastAttempt: attemptView(e.Attempt), URL: activityURL(e.ActivityID),
		})
	}
}

// drain puts what was told already into the stream too, as much of it as is worth one write.
func (st *stream) drain(told <-chan queue.Event) {
	for len(told) > 0 && st.text.Len() < eventsAtOnce {
		e, more := <-told
		if !more {
			return // feed finds out
		}
		st.tell(&e)
	}
}

// put adds an event. The encoder ends the line, and escapes those in the data.
func (st *stream) put(kind queue.EventKind, data any) {
	st.text.WriteString("event: " + string(kind) + "\ndata: ")
	enc := json.NewEncoder(&st.text)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(data) // one of our own types, which can't fail, into memory
	st.text.WriteByte('\n')
}

// flush sends what there is. Its error means that the listener is gone or stuck.
func (st *stream) flush() error {
	if st.text.Len() == 0 {
		return nil
	}
	ctl := http.NewResponseController(st.w)
	_ = ctl.SetWriteDeadline(time.Now().Add(stuckAfter)) // a writer without deadlines keeps those of its server
	_, err := st.text.WriteTo(st.w)
	if err == nil {
		err = ctl.Flush()
	}
	return err
}

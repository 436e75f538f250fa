package handlers

import (
	"context"
	"log/slog"
	"reflect"
	"strings"
	"time"

	"github.com/postrider/postrider/internal/printable"
	"github.com/postrider/postrider/queue"
)

const (
	maxFilterIDs  = 10  // IDs that an entry about an action names at most
	maxFilterText = 500 // characters of a text in it
	feedTimeout   = 5 * time.Second
)

// actionFilter shows what a call chose by.
type actionFilter struct {
	State      string   `json:"state,omitempty" enum:"healthy,throttled,refusing,failing,open,unavailable,paused,blocked" doc:"hosts in this state"`
	Host       string   `json:"host,omitempty"`
	Reason     reason   `json:"reason,omitempty"`
	Since      string   `json:"since,omitempty" format:"date-time"`
	Inbox      string   `json:"inbox,omitempty"`
	KeyID      string   `json:"key_id,omitempty"`
	ActivityID string   `json:"activity_id,omitempty" doc:"the activity's own id"`
	IDs        []string `json:"ids,omitempty" nullable:"false" maxItems:"10" doc:"the first ten that the call named"`
}

func actionFilterOf(f *queue.ActionFilter) *actionFilter {
	if f == nil {
		return nil
	}
	return &actionFilter{
		State: string(f.State), Host: f.Host, Reason: reason(f.Reason), Since: stamp(f.Since), Inbox: f.Inbox, KeyID: f.KeyID,
		ActivityID: f.URI, IDs: f.IDs,
	}
}

// chosenBy returns a filter as an entry may have it: its texts come from a call and are as long as the call may be. One that
// chose nothing is nil.
func chosenBy(f queue.ActionFilter) *queue.ActionFilter {
	short := func(text string) string { return printable.Line(text, maxFilterText) }
	ids := f.IDs[:min(len(f.IDs), maxFilterIDs)]
	f.IDs = nil
	for _, id := range ids {
		f.IDs = append(f.IDs, short(id))
	}
	f.Inbox = short(f.Inbox)
	f.KeyID = short(f.KeyID)
	f.URI = short(f.URI)
	if reflect.ValueOf(f).IsZero() {
		return nil
	}
	return &f
}

// letterChoice returns what a call chose dead letters by.
func letterChoice(c queue.DeadLetterChoice) *queue.ActionFilter {
	f := c.Filter
	return chosenBy(queue.ActionFilter{Host: f.Host, Reason: f.Reason, Since: f.Since, Inbox: f.Inbox, URI: f.URI, IDs: c.IDs})
}

// actedOnMany logs an action on many things and, if it changed any, adds it to the feed: also where the call broke off.
func (s *server) actedOnMany(ctx context.Context, e queue.Event, more ...slog.Attr) {
	e.Kind, e.By = queue.EventAction, queue.Caller(ctx)
	s.logAction(ctx, e, append([]slog.Attr{slog.Int("count", e.Count)}, more...)...)
	if e.Count == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), feedTimeout)
	defer cancel()
	if err := s.Queue.FeedAction(ctx, e); err != nil {
		s.Log.Error("action.not_in_feed", "action", e.Action, "error", err)
	}
}

// logAction writes the line about an action, by its entry of the feed.
func (s *server) logAction(ctx context.Context, e queue.Event, more ...slog.Attr) {
	level := slog.LevelInfo
	if e.Action == queue.Seen.OnHost() { // which apps send often
		level = slog.LevelDebug
	}
	attrs := []slog.Attr{slog.String("action", string(e.Action)), slog.String("token", e.By)}
	text := func(name, value string) {
		if value != "" {
			attrs = append(attrs, slog.String(name, value))
		}
	}
	text("host", e.Host)
	text("key_id", e.KeyID)
	text("activity", e.ActivityID)
	text("activity_uri", e.URI)
	if o := e.Order; o != nil {
		text("reason", o.Reason)
		text("until", stamp(o.Until))
		if o.Subdomains {
			attrs = append(attrs, slog.Bool("subdomains", true))
		}
	}
	if f := e.Filter; f != nil {
		text("only_state", string(f.State))
		text("only_host", f.Host)
		text("only_reason", string(f.Reason))
		text("only_since", stamp(f.Since))
		text("only_inbox", f.Inbox)
		text("only_key_id", f.KeyID)
		text("only_activity_uri", f.URI)
		text("only_ids", strings.Join(f.IDs, ","))
	}
	s.Log.LogAttrs(ctx, level, "action", append(attrs, more...)...)
}

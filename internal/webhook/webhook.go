// Package webhook posts the entries of the feed to the app, in order and signed as Standard Webhooks
// (https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md).
//
// What callers may rely on:
//
//   - Of all nodes on a store one sends at a time. Another goes on where it stopped, at the latest when its lease has lapsed.
//   - Entries are sent in the order of the feed, at most 100 in a request. Nothing is sent before the app has answered what
//     came before it with a 2xx. Until then the same request is made again and again, with pauses of up to five minutes.
//   - The position in the feed is in the store, so it survives restarts. Without one, sending begins with the oldest entry.
//
// What the app may not rely on: that an entry comes once. If a node dies or an answer is lost, the entries of the last
// request come again. A request that is repeated has the webhook-id of the first, and every entry its own id.
package webhook

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

const (
	batch   = 100 // entries in a request
	reader  = "webhook"
	lease   = "(webhook)" // no host has such a name
	look    = time.Second // between two looks into a feed that had nothing new
	timeout = 30 * time.Second

	firstPause   = time.Second
	longestPause = 5 * time.Minute

	maxAnswer = 64 << 10 // bytes of an answer that are read, so that its connection can be used again
)

// Settings say where entries go, and which.
type Settings struct {
	URL    string // may name a private address: the operator chose it
	Secret string // whsec_ and base64
	Kinds  []queue.EventKind
	// Encode makes the body of a request. Next is the cursor behind the entries.
	Encode    func(entries []queue.Event, next string) ([]byte, error)
	UserAgent string
	Client    *http.Client // nil for one that follows no redirects
}

// Sender sends the entries of one feed.
type Sender struct {
	Settings
	feed   queue.Feed
	leases *lockmgr.Keeper
	ttl    time.Duration
	hook   *standardwebhooks.Webhook
	log    *slog.Logger

	oldest atomic.Int64 // when the oldest entry that this node tries to send was written, in Unix nanoseconds; 0 if there is none
	posts  [2]atomic.Int64
}

// New returns a sender. It sends nothing until Run is called. ttl is how long the leases of m last.
func New(s Settings, feed queue.Feed, m lockmgr.Manager, ttl time.Duration, log *slog.Logger) (*Sender, error) {
	hook, err := standardwebhooks.NewWebhook(s.Secret)
	if err != nil {
		return nil, err
	}
	if s.Client == nil {
		s.Client = &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	}
	return &Sender{Settings: s, feed: feed, leases: lockmgr.NewKeeper(m, ttl, log), ttl: ttl, hook: hook, log: log}, nil
}

// Stats are what a sender did since it was made.
type Stats struct {
	Lag              time.Duration // the age of the oldest entry that the app has not taken yet; 0 on nodes that do not send
	Accepted, Failed int64         // requests, by whether the app answered with a 2xx
}

// Stats returns what the sender did. It is safe for concurrent use.
func (s *Sender) Stats() Stats {
	st := Stats{Accepted: s.posts[0].Load(), Failed: s.posts[1].Load()}
	if oldest := s.oldest.Load(); oldest != 0 {
		st.Lag = max(0, time.Since(time.Unix(0, oldest)))
	}
	return st
}

// Run sends until ctx ends. Call it once.
func (s *Sender) Run(ctx context.Context) {
	var keeping sync.WaitGroup
	defer keeping.Wait()
	keeping.Go(func() { s.leases.Run(ctx) })
	for ctx.Err() == nil {
		held, err := s.leases.Acquire(ctx, []string{lease})
		if err != nil || len(held) == 0 { // the keeper's manager logs its outages
			wait(ctx, s.ttl/3)
			continue
		}
		s.serve(ctx, held[0])
	}
}

// serve sends while the lease is held.
func (s *Sender) serve(ctx context.Context, held *lockmgr.Held) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(held.Context(), cancel)()
	defer s.oldest.Store(0)
	for ctx.Err() == nil {
		err := s.sendAll(ctx)
		if err != nil && ctx.Err() == nil {
			s.log.Warn("webhook.store_away", "error", err)
		}
		wait(ctx, s.ttl/3)
	}
	_ = s.leases.Release(ctx, held) // if that fails, it lapses
}

// sendAll sends what there is and what comes, from the position in the store on, until the store fails or ctx ends.
func (s *Sender) sendAll(ctx context.Context) error {
	cursor, err := s.feed.FeedPosition(ctx, reader)
	for err == nil && ctx.Err() == nil {
		var list queue.List[queue.Event]
		list, err = s.feed.Feed(ctx, queue.FeedFilter{Kinds: s.Kinds}, queue.Page{Limit: batch, Cursor: cursor})
		if errors.Is(err, queue.ErrBadCursor) { // the position is that of another store
			s.log.Error("webhook.position_lost", "cursor", cursor)
			cursor, err = "", nil
			continue
		}
		switch {
		case err != nil:
		case len(list.Items) > 0:
			err = s.deliver(ctx, cursor, list)
		default:
			wait(ctx, look)
		}
		cursor = list.Next
	}
	return err
}

// deliver sends entries until the app takes them, and notes that it did.
func (s *Sender) deliver(ctx context.Context, cursor string, list queue.List[queue.Event]) error {
	body, err := s.Encode(list.Items, list.Next)
	if err != nil {
		return fmt.Errorf("encode entries: %w", err)
	}
	s.oldest.Store(list.Items[0].At.UnixNano())
	id := messageID(cursor, list.Next)
	logged := false
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		err := s.post(ctx, id, body)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err == nil {
			break
		}
		s.posts[1].Add(1)
		if !logged {
			s.log.Warn("webhook.refused", "url", s.URL, "entries", len(list.Items), "error", err)
			logged = true
		}
		wait(ctx, pause)
	}
	if logged {
		s.log.Info("webhook.accepted_again", "url", s.URL)
	}
	s.posts[0].Add(1)
	s.oldest.Store(0)
	return s.feed.SetFeedPosition(ctx, reader, list.Next)
}

// messageID returns the webhook-id of the request with the entries between two cursors.
func messageID(from, to string) string {
	sum := sha256.Sum256([]byte(from + " " + to))
	return "feed_" + base64.RawURLEncoding.EncodeToString(sum[:16])
}

// post makes one request. Its error says why the app did not take it.
func (s *Sender) post(ctx context.Context, id string, body []byte) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	now := time.Now()
	signature, err := s.hook.Sign(id, now, body)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("User-Agent", s.UserAgent)
	r.Header.Set(standardwebhooks.HeaderWebhookID, id)
	r.Header.Set(standardwebhooks.HeaderWebhookTimestamp, strconv.FormatInt(now.Unix(), 10))
	r.Header.Set(standardwebhooks.HeaderWebhookSignature, signature)
	answer, err := s.Client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(answer.Body, maxAnswer))
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the app answered %s", answer.Status)
	}
	return nil
}

// wait waits, at most until ctx ends.
func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

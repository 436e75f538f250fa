package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

const (
	alice = "https://app.example/users/alice#main-key"
	anID  = "0197f3a0-0000-7000-8000-000000000001"
)

// fakeQueue keeps what it is given, answers what the test set, and panics on what no test expects.
type fakeQueue struct {
	queue.Queue

	mu          sync.Mutex
	err         error // of every call
	keys        map[string]queue.Key
	puts        int // of keys
	submissions []*queue.Submission
	receipts    map[[32]byte]queue.Receipt
	refuse      map[string]queue.Reason // by inbox
	duplicate   map[string]bool         // by inbox
	status      queue.ActivityStatus
	deliveries  queue.List[queue.DeliveryStatus]
	hosts       queue.List[queue.HostStatus]
	dead        queue.List[queue.DeadLetter]
	totals      queue.Stats
	fleet       queue.FleetStatus
	minutes     []queue.Minute // the newest last
	events      chan queue.Event
	feed        []queue.Event // its cursors are numbers: how many entries are before
	activities  queue.List[queue.ActivityStatus]
	delivery    queue.DeliveryStatus
	asked       []any // the arguments of the calls that read
}

func newFake() *fakeQueue {
	return &fakeQueue{
		keys:     map[string]queue.Key{alice: {ID: alice, Algorithm: "ed25519"}},
		receipts: map[[32]byte]queue.Receipt{},
		status:   queue.ActivityStatus{ID: anID, State: queue.ActivityPending},
	}
}

func (f *fakeQueue) Enqueue(_ context.Context, s *queue.Submission) (queue.Receipt, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err != nil {
		return queue.Receipt{}, f.err
	}
	if old, ok := f.receipts[s.Idempotency.Key]; ok && s.Idempotency.Key != [32]byte{} {
		if f.submissionOf(old).Idempotency.Fingerprint != s.Idempotency.Fingerprint {
			return queue.Receipt{}, fmt.Errorf("wrapped: %w", queue.ErrIdempotencyMismatch)
		}
		old.Replayed = true
		return old, nil
	}
	r := queue.Receipt{ID: s.ID, URI: s.URI, Note: s.Note}
	for _, to := range s.Recipients {
		switch {
		case f.refuse[to.Inbox] != "":
			r.Refused = append(r.Refused, queue.Refusal{Inbox: to.Inbox, Reason: f.refuse[to.Inbox]})
		case f.duplicate[to.Inbox]:
			r.Duplicates++
		default:
			r.Accepted++
		}
	}
	if r.Accepted+r.Duplicates == 0 {
		r.ID = ""
		return r, nil
	}
	f.submissions = append(f.submissions, s)
	f.receipts[s.Idempotency.Key] = r
	return r, nil
}

func (f *fakeQueue) submissionOf(r queue.Receipt) *queue.Submission {
	for _, s := range f.submissions {
		if s.ID == r.ID {
			return s
		}
	}
	return nil
}

func (f *fakeQueue) Key(_ context.Context, id, pin string) (queue.Key, error) {
	k, ok := f.keys[queue.KeyName(id, pin)]
	if f.err == nil && !ok {
		return k, queue.ErrNotFound
	}
	return k, f.err
}

func (f *fakeQueue) PutKey(_ context.Context, k queue.Key) (bool, error) {
	if f.err != nil {
		return false, f.err
	}
	f.puts++
	_, old := f.keys[k.Name()]
	k.CreatedAt = time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)
	f.keys[k.Name()] = k
	return !old, nil
}

func (f *fakeQueue) RetireKey(ctx context.Context, id string) error {
	k, err := f.Key(ctx, id, "")
	k.WhenIdle = true
	if err == nil {
		f.keys[id] = k
	}
	return err
}

func (f *fakeQueue) DeleteKey(ctx context.Context, id string) error {
	if _, err := f.Key(ctx, id, ""); err != nil {
		return err
	}
	delete(f.keys, id)
	return nil
}

func (f *fakeQueue) ResealKeys(_ context.Context, keys []queue.Reseal) (n int, err error) {
	for _, r := range keys {
		if k := f.keys[r.Name]; f.err == nil && bytes.Equal(k.Sealed, r.Old) {
			k.Sealed = r.New
			f.keys[r.Name] = k
			n++
		}
	}
	return n, f.err
}

// fail makes every call fail from now on, or none any more.
func (f *fakeQueue) fail(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.err = err
}

// ask notes the arguments of a call that reads, and returns the error of every call.
func (f *fakeQueue) ask(args ...any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.asked = append(f.asked, args...)
	return f.err
}

func (f *fakeQueue) Keys(_ context.Context, filter queue.KeyFilter, p queue.Page) (queue.List[queue.Key], error) {
	var list queue.List[queue.Key]
	for _, id := range slices.Sorted(maps.Keys(f.keys)) {
		if filter.ID != "" && f.keys[id].ID != filter.ID || !filter.Pinned && f.keys[id].Pin != "" {
			continue
		}
		if len(list.Items) == p.Limit {
			list.Next = list.Items[p.Limit-1].ID
			break
		}
		if id > p.Cursor {
			list.Items = append(list.Items, f.keys[id])
		}
	}
	return list, f.ask(p)
}

func (f *fakeQueue) Activity(_ context.Context, id string) (queue.ActivityStatus, error) {
	if f.err == nil && id != f.status.ID {
		return queue.ActivityStatus{}, queue.ErrNotFound
	}
	return f.status, f.err
}

func (f *fakeQueue) Cancel(ctx context.Context, id string) (queue.ActivityStatus, error) {
	if err := f.ask("cancel " + id); err != nil {
		return queue.ActivityStatus{}, err
	}
	return f.Activity(ctx, id)
}

func (f *fakeQueue) Deliveries(_ context.Context, id string, s queue.DeliveryState, p queue.Page) (queue.List[queue.DeliveryStatus], error) {
	return f.deliveries, f.ask(id, s, p)
}

func (f *fakeQueue) HostDeliveries(_ context.Context, host string, p queue.Page) (queue.List[queue.DeliveryStatus], error) {
	return f.deliveries, f.ask(host, p)
}

func (f *fakeQueue) Activities(_ context.Context, a queue.ActivityFilter, p queue.Page) (queue.List[queue.ActivityStatus], error) {
	return f.activities, f.ask(a, p)
}

func (f *fakeQueue) Body(_ context.Context, id string) ([]byte, error) {
	if f.err == nil && id != f.status.ID {
		return nil, queue.ErrNotFound
	}
	return []byte("{\"id\":\n\"x\"}"), f.err
}

func (f *fakeQueue) Delivery(_ context.Context, id string) (queue.DeliveryStatus, error) {
	if f.err == nil && id != f.delivery.ID {
		return queue.DeliveryStatus{}, queue.ErrNotFound
	}
	return f.delivery, f.err
}

func (f *fakeQueue) CancelMany(_ context.Context, which queue.CancelChoice) (queue.CancelCount, error) {
	return queue.CancelCount{Activities: 2, Deliveries: 17}, f.ask(which)
}

func (f *fakeQueue) Feed(_ context.Context, filter queue.FeedFilter, p queue.Page) (list queue.List[queue.Event], err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at := len(f.feed)
	if p.Cursor != queue.FeedEnd {
		if at, err = strconv.Atoi("0" + p.Cursor); err != nil || at > len(f.feed) {
			return list, queue.ErrBadCursor
		}
	}
	for ; at < len(f.feed) && len(list.Items) < p.Limit; at++ {
		if e := f.feed[at]; filter.Passes(&e) {
			e.Cursor = strconv.Itoa(at + 1)
			list.Items = append(list.Items, e)
		}
	}
	list.Next = strconv.Itoa(at)
	return list, f.err
}

// FeedAction works though other calls fail.
func (f *fakeQueue) FeedAction(ctx context.Context, e queue.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if ctx.Err() == nil {
		f.feed = append(f.feed, e)
	}
	return ctx.Err()
}

// happen adds entries to the feed and, unless that gets lost, says so.
func (f *fakeQueue) happen(lost bool, entries ...queue.Event) {
	f.mu.Lock()
	f.feed = append(f.feed, entries...)
	f.mu.Unlock()
	if !lost {
		f.events <- queue.Event{Kind: queue.EventFed}
	}
}

func (f *fakeQueue) Host(_ context.Context, host string) (queue.HostStatus, error) {
	return queue.HostStatus{Host: host, State: queue.HostHealthy}, f.ask(host)
}

func (f *fakeQueue) Hosts(_ context.Context, h queue.HostFilter, p queue.Page) (queue.List[queue.HostStatus], error) {
	return f.hosts, f.ask(h, p)
}

func (f *fakeQueue) DeadLetters(_ context.Context, d queue.DeadLetterFilter, p queue.Page) (queue.List[queue.DeadLetter], error) {
	return f.dead, f.ask(d, p)
}

func (f *fakeQueue) Act(_ context.Context, host string, a queue.HostAction, order queue.Order) (queue.HostStatus, error) {
	if host == "covered.example" {
		return queue.HostStatus{}, fmt.Errorf("act: %w", &queue.CoveredError{Host: "example.com"})
	}
	return queue.HostStatus{Host: host, State: queue.HostPaused}, f.ask(host, a, order)
}

func (f *fakeQueue) ResetHosts(_ context.Context, state queue.HostState) (int, error) {
	return 12, f.ask(state)
}

func (f *fakeQueue) RetryDead(_ context.Context, which queue.DeadLetterChoice, ttl time.Duration) (queue.DeadLetterCount, error) {
	return queue.DeadLetterCount{Matched: 3, Done: 2, Superseded: 1}, f.ask(which, ttl)
}

func (f *fakeQueue) DeleteDead(_ context.Context, which queue.DeadLetterChoice) (queue.DeadLetterCount, error) {
	return queue.DeadLetterCount{Matched: 3, Done: 3}, f.ask(which)
}

func (f *fakeQueue) Stats(context.Context) (queue.Stats, error) { return f.totals, f.ask() }

func (f *fakeQueue) Nodes(context.Context) (queue.FleetStatus, error) { return f.fleet, f.ask() }

func (f *fakeQueue) Minutes(_ context.Context, n int) ([]queue.Minute, error) {
	minutes := queue.NewMinutes(noon, max(0, n-len(f.minutes)))
	return append(minutes, f.minutes[max(0, len(f.minutes)-n):]...), f.ask(n)
}

func (f *fakeQueue) Events(context.Context) (<-chan queue.Event, error) {
	return f.events, f.ask("events")
}

func (f *fakeQueue) Ready(context.Context) error { return f.ask() }

// rig is an API over a fake queue.
type rig struct {
	*server
	queue   *fakeQueue
	handler http.Handler
	log     *bytes.Buffer
}

func newRig(t testing.TB, change ...func(*Options)) *rig {
	t.Helper()
	sealer, err := signer.NewSealer(make([]byte, signer.MasterKeySize))
	if err != nil {
		t.Fatal(err)
	}
	g := &rig{queue: newFake(), log: &bytes.Buffer{}}
	o := Options{
		Queue: g.queue, Sealer: sealer, Policy: netguard.NewPolicy(nil), Version: "1.2.3",
		Log: slog.New(slog.NewTextHandler(g.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	for _, f := range change {
		f(&o)
	}
	g.server = newServer(o)
	g.handler = g.server.handler()
	return g
}

// newRequest makes a request as a client on this machine sends it.
func newRequest(method, target string, body io.Reader) *http.Request {
	r := httptest.NewRequest(method, target, body)
	r.Host = "localhost"
	return r
}

// do makes a call; headers are name, value, name, value.
func (g *rig) do(method, target, body string, headers ...string) *httptest.ResponseRecorder {
	var r io.Reader
	if body != "" {
		r = strings.NewReader(body)
	}
	req := newRequest(method, target, r)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		} else if headers[i+1] == "" {
			req.Header.Del(headers[i])
		} else {
			req.Header.Add(headers[i], headers[i+1])
		}
	}
	rec := httptest.NewRecorder()
	g.handler.ServeHTTP(rec, req)
	return rec
}

// decode reads an answer.
func decode[T any](t testing.TB, rec *httptest.ResponseRecorder) T {
	t.Helper()
	var v T
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil {
		t.Fatalf("answer %q: %v", rec.Body, err)
	}
	return v
}

// wantProblem checks that an answer is a whole problem document with a status, and returns it.
func wantProblem(t testing.TB, rec *httptest.ResponseRecorder, status int) problem {
	t.Helper()
	if rec.Code != status || rec.Header().Get("Content-Type") != "application/problem+json" {
		t.Fatalf("got %d %q, want problem %d: %s", rec.Code, rec.Header().Get("Content-Type"), status, rec.Body)
	}
	p := decode[problem](t, rec)
	title, _, typed := strings.Cut(problemPages[p.Type], "\n")
	if !typed && p.Type == "about:blank" {
		title = http.StatusText(status)
	}
	if title == "" || p.Title != title || p.Status != status || p.Detail == "" {
		t.Fatalf("incomplete problem %s", rec.Body)
	}
	for _, f := range p.Errors {
		if f.Location == "" || f.Message == "" || !slices.Contains(codes, f.Code) {
			t.Fatalf("incomplete fault %+v", f)
		}
	}
	return p
}

func wantStatus(t testing.TB, rec *httptest.ResponseRecorder, status int) {
	t.Helper()
	if rec.Code != status {
		t.Fatalf("got %d, want %d: %s", rec.Code, status, rec.Body)
	}
}

// call makes a call of a few members: "key_id", "inboxes" and so on, as JSON.
func call(members ...string) string { return "{" + strings.Join(members, ",") + "}" }

const (
	anActivity = `"activity":{"id":"https://app.example/a/1","type":"Create","actor":"https://app.example/users/alice","object":{"id":"https://app.example/notes/1","type":"Note"}}`
	aKey       = `"key_id":"` + alice + `"`
	anInbox    = `"inboxes":["https://one.example/inbox"]`
)

package webhook

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// The secret and the signature of the examples of Standard Webhooks.
const secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// feed is a feed whose cursors are numbers.
type feed struct {
	mu       sync.Mutex
	entries  int
	actions  bool // every second entry is of EventAction
	err      error
	position string
}

func (f *feed) Feed(_ context.Context, filter queue.FeedFilter, p queue.Page) (list queue.List[queue.Event], err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, err := strconv.Atoi("0" + p.Cursor)
	if err != nil {
		return list, queue.ErrBadCursor
	}
	for ; at < f.entries && len(list.Items) < p.Limit; at++ {
		e := queue.Event{Kind: queue.EventDead, ID: strconv.Itoa(at), At: time.Now()}
		if f.actions && at%2 == 1 {
			e.Kind = queue.EventAction
		}
		if filter.Passes(&e) {
			list.Items = append(list.Items, e)
		}
	}
	list.Next = strconv.Itoa(at)
	return list, f.err
}

func (f *feed) FeedAction(context.Context, queue.Event) error { panic("not called") }

func (f *feed) FeedPosition(context.Context, string) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.position, f.err
}

func (f *feed) SetFeedPosition(_ context.Context, reader, cursor string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.err == nil && reader == "webhook" {
		f.position = cursor
	}
	return f.err
}

func (f *feed) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

// app is the receiver of the webhook. It takes a request if status says so, and notes the entries of all of these.
type app struct {
	t      *testing.T
	status func(n int) int // of the nth request

	mu       sync.Mutex
	requests int
	ids      []string // of requests
	times    []time.Time
	got      []string // entries
	senders  map[string]int
}

func (a *app) RoundTrip(r *http.Request) (*http.Response, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		return nil, err
	}
	if err := hook.Verify(body, r.Header); err != nil {
		a.t.Errorf("signature: %v", err)
	}
	a.requests++
	a.ids = append(a.ids, r.Header.Get("webhook-id"))
	a.times = append(a.times, time.Now())
	status := http.StatusNoContent
	if a.status != nil {
		status = a.status(a.requests)
	}
	if status == 0 {
		return nil, errors.New("connection refused")
	}
	if status/100 == 2 {
		a.got = append(a.got, strings.Fields(string(body))...)
		a.senders[r.Header.Get("User-Agent")]++
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: io.NopCloser(strings.NewReader("")), Header: http.Header{}, Request: r}, nil
}

func encode(entries []queue.Event, _ string) ([]byte, error) {
	var b bytes.Buffer
	for _, e := range entries {
		fmt.Fprintln(&b, e.ID)
	}
	return b.Bytes(), nil
}

// start runs a sender until the returned function is called.
func start(t *testing.T, name string, f *feed, a *app, m lockmgr.Manager, log io.Writer) (*Sender, func()) {
	t.Helper()
	return startWith(t, []queue.EventKind{queue.EventDead}, name, f, a, m, log)
}

// startWith runs one that sends these kinds of entries.
func startWith(
	t *testing.T, kinds []queue.EventKind, name string, f *feed, a *app, m lockmgr.Manager, log io.Writer,
) (*Sender, func()) {
	t.Helper()
	s, err := New(Settings{
		URL: "http://127.0.0.1/hook", Secret: secret, Encode: encode, UserAgent: name, Client: &http.Client{Transport: a},
		Kinds: kinds,
	}, f, m, 30*time.Second, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.Run(ctx) }()
	return s, func() { cancel(); <-done }
}

// numbers are the texts of the numbers below n.
func numbers(n int) (texts []string) {
	for i := range n {
		texts = append(texts, strconv.Itoa(i))
	}
	return texts
}

// TestSendsActionsOnlyIfAsked checks that the app gets entries of actions only if its types name them.
func TestSendsActionsOnlyIfAsked(t *testing.T) {
	for _, tt := range []struct {
		kinds []queue.EventKind
		want  []string
	}{
		{nil, []string{"0", "2", "4"}},
		{[]queue.EventKind{queue.EventDead}, []string{"0", "2", "4"}},
		{[]queue.EventKind{queue.EventAction}, []string{"1", "3", "5"}},
		{[]queue.EventKind{queue.EventDead, queue.EventAction}, numbers(6)},
	} {
		synctest.Test(t, func(t *testing.T) {
			f, a := &feed{entries: 6, actions: true}, newApp(t, nil)
			_, stop := startWith(t, tt.kinds, "one", f, a, lockmgr.NewLocal(30*time.Second), io.Discard)
			time.Sleep(time.Second)
			synctest.Wait()
			stop()
			if !slices.Equal(a.got, tt.want) {
				t.Errorf("%v: the app got %v, want %v", tt.kinds, a.got, tt.want)
			}
		})
	}
}

func newApp(t *testing.T, status func(int) int) *app {
	return &app{t: t, status: status, senders: map[string]int{}}
}

func TestSendsAllInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a := &feed{entries: 250}, newApp(t, nil)
		s, stop := start(t, "one", f, a, lockmgr.NewLocal(30*time.Second), io.Discard)
		time.Sleep(time.Second)
		synctest.Wait()
		if a.requests != 3 || !slices.Equal(a.got, numbers(250)) || f.position != "250" {
			t.Errorf("%d requests brought %d entries, position %s", a.requests, len(a.got), f.position)
		}
		f.set(func() { f.entries = 260 })
		time.Sleep(2 * look)
		synctest.Wait()
		stop()
		if !slices.Equal(a.got, numbers(260)) || s.Stats() != (Stats{Accepted: 4}) {
			t.Errorf("%d entries, %+v", len(a.got), s.Stats())
		}
		f.set(func() { f.entries = 270 })
		_, stop = start(t, "two", f, a, lockmgr.NewLocal(30*time.Second), io.Discard)
		time.Sleep(time.Second)
		synctest.Wait()
		stop()
		if !slices.Equal(a.got, numbers(270)) {
			t.Errorf("%d entries after a restart, want each once", len(a.got))
		}
	})
}

func TestRepeatsUntilTheAppAccepts(t *testing.T) {
	for _, status := range []int{0, 301, 400, 410, 429, 500} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			f := &feed{entries: 5}
			a := newApp(t, func(n int) int {
				if n <= 15 {
					return status
				}
				return 200
			})
			s, stop := start(t, "one", f, a, lockmgr.NewLocal(30*time.Second), &log)
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			if lag := s.Stats().Lag; lag < 9*time.Minute || lag > 10*time.Minute {
				t.Errorf("after ten minutes the lag is %s", lag)
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			stop()
			if !slices.Equal(a.got, numbers(5)) || f.position != "5" || s.Stats() != (Stats{Accepted: 1, Failed: 15}) {
				t.Errorf("%v, position %s, %+v", a.got, f.position, s.Stats())
			}
			if len(slices.Compact(a.ids)) != 1 {
				t.Error("repetitions have other IDs")
			}
			for i := range a.times[1:] {
				if pause := a.times[i+1].Sub(a.times[i]); pause > longestPause || pause < firstPause {
					t.Errorf("a pause of %s", pause)
				}
			}
			if n := strings.Count(log.String(), "webhook.refused"); n != 1 {
				t.Errorf("%d lines tell of the refusals, want one", n)
			}
		})
	}
}

func TestOneSendsAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a := &feed{}, newApp(t, nil)
		leases := lockmgr.NewLocal(30 * time.Second)
		stops := map[string]func(){}
		for _, name := range []string{"one", "two", "three"} {
			_, stops[name] = start(t, name, f, a, leases, io.Discard)
		}
		for range 3 {
			for range 5 {
				f.set(func() { f.entries += 10 })
				time.Sleep(time.Minute)
				synctest.Wait()
			}
			if len(a.senders) != 1 {
				t.Fatalf("%v sent, want one", a.senders)
			}
			for name := range a.senders {
				stops[name]()
				delete(stops, name)
			}
			clear(a.senders)
		}
		if !slices.Equal(a.got, numbers(150)) {
			t.Errorf("%d entries, want each of 150 once", len(a.got))
		}
	})
}

func TestSurvivesAnOutageOfTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a := &feed{entries: 3}, newApp(t, nil)
		_, stop := start(t, "one", f, a, lockmgr.NewLocal(30*time.Second), io.Discard)
		time.Sleep(time.Second)
		synctest.Wait()
		f.set(func() { f.entries, f.err = 6, errors.New("away") })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		f.set(func() { f.err = nil })
		time.Sleep(time.Minute)
		synctest.Wait()
		stop()
		if !slices.Equal(a.got, numbers(6)) {
			t.Errorf("%v, want each entry once", a.got)
		}
	})
}

func TestPositionOfAnotherStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, a := &feed{entries: 3, position: "elsewhere"}, newApp(t, nil)
		_, stop := start(t, "one", f, a, lockmgr.NewLocal(30*time.Second), io.Discard)
		time.Sleep(time.Second)
		synctest.Wait()
		stop()
		if !slices.Equal(a.got, numbers(3)) {
			t.Errorf("%v, want all from the oldest on", a.got)
		}
	})
}

func TestRefusesABadSecret(t *testing.T) {
	if _, err := New(Settings{Secret: "whsec_!"}, nil, nil, time.Second, slog.Default()); err == nil {
		t.Error("no error")
	}
}

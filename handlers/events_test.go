package handlers

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
)

// subscriber is a call of /v1/events in a bubble.
type subscriber struct {
	*httptest.ResponseRecorder
	leave func()

	mu    sync.Mutex
	ended bool // guarded by mu, as is the recorder's body
}

// Write implements http.ResponseWriter.
func (l *subscriber) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ResponseRecorder.Write(text)
}

func (g *rig) subscribe(query string, headers ...string) *subscriber {
	ctx, leave := context.WithCancel(context.Background())
	l := &subscriber{ResponseRecorder: httptest.NewRecorder(), leave: leave}
	r := newRequest("GET", "/v1/events"+query, nil).WithContext(ctx)
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	go func() {
		g.handler.ServeHTTP(l, r)
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ended = true
	}()
	synctest.Wait()
	return l
}

// received returns what came since the last call.
func (l *subscriber) received() string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.Body.Reset()
	return l.Body.String()
}

// over reports whether the call has ended.
func (l *subscriber) over() bool {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// leaves makes the subscriber go, and waits for the end of its call.
func (l *subscriber) leaves(t *testing.T) {
	t.Helper()
	l.leave()
	if !l.over() {
		t.Error("the call outlives its subscriber")
	}
}

var (
	anEvent = queue.Event{
		Kind: queue.EventDelivered, At: noon, Host: "one.example", ID: "d1", ActivityID: anID, URI: "https://app.example/a/1",
		Inbox: "https://one.example/inbox", IDs: []string{"https://one.example/users/bob"}, Attempts: 1, Attempt: &queue.LastAttempt{At: noon, Status: 202, Outcome: "delivered", Duration: time.Second},
	}
	aDeath = queue.Event{
		Kind: queue.EventDead, At: noon, Host: "two.example", ID: "d2", ActivityID: anID, URI: "https://app.example/a/1\n\nevent: x",
		Inbox: "https://two.example/inbox", Reason: queue.ReasonHostBlocked,
	}
	aDone = queue.Event{
		Kind: queue.EventActivityDone, At: noon, ActivityID: anID, URI: "https://app.example/a/1", Metadata: []byte(`{"n":1}`),
		Counts: &queue.Counts{Total: 3, Delivered: 1, Dead: 2},
	}
	aChange = queue.Event{Kind: queue.EventHostState, At: noon, Host: "two.example", State: queue.HostBlocked}
)

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.queue.events = make(chan queue.Event, 8)
		l := g.subscribe("")
		stats := "event: stats\ndata: " + g.do("GET", "/v1/stats", "").Body.String() + "\n"
		if got := l.received(); got != "retry: 5000\n\n"+stats {
			t.Errorf("at first came %q", got)
		}
		if h := l.Header(); l.Code != 200 || h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-store" ||
			h.Get("X-Accel-Buffering") != "no" || !l.Flushed {
			t.Errorf("answered %d %v", l.Code, h)
		}
		g.queue.events <- anEvent
		g.queue.happen(false, aDeath, aChange, aDone)
		want := `event: delivered
data: {"type":"delivered","at":"2026-01-02T11:00:00.000Z","id":"d1","activity_id":"https://app.example/a/1","inbox":"https://one.example/inbox","ids":["https://one.example/users/bob"],"host":"one.example","attempts":1,"last_attempt":{"at":"2026-01-02T11:00:00.000Z","status":202,"outcome":"delivered","duration_ms":1000},"url":"/v1/activities/` + anID + `"}

event: dead
id: 1
data: {"type":"dead","at":"2026-01-02T11:00:00.000Z","cursor":"1","id":"d2","activity_id":"https://app.example/a/1\n\nevent: x","inbox":"https://two.example/inbox","host":"two.example","reason":"host_blocked","attempts":0,"url":"/v1/activities/` + anID + `"}

event: host_state
id: 2
data: {"type":"host_state","at":"2026-01-02T11:00:00.000Z","cursor":"2","host":"two.example","state":"blocked"}

event: activity_done
id: 3
data: {"type":"activity_done","at":"2026-01-02T11:00:00.000Z","cursor":"3","id":"` + anID + `","activity_id":"https://app.example/a/1","metadata":{"n":1},"state":"done","counts":{"total":3,"pending":0,"delivered":1,"dead":2,"cancelled":0},"url":"/v1/activities/` + anID + `"}

`
		if diff := cmp.Diff(want, l.received()); diff != "" {
			t.Error(diff)
		}
		for second := 1; second <= 30; second++ {
			time.Sleep(time.Second)
			want := ""
			if second%5 == 0 {
				want = stats
			}
			got := l.received()
			if second%15 == 0 { // both are due; which comes first is left to chance
				got = strings.Replace(got, ":\n\n", "", 1)
				want = strings.TrimPrefix(want, ":\n\n")
				if got == "" || strings.HasPrefix(got, ":\n") {
					t.Errorf("after %d s no heartbeat", second)
				}
			}
			if got != want {
				t.Errorf("after %d s came %q", second, got)
			}
		}
		l.leaves(t)
	})
}

func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.queue.events = make(chan queue.Event)
		l := g.subscribe("?type=dead")
		if got := l.received(); got != "retry: 5000\n\n" {
			t.Errorf("at first came %q", got)
		}
		time.Sleep(time.Minute)
		if got := l.received(); got != strings.Repeat(":\n\n", 4) {
			t.Errorf("in a minute came %q", got)
		}
		l.leaves(t)
	})
}

// TestLostNews: entries of the feed also come if the news of them were lost, all of them, however many.
func TestLostNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.queue.feed = []queue.Event{aDeath}
		l := g.subscribe("?type=dead,host_state")
		l.received()
		for range 3 * maxLimit {
			g.queue.happen(true, aChange)
		}
		time.Sleep(lookEvery)
		if got := l.received(); strings.Count(got, "event: host_state\n") != 3*maxLimit || strings.Contains(got, "event: dead") {
			t.Errorf("came %d changes, want those since the call began", strings.Count(got, "event: host_state\n"))
		}
		l.leaves(t)
	})
}

func TestLastEventID(t *testing.T) {
	for last, want := range map[string]string{"1": "dead host_state", "3": "", "0": "host_state dead host_state", "elsewhere": "host_state dead host_state", "99": "host_state dead host_state"} {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t)
			g.queue.feed = []queue.Event{aChange, aDeath, aChange}
			l := g.subscribe("?type=dead,host_state", "Last-Event-ID", last)
			var got []string
			for line := range strings.Lines(l.received()) {
				if kind, ok := strings.CutPrefix(line, "event: "); ok {
					got = append(got, strings.TrimSpace(kind))
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("behind %s came %v, want %s", last, got, want)
			}
			l.leaves(t)
		})
	}
}

// TestDeliveredInFeed: where the feed has what is delivered, events of it come from there, and once.
func TestDeliveredInFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, func(o *Options) { o.FeedDelivered = true })
		g.queue.events = make(chan queue.Event, 8)
		l := g.subscribe("?type=delivered")
		l.received()
		g.queue.events <- anEvent
		g.queue.happen(false, anEvent)
		if got := l.received(); strings.Count(got, "event: delivered") != 1 || !strings.HasPrefix(got, "event: delivered\nid: 1\n") {
			t.Errorf("came %q", got)
		}
		l.leaves(t)
	})
}

func TestFeed(t *testing.T) {
	g := newRig(t)
	g.queue.feed = []queue.Event{aDeath, aChange, aDone}
	for query, want := range map[string][2]string{
		"":                                {"dead host_state activity_done", "3"},
		"?after=now":                      {"", "3"},
		"?after=1":                        {"host_state activity_done", "3"},
		"?limit=1":                        {"dead", "1"},
		"?type=dead,activity_done":        {"dead activity_done", "3"},
		"?host=TWO.example:443&type=dead": {"dead", "3"},
		"?host=one.example&after=1":       {"", "3"},
		"?type=delivered&type=host_state": {"host_state", "3"},
	} {
		rec := g.do("GET", "/v1/feed"+query, "")
		wantStatus(t, rec, 200)
		list := decode[page[entry]](t, rec)
		var got []string
		for _, e := range list.Items {
			got = append(got, e.Type)
		}
		if strings.Join(got, " ") != want[0] || list.NextCursor != want[1] {
			t.Errorf("%s: %v, cursor %s, want %v", query, got, list.NextCursor, want)
		}
	}
	text, err := EncodeFeed(g.queue.feed, "3")
	if want := g.do("GET", "/v1/feed", "").Body.String(); err != nil || strings.Count(string(text), `"type"`) != strings.Count(want, `"type"`) {
		t.Errorf("encoded as %s, %v, want %s", text, err, want)
	}
	for query, location := range map[string]string{
		"?type=stats": "query.type", "?type=x": "query.type", "?host=a%20b": "query.host", "?after=x": "query.after", "?limit=0": "query.limit",
	} {
		if p := wantProblem(t, g.do("GET", "/v1/feed"+query, ""), 422); p.Errors[0].Location != location {
			t.Errorf("%s: %+v", query, p.Errors)
		}
	}
	wantProblem(t, g.do("GET", "/v1/feed?cursor=1", ""), 400)
}

// TestStatsWithoutStore: while the store is away, nothing is made up, and the subscriber stays.
func TestStatsWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		l := g.subscribe("?type=stats")
		l.received()
		g.queue.fail(errAway)
		time.Sleep(6 * time.Second)
		if got := l.received(); got != "" {
			t.Errorf("came %q", got)
		}
		g.queue.fail(nil)
		time.Sleep(5 * time.Second)
		if got := l.received(); !strings.HasPrefix(got, "event: stats\n") {
			t.Errorf("came %q", got)
		}
		l.leaves(t)
		for _, asked := range g.queue.asked {
			if asked == "events" {
				t.Error("asked the store for events without a subscriber")
			}
		}
	})
}

func TestEventFilters(t *testing.T) {
	for query, want := range map[string]string{
		"":                                     "stats delivered dead host_state",
		"?type=delivered":                      "delivered",
		"?type=dead,host_state":                "dead host_state",
		"?type=dead&type=stats":                "stats dead",
		"?type=":                               "stats delivered dead host_state",
		"?host=TWO.example:443":                "dead host_state",
		"?host=two.example&type=host_state":    "host_state",
		"?host=one.example,two.example":        "delivered dead host_state",
		"?host=one.example&host=x.example":     "delivered",
		"?host=x.example&type=stats":           "stats",
		"?host=x.example&type=stats,delivered": "stats",
		"?host=b%C3%BCcher.example,one.example&type=dead": "",
	} {
		synctest.Test(t, func(t *testing.T) {
			g := newRig(t)
			g.queue.events = make(chan queue.Event, 8)
			l := g.subscribe(query)
			if query != "?host=x.example&type=stats" {
				g.queue.events <- anEvent
				g.queue.happen(false, aDeath, aChange)
			}
			var got []string
			for line := range strings.Lines(l.received()) {
				if kind, ok := strings.CutPrefix(line, "event: "); ok {
					got = append(got, strings.TrimSpace(kind))
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s: received %v, want %s", query, got, want)
			}
			l.leaves(t)
		})
	}
	for query, location := range map[string]string{
		"?type=died": "query.type", "?type=dead,x": "query.type", "?host=a%20b": "query.host", "?host=one.example,a@b": "query.host",
	} {
		if p := wantProblem(t, newRig(t).do("GET", "/v1/events"+query, ""), 422); p.Errors[0].Location != location {
			t.Errorf("%s: %+v", query, p.Errors)
		}
	}
}

func TestMostSubscribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		var all []*subscriber
		for range maxSubscribers {
			l := g.subscribe("?type=stats")
			wantStatus(t, l.ResponseRecorder, 200)
			all = append(all, l)
		}
		rec := g.do("GET", "/v1/events", "")
		if wantProblem(t, rec, 503); rec.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		all[0].leaves(t)
		all[0] = g.subscribe("?type=stats")
		wantStatus(t, all[0].ResponseRecorder, 200)
		for _, l := range all {
			l.leaves(t)
		}
	})
}

// TestSubscribersOfATokenLeaveRoom checks that one token can't take the places of all subscribers.
func TestSubscribersOfATokenLeaveRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, withTokens)
		var all []*subscriber
		for range maxSubscribers / 2 {
			all = append(all, g.subscribe("?type=stats", "Authorization", "Bearer 0123456789abcdef"))
			wantStatus(t, all[len(all)-1].ResponseRecorder, 200)
		}
		wantProblem(t, g.do("GET", "/v1/events", "", "Authorization", "Bearer 0123456789abcdef"), 503)
		all = append(all, g.subscribe("?type=stats", "Authorization", "Bearer fedcba9876543210"))
		wantStatus(t, all[len(all)-1].ResponseRecorder, 200)
		for _, l := range all {
			l.leaves(t)
		}
	})
}

// TestEventsEnd: with the node, with the store's events, and not at all where the store has none.
func TestEventsEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		life, end := context.WithCancel(t.Context())
		g := newRig(t, func(o *Options) { o.Life = life })
		g.queue.events = make(chan queue.Event)
		first := g.subscribe("")
		close(g.queue.events)
		if !first.over() {
			t.Error("listens to what has ended")
		}
		second := g.subscribe("?type=stats")
		end()
		if !second.over() {
			t.Error("outlives the node")
		}
		if late := g.subscribe("?type=stats"); !late.over() {
			t.Error("begins after the node's end")
		}
		g.queue.fail(queue.ErrClosed)
		wantProblem(t, g.do("GET", "/v1/events", ""), 503)
	})
}

func TestEventsNeedToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t, withTokens)
		wantProblem(t, g.do("GET", "/v1/events", ""), 401)
		rec := g.do("HEAD", "/v1/events", "", "Authorization", "Bearer 0123456789abcdef")
		if wantStatus(t, rec, 200); rec.Body.Len() > 0 || rec.Header().Get("Content-Type") != "text/event-stream" {
			t.Errorf("HEAD: %v %s", rec.Header(), rec.Body)
		}
	})
}

// TestStuckSubscriber: a subscriber that reads nothing is disconnected, and a slow one holds up only itself.
func TestStuckSubscriber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.queue.events = make(chan queue.Event, 8)
		pipes := make(pipes)
		srv := &http.Server{Handler: g.handler}
		go func() { _ = srv.Serve(pipes) }()
		defer srv.Close()
		client, server := net.Pipe()
		pipes <- server
		fmt.Fprint(client, "GET /v1/events?type=stats,dead HTTP/1.1\r\nHost: localhost\r\n\r\n")
		lines := bufio.NewReader(client)
		for line := ""; line != "event: stats\n"; {
			var err error
			if line, err = lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		if synctest.Wait(); g.subscribers.claim("").tryGrow(maxSubscribers) {
			t.Fatal("there is no subscriber")
		}
		time.Sleep(stuckAfter + 6*time.Second) // the next stats come within 5 s
		if synctest.Wait(); !g.subscribers.claim("").tryGrow(maxSubscribers) {
			t.Error("a subscriber that takes nothing is not disconnected")
		}
		client.Close()
	})
}

// pipes is a listener for the ends of pipes.
type pipes chan net.Conn

// Accept implements net.Listener.
func (p pipes) Accept() (net.Conn, error) {
	c, open := <-p
	if !open {
		return nil, net.ErrClosed
	}
	return c, nil
}

// Close implements net.Listener.
func (p pipes) Close() error { close(p); return nil }

// Addr implements net.Listener.
func (p pipes) Addr() net.Addr { return &net.UnixAddr{} }

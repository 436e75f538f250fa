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

// listening is a call of /v1/events in a bubble.
type listening struct {
	*httptest.ResponseRecorder
	leave func()

	mu    sync.Mutex
	ended bool // guarded by mu, as is the recorder's body
}

// Write implements http.ResponseWriter.
func (l *listening) Write(text []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ResponseRecorder.Write(text)
}

func (g *rig) listen(query string) *listening {
	ctx, leave := context.WithCancel(context.Background())
	l := &listening{ResponseRecorder: httptest.NewRecorder(), leave: leave}
	go func() {
		g.handler.ServeHTTP(l, httptest.NewRequestWithContext(ctx, "GET", "/v1/events"+query, nil))
		l.mu.Lock()
		defer l.mu.Unlock()
		l.ended = true
	}()
	synctest.Wait()
	return l
}

// heard returns what came since the last call.
func (l *listening) heard() string {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	defer l.Body.Reset()
	return l.Body.String()
}

// over tells whether the call has ended.
func (l *listening) over() bool {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.ended
}

// leaves makes the listener go, and waits for the end of its call.
func (l *listening) leaves(t *testing.T) {
	t.Helper()
	l.leave()
	if !l.over() {
		t.Error("the call outlives its listener")
	}
}

var (
	anEvent = queue.Event{
		Kind: queue.EventDelivered, At: noon, Host: "one.example", ID: "d1", ActivityID: anID, URI: "https://app.example/a/1",
		Inbox: "https://one.example/inbox", Attempts: 1, Attempt: &queue.LastAttempt{At: noon, Status: 202, Outcome: "delivered", Duration: time.Second},
	}
	aDeath = queue.Event{
		Kind: queue.EventDead, At: noon, Host: "two.example", ID: "d2", ActivityID: anID, URI: "https://app.example/a/1\n\nevent: x",
		Inbox: "https://two.example/inbox", Reason: queue.ReasonHostBlocked,
	}
	aChange = queue.Event{Kind: queue.EventHostState, At: noon, Host: "two.example", State: queue.HostBlocked}
)

func TestEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.queue.events = make(chan queue.Event, 8)
		l := g.listen("")
		stats := "event: stats\ndata: " + g.do("GET", "/v1/stats", "").Body.String() + "\n"
		if got := l.heard(); got != "retry: 5000\n\n"+stats {
			t.Errorf("at first came %q", got)
		}
		if h := l.Header(); l.Code != 200 || h.Get("Content-Type") != "text/event-stream" || h.Get("Cache-Control") != "no-store" ||
			h.Get("X-Accel-Buffering") != "no" || !l.Flushed {
			t.Errorf("answered %d %v", l.Code, h)
		}
		for _, e := range []queue.Event{anEvent, aDeath, aChange} {
			g.queue.events <- e
		}
		want := `event: delivered
data: {"at":"2026-01-02T11:00:00.000Z","id":"d1","activity_id":"https://app.example/a/1","inbox":"https://one.example/inbox","host":"one.example","attempts":1,"last_attempt":{"at":"2026-01-02T11:00:00.000Z","status":202,"outcome":"delivered","duration_ms":1000},"url":"/v1/activities/` + anID + `"}

event: dead
data: {"at":"2026-01-02T11:00:00.000Z","id":"d2","activity_id":"https://app.example/a/1\n\nevent: x","inbox":"https://two.example/inbox","host":"two.example","reason":"host_blocked","attempts":0,"url":"/v1/activities/` + anID + `"}

event: host_state
data: {"at":"2026-01-02T11:00:00.000Z","host":"two.example","state":"blocked"}

`
		if diff := cmp.Diff(want, l.heard()); diff != "" {
			t.Error(diff)
		}
		for second := 1; second <= 30; second++ {
			time.Sleep(time.Second)
			want := ""
			if second%5 == 0 {
				want = stats
			}
			got := l.heard()
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
		l := g.listen("?type=dead")
		if got := l.heard(); got != "retry: 5000\n\n" {
			t.Errorf("at first came %q", got)
		}
		time.Sleep(time.Minute)
		if got := l.heard(); got != strings.Repeat(":\n\n", 4) {
			t.Errorf("in a minute came %q", got)
		}
		l.leaves(t)
	})
}

// TestStatsWithoutStore: while the store is away, nothing is made up, and the listener stays.
func TestStatsWithoutStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		l := g.listen("?type=stats")
		l.heard()
		g.queue.fail(errAway)
		time.Sleep(6 * time.Second)
		if got := l.heard(); got != "" {
			t.Errorf("came %q", got)
		}
		g.queue.fail(nil)
		time.Sleep(5 * time.Second)
		if got := l.heard(); !strings.HasPrefix(got, "event: stats\n") {
			t.Errorf("came %q", got)
		}
		l.leaves(t)
		for _, asked := range g.queue.asked {
			if asked == "events" {
				t.Error("asked the store for events that nobody wanted")
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
			l := g.listen(query)
			for _, e := range []queue.Event{anEvent, aDeath, aChange} {
				if strings.Contains(want, "d") || strings.Contains(want, "h") {
					g.queue.events <- e
				}
			}
			var got []string
			for line := range strings.Lines(l.heard()) {
				if kind, ok := strings.CutPrefix(line, "event: "); ok {
					got = append(got, strings.TrimSpace(kind))
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%s: heard %v, want %s", query, got, want)
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

func TestMostListeners(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		var all []*listening
		for range maxListeners {
			l := g.listen("?type=stats")
			wantStatus(t, l.ResponseRecorder, 200)
			all = append(all, l)
		}
		rec := g.do("GET", "/v1/events", "")
		if wantProblem(t, rec, 503); rec.Header().Get("Retry-After") == "" {
			t.Error("no Retry-After")
		}
		all[0].leaves(t)
		all[0] = g.listen("?type=stats")
		wantStatus(t, all[0].ResponseRecorder, 200)
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
		first := g.listen("")
		close(g.queue.events)
		if !first.over() {
			t.Error("listens to what has ended")
		}
		second := g.listen("?type=stats")
		end()
		if !second.over() {
			t.Error("outlives the node")
		}
		if late := g.listen("?type=stats"); !late.over() {
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

// TestStuckListener: who reads nothing is let go, and who reads slowly holds up only himself.
func TestStuckListener(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		g.queue.events = make(chan queue.Event, 8)
		pipes := make(pipes)
		srv := &http.Server{Handler: g.handler}
		go func() { _ = srv.Serve(pipes) }()
		defer srv.Close()
		client, server := net.Pipe()
		pipes <- server
		fmt.Fprint(client, "GET /v1/events?type=stats,dead HTTP/1.1\r\nHost: x\r\n\r\n")
		lines := bufio.NewReader(client)
		for line := ""; line != "event: stats\n"; {
			var err error
			if line, err = lines.ReadString('\n'); err != nil {
				t.Fatal(err)
			}
		}
		if synctest.Wait(); g.listeners.TryAcquire(maxListeners) {
			t.Fatal("nobody listens")
		}
		time.Sleep(stuckAfter + 6*time.Second) // the next stats come within 5 s
		if synctest.Wait(); !g.listeners.TryAcquire(maxListeners) {
			t.Error("a listener that takes nothing is not let go")
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

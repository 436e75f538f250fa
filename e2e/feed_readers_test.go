package e2e

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// entryView is an entry of the feed, with all members that entries may have.
type entryView struct {
	Type        string
	At          time.Time
	Cursor      string
	ID          string
	ActivityID  string `json:"activity_id"`
	Metadata    any
	Inbox, Host string
	IDs         []string
	State       string
	Reason      string
	Attempts    int
	LastAttempt attemptView `json:"last_attempt"`
	Counts      countsView
	URL         string
}

// name names what an entry reports. Of what is reported twice, the entries have the same name.
func (e *entryView) name() string {
	if e.Type == "host_state" {
		return fmt.Sprint(e.Host, " ", e.State, " ", e.At)
	}
	return e.Type + " " + e.ID
}

// text is all that an entry says, but for where it stands.
func (e *entryView) text() string {
	v := *e
	v.Cursor = ""
	return fmt.Sprintf("%+v", v)
}

// reading is what an app has read of the feed: each entry once, in the order in which they came first.
type reading struct {
	t    *testing.T
	name string

	mu      sync.Mutex
	entries []entryView          // guarded by mu
	known   map[string]entryView // guarded by mu: by name
	repeats int                  // guarded by mu
}

func newReading(t *testing.T, name string) *reading {
	return &reading{t: t, name: name, known: map[string]entryView{}}
}

// add adds entries. One that comes again must say the same.
func (r *reading) add(entries ...entryView) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range entries {
		before, again := r.known[e.name()]
		switch {
		case !again:
			r.known[e.name()] = e
			r.entries = append(r.entries, e)
		case before.text() != e.text():
			r.t.Errorf("%s: got %s, and then %s", r.name, before.text(), e.text())
		default:
			r.repeats++
		}
	}
}

// count returns how many different entries were read.
func (r *reading) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.entries)
}

// byHost returns the texts of the entries of each host, in order, and those of activities, which have none, under "".
func (r *reading) byHost() map[string][]string {
	r.mu.Lock()
	defer r.mu.Unlock()
	texts := map[string][]string{}
	for _, e := range r.entries {
		texts[e.Host] = append(texts[e.Host], e.text())
	}
	slices.Sort(texts[""])
	return texts
}

// readers are apps that read the feed of a fleet at the same time, each in its way, until they are stopped.
type readers struct {
	f    *fleet
	ctx  context.Context
	stop context.CancelFunc
	work sync.WaitGroup
	all  []*reading
	end  string // the cursor at which they began
}

func startReaders(t *testing.T, f *fleet) *readers {
	rs := &readers{f: f, end: get[page[entryView]](f.nodes[0], "/v1/feed?after=now").Next}
	rs.ctx, rs.stop = context.WithCancel(context.Background())
	t.Cleanup(func() { rs.stop(); rs.work.Wait() })
	rs.start(t, "a client of the feed", rs.poll)
	rs.start(t, "a subscriber of events", rs.subscribe)
	return rs
}

func (rs *readers) start(t *testing.T, name string, read func(*reading, *rand.Rand)) {
	r := newReading(t, name)
	rs.all = append(rs.all, r)
	random := rand.New(rand.NewPCG(1, uint64(len(rs.all))))
	rs.work.Go(func() { read(r, random) })
}

// any returns a random node.
func (rs *readers) any(random *rand.Rand) *testNode { return rs.f.nodes[random.IntN(len(rs.f.nodes))] }

// pause waits a little before a node is asked again.
func (rs *readers) pause() {
	select {
	case <-rs.ctx.Done():
	case <-time.After(retryPause):
	}
}

// poll reads pages of random sizes from random nodes. Now and then it forgets what it read since it saved its cursor, as an
// app that crashes does.
func (rs *readers) poll(r *reading, random *rand.Rand) {
	saved := rs.end
	for cursor := saved; rs.ctx.Err() == nil; {
		query := fmt.Sprintf("/v1/feed?type=dead,host_state,activity_done&limit=%d&after=%s", 1+random.IntN(100), cursor)
		a, err := rs.any(random).Try(http.MethodGet, query, nil)
		if err != nil || a.Status == http.StatusServiceUnavailable {
			rs.pause()
			continue
		}
		list, err := decode[page[entryView]](a.Body)
		if err != nil || a.Status != http.StatusOK || list.Next == "" {
			r.t.Errorf("%s answers %d %s", query, a.Status, a.Body)
			rs.pause()
			continue
		}
		r.add(list.Items...)
		if cursor = list.Next; len(list.Items) == 0 {
			rs.pause()
		}
		switch random.IntN(10) {
		case 0, 1:
			saved = cursor
		case 2:
			cursor = saved
		}
	}
}

// subscribe listens to the events of random nodes. It hangs up after a random number of events, and goes on with the last ID.
func (rs *readers) subscribe(r *reading, random *rand.Rand) {
	for last := rs.end; rs.ctx.Err() == nil; rs.pause() {
		last = rs.listen(rs.any(random), r, last, 1+random.IntN(200))
	}
}

// listen listens to a node until the stream ends or n events came, and returns the ID of the last.
func (rs *readers) listen(n *testNode, r *reading, last string, most int) string {
	ctx, hangUp := context.WithCancel(rs.ctx)
	defer hangUp()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, n.URL("/v1/events?type=dead,host_state,activity_done"), nil)
	if err != nil {
		r.t.Error(err)
		return last
	}
	req.Header.Set("Last-Event-ID", last)
	resp, err := n.Client.Do(req)
	if err != nil {
		return last
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	id, data := "", ""
	for most > 0 && lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch {
		case name == "id":
			id = value
		case name == "data":
			data = value
		case name == "" && data != "":
			e, err := decode[entryView](data)
			if err != nil || e.Cursor != id {
				r.t.Errorf("the event %s is %s, %v", id, data, err)
			}
			r.add(e)
			last, data = id, ""
			most--
		}
	}
	return last
}

const webhookSecret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

// startApp starts an app that takes webhooks and fails every other call, in one way or another: it refuses them, hangs up, or
// stores the entries and then hangs up. It returns the flags for the nodes.
func startApp(t *testing.T) (*reading, []string) {
	t.Helper()
	hook, err := standardwebhooks.NewWebhook(webhookSecret)
	if err != nil {
		t.Fatal(err)
	}
	r := newReading(t, "the app behind the webhook")
	var mu sync.Mutex
	calls := 0
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return // the node was killed
		}
		list, broken := decode[page[entryView]](string(body))
		if err := cmp.Or(hook.Verify(body, req.Header), broken); err != nil || len(list.Items) == 0 || len(list.Items) > 100 || list.Next == "" {
			t.Errorf("a call with %d entries, %v", len(list.Items), err)
		}
		switch calls++; calls % 8 {
		case 1:
			w.WriteHeader(http.StatusInternalServerError)
		case 3:
			w.WriteHeader(http.StatusGone)
		case 5:
			panic(http.ErrAbortHandler)
		case 7:
			r.add(list.Items...)
			panic(http.ErrAbortHandler)
		default:
			r.add(list.Items...)
		}
	}))
	t.Cleanup(app.Close)
	return r, []string{"--webhook-url", app.URL + "/postrider", "--webhook-secret", webhookSecret}
}

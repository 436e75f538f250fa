package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/queue"
)

// answers makes a batch of lines, which has to be answered, and returns the answer to each.
func (g *rig) answers(t *testing.T, lines []string, headers ...string) (list []map[string]any) {
	t.Helper()
	rec := g.batch(strings.Join(lines, "\n")+"\n", headers...)
	wantStatus(t, rec, 200)
	if got := rec.Header().Get("Content-Type"); got != "application/x-ndjson" {
		t.Errorf("Content-Type %q", got)
	}
	for text := range strings.Lines(rec.Body.String()) {
		var answer map[string]any
		if err := json.Unmarshal([]byte(text), &answer); err != nil || !strings.HasSuffix(text, "\n") {
			t.Fatalf("line %q: %v", text, err)
		}
		list = append(list, answer)
	}
	if len(list) != len(lines) {
		t.Fatalf("%d answers to %d lines: %v", len(list), len(lines), list)
	}
	return list
}

func (g *rig) batch(body string, headers ...string) *httptest.ResponseRecorder {
	return g.do("POST", "/v1/activities/batch", body, append([]string{"Content-Type", "", "Content-Type", "application/x-ndjson"}, headers...)...)
}

// post1 is a line: an activity to one inbox, with more members.
func post1(id, inbox, key string) string {
	return call(fmt.Sprintf(`"activity":{"id":%q,"type":"Like"}`, id), aKey, fmt.Sprintf(`"inboxes":[%q]`, inbox), fmt.Sprintf(`"ordering_key":%q`, key))
}

const inbox1, inbox2 = "https://one.example/inbox", "https://two.example/inbox"

func TestBatch(t *testing.T) {
	g := newRig(t)
	got := g.answers(t, []string{
		post1("a", inbox1, "k"), "", "no JSON", `{"activity":{}}`, post1("b", inbox1, "k") + "\r", post1("c", "https://10.0.0.1/", "k"),
		call(anActivity, `"key_id":"none"`, anInbox), "[" + post1("d", inbox1, "k") + "]", post1("e", inbox2, "k"),
	})
	var short []string
	for _, a := range got {
		first := ""
		if faults, ok := a["errors"].([]any); ok {
			first = faults[0].(map[string]any)["location"].(string)
		}
		short = append(short, fmt.Sprint(a["status"], " ", a["activity_id"], " ", a["type"], " ", first))
	}
	want := []string{
		"202 a <nil> ", "400 <nil> about:blank body", "400 <nil> about:blank body", "422 <nil> about:blank body.activity.id",
		"202 b <nil> ", "422 <nil> /problems/no-inbox-accepted body.inboxes[0]", "422 <nil> about:blank body.key_id",
		"400 <nil> about:blank body", "202 e <nil> ",
	}
	if diff := cmp.Diff(want, short); diff != "" {
		t.Error(diff)
	}
	one := got[0]
	if one["accepted"] != 1.0 || one["url"] != "/v1/activities/"+one["id"].(string) || one["rejected"] == nil || one["duplicates"] != 0.0 {
		t.Errorf("got %v", one)
	}
	if len(g.queue.submissions) != 3 {
		t.Errorf("%d lines were stored", len(g.queue.submissions))
	}
}

func TestBadBatches(t *testing.T) {
	g, one := newRig(t), post1("a", inbox1, "k")+"\n"
	wantProblem(t, g.do("POST", "/v1/activities/batch", one), 415)
	wantProblem(t, g.batch(one, "Content-Encoding", "gzip"), 415)
	if p := wantProblem(t, g.batch(""), 422); p.Errors[0].Code != codeEmpty {
		t.Errorf("got %+v", p)
	}
	if p := wantProblem(t, g.batch(strings.Repeat(one, maxLines)+"x"), 422); p.Errors[0].Code != codeTooMany {
		t.Errorf("got %+v", p)
	}
	if p := wantProblem(t, g.batch(one, "Idempotency-Key", "a b"), 422); p.Errors[0].Location != "header.Idempotency-Key" {
		t.Errorf("got %+v", p)
	}
	wantProblem(t, g.do("GET", "/v1/activities/batch", ""), 404) // it could be an activity, and is none
	if len(g.queue.submissions) > 0 {
		t.Errorf("%d lines were stored", len(g.queue.submissions))
	}
	g.answers(t, strings.Split(strings.TrimSuffix(strings.Repeat(one, maxLines), "\n"), "\n"))
	g.wantAllRoom(t)
}

// TestEmptyLinesTakeNoRoom: a body of nothing but line ends is refused before each of them takes more than its byte.
func TestEmptyLinesTakeNoRoom(t *testing.T) {
	body := bytes.Repeat([]byte("\n"), 1<<20)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	_, err := splitLines(body)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; err == nil || took > uint64(len(body)) {
		t.Errorf("%d bytes taken, %v", took, err)
	}
}

// TestRepeatedBatch: under an Idempotency-Key each line gets its first answer again, those that failed are done now, and
// one with other bytes is refused.
func TestRepeatedBatch(t *testing.T) {
	g := newRig(t)
	lines := []string{post1("a", inbox1, "k"), post1("b", inbox2, "k"), post1("c", inbox2, "l")}
	key := []string{"Idempotency-Key", "batch-1"}
	g.queue.refuse = map[string]queue.Reason{inbox2: queue.ReasonHostBlocked}
	first := g.answers(t, lines, key...)
	g.queue.refuse = nil
	lines[2] = post1("d", inbox2, "l")
	second := g.answers(t, lines, key...)
	if first[0]["replayed"] != nil || second[0]["replayed"] != true || second[0]["id"] != first[0]["id"] {
		t.Errorf("got %v, first %v", second[0], first[0])
	}
	if first[1]["status"] != 422.0 || second[1]["status"] != 202.0 || second[2]["status"] != 202.0 {
		t.Errorf("got %v, first %v", second, first)
	}
	lines[2] = post1("e", inbox2, "l")
	if third := g.answers(t, lines, key...); third[2]["status"] != 422.0 || third[1]["replayed"] != true {
		t.Errorf("got %v", third)
	}
	if other := g.answers(t, lines, "Idempotency-Key", "batch-2"); other[2]["status"] != 202.0 || other[0]["replayed"] != nil {
		t.Errorf("got %v", other)
	}
	for range 2 {
		if without := g.answers(t, lines); without[0]["replayed"] != nil {
			t.Errorf("got %v", without)
		}
	}
}

// gate is a store in which a submission takes a second. It notes how many it holds at one time, and when each ended.
type gate struct {
	*fakeQueue
	fail map[string]error // by activity ID

	mu         sync.Mutex
	held, most int
	ended      map[string]time.Time
}

func (g *gate) Enqueue(ctx context.Context, s *queue.Submission) (queue.Receipt, error) {
	g.note(func() { g.held++; g.most = max(g.most, g.held) })
	select {
	case <-time.After(time.Second):
	case <-ctx.Done():
		return queue.Receipt{}, ctx.Err()
	}
	g.note(func() { g.held--; g.ended[s.URI] = time.Now() })
	if err := g.fail[s.URI]; err != nil {
		return queue.Receipt{}, err
	}
	return g.fakeQueue.Enqueue(ctx, s)
}

func (g *gate) note(f func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	f()
}

func newGate(t *testing.T) (*rig, *gate) {
	g := newRig(t)
	q := &gate{fakeQueue: g.queue, ended: map[string]time.Time{}}
	g.Queue = q
	return g, q
}

// TestBatchGoesTogether: lines that have no order are given to the store at one time, but not more than it is to hold.
func TestBatchGoesTogether(t *testing.T) {
	for name, tt := range map[string]struct {
		line func(i int) string
		most int
		took time.Duration
	}{
		"other keys, one inbox":    {func(i int) string { return post1(fmt.Sprint(i), inbox1, fmt.Sprint(i)) }, linesAtOnce, 4 * time.Second},
		"one key, other inboxes":   {func(i int) string { return post1("a", fmt.Sprintf("https://h%d.example/", i), "k") }, linesAtOnce, 4 * time.Second},
		"one key, one inbox":       {func(i int) string { return post1(fmt.Sprint(i), inbox1, "k") }, 1, 20 * time.Second},
		"one key, many recipients": {func(i int) string { return many(fmt.Sprint(i), 17*i) }, 1, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, q := newGate(t)
				var lines []string
				n := 20
				if tt.most > 1 {
					n = 4 * linesAtOnce
				}
				for i := range n {
					lines = append(lines, tt.line(i))
				}
				start := time.Now()
				for _, a := range g.answers(t, lines) {
					if a["status"] != 202.0 {
						t.Errorf("got %v", a)
					}
				}
				if took := time.Since(start); q.most != tt.most || took != tt.took {
					t.Errorf("at most %d at one time, want %d; took %s, want %s", q.most, tt.most, took, tt.took)
				}
			})
		})
	}
}

// many is a line with the ordering key k and 17 inboxes.
func many(id string, from int) string {
	var inboxes []string
	for i := range 17 {
		inboxes = append(inboxes, fmt.Sprintf(`"https://h%d.example/"`, from+i))
	}
	return call(fmt.Sprintf(`"activity":{"id":%q,"type":"Like"}`, id), aKey, `"inboxes":[`+strings.Join(inboxes, ",")+`]`, `"ordering_key":"k"`)
}

// TestBatchKeepsOrder: of two lines whose order matters, the later one is not given to the store before the earlier one
// was accepted.
func TestBatchKeepsOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, q := newGate(t)
		start := time.Now()
		g.answers(t, []string{
			post1("a1", inbox1, "a"), post1("b1", inbox1, "b"), post1("a2", inbox1, "a"), post1("a3", inbox2, "a"),
			post1("b2", inbox1, "b"), post1("a4", inbox1, "a"),
		})
		var got []string
		for id, at := range q.ended {
			got = append(got, fmt.Sprint(at.Sub(start), " ", id))
		}
		slices.Sort(got)
		if diff := cmp.Diff([]string{"1s a1", "1s a3", "1s b1", "2s a2", "2s b2", "3s a4"}, got); diff != "" {
			t.Error(diff)
		}
	})
}

// TestWhatIsInOrder: the order of two submissions matters within a chain, where one refers to another activity, and
// between a Delete and what it deletes.
func TestWhatIsInOrder(t *testing.T) {
	sub := func(key, refers, object string, role queue.Role, inboxes ...string) *queue.Submission {
		s := &queue.Submission{Activity: queue.Activity{OrderingKey: key, Refers: refers, Object: object, Role: role}}
		for _, inbox := range inboxes {
			s.Recipients = append(s.Recipients, queue.Recipient{Inbox: inbox})
		}
		return s
	}
	for name, tt := range map[string]struct {
		a, b *queue.Submission
		want bool
	}{
		"one chain":                        {sub("k", "", "", queue.Other, inbox1), sub("k", "", "", queue.Other, inbox2, inbox1), true},
		"one key, other inboxes":           {sub("k", "", "", queue.Other, inbox1), sub("k", "", "", queue.Other, inbox2), false},
		"other keys":                       {sub("k", "", "", queue.Other, inbox1), sub("l", "", "", queue.Other, inbox1), false},
		"a reference":                      {sub("k", "", "", queue.Other, inbox1), sub("f", "f", "", queue.Other, inbox1), true},
		"a reference to another inbox":     {sub("k", "", "", queue.Other, inbox1), sub("f", "f", "", queue.Other, inbox2), false},
		"a Delete of the object":           {sub("k", "", "o", queue.Makes, inbox1), sub("l", "", "o", queue.Deletes, inbox2), true},
		"a Delete taken back":              {sub("k", "", "o", queue.Deletes, inbox1), sub("l", "", "o", queue.Restores, inbox2), true},
		"a Delete taken back by its name":  {sub("k", "", "o", queue.Deletes, inbox1), sub("d", "d", "", queue.Restores, inbox2), true},
		"one Delete, a line an inbox":      {sub("k", "", "o", queue.Deletes, inbox1), sub("k", "", "o", queue.Deletes, inbox2), false},
		"an Update after a Create":         {sub("k", "", "o", queue.Makes, inbox1), sub("l", "", "o", queue.Other, inbox2), false},
		"activities about no known object": {sub("k", "", "", queue.Makes, inbox1), sub("l", "", "", queue.Deletes, inbox2), false},
	} {
		if inOrder(tt.a, tt.b) != tt.want || inOrder(tt.b, tt.a) != tt.want {
			t.Errorf("%s: got %t", name, !tt.want)
		}
	}
}

// TestFailedLineHoldsBackItsChain: what the store could not take is not overtaken by what has to come after it, so that
// both can be sent again; others are accepted.
func TestFailedLineHoldsBackItsChain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, q := newGate(t)
		secret := errors.New("dial tcp 10.1.2.3: hunter2")
		q.fail = map[string]error{"a1": secret, "b1": fmt.Errorf("busy: %w", queue.ErrBusy)}
		got := g.answers(t, []string{
			post1("a1", inbox1, "a"), post1("b1", inbox1, "b"), post1("a2", inbox1, "a"), post1("a3", inbox2, "a"),
			post1("c1", inbox1, "c"), post1("a4", inbox1, "a"), post1("b2", inbox1, "b"),
		})
		var statuses []any
		for _, a := range got {
			statuses = append(statuses, a["status"])
			if status := a["status"]; status != 202.0 && a["retry_after"] == nil {
				t.Errorf("no retry_after in %v", a)
			}
		}
		if diff := cmp.Diff([]any{503.0, 429.0, 503.0, 202.0, 202.0, 503.0, 429.0}, statuses); diff != "" {
			t.Error(diff)
		}
		if strings.Contains(fmt.Sprint(got), "hunter2") || !strings.Contains(g.log.String(), "hunter2") {
			t.Errorf("an error of the store is for the log only:\n%v\n%s", got, g.log)
		}
	})
}

// TestBatchOfAStoreThatHangs: each line is answered, in time.
func TestBatchOfAStoreThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, start := newRig(t), time.Now()
		g.Queue = hangingQueue{g.queue}
		var lines []string
		for i := range maxLines {
			lines = append(lines, post1(fmt.Sprint(i), inbox1, fmt.Sprint(i%100)))
		}
		for _, a := range g.answers(t, lines) {
			if a["status"] != 503.0 {
				t.Errorf("got %v", a)
			}
		}
		if took := time.Since(start); took != batchTimeout {
			t.Errorf("took %s", took)
		}
	})
}

// panicky is a store that panics.
type panicky struct{ *fakeQueue }

func (panicky) Enqueue(context.Context, *queue.Submission) (queue.Receipt, error) {
	panic("a secret of ours")
}

func TestPanicInABatch(t *testing.T) {
	g := newRig(t)
	g.Queue = panicky{g.queue}
	got := g.answers(t, []string{post1("a", inbox1, "k"), "x"})
	if got[0]["status"] != 500.0 || got[1]["status"] != 400.0 || strings.Contains(fmt.Sprint(got), "secret") || !strings.Contains(g.log.String(), "a secret of ours") {
		t.Errorf("got %v, log %s", got, g.log)
	}
}

// TestStuckClientOfABatch checks that a client that does not read its answers takes no room for its call.
func TestStuckClientOfABatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newRig(t)
		c := connect(t, g.handler)
		var body strings.Builder
		for i := range maxLines {
			body.WriteString(post1(fmt.Sprint(i), inbox1, fmt.Sprint(i)) + "\n")
		}
		send(t, c, fmt.Sprintf("POST /v1/activities/batch HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n%s", body.Len(), body.String()))
		synctest.Wait()
		g.wantAllRoom(t)
		if got := len(g.queue.submissions); got != maxLines {
			t.Errorf("%d lines were stored", got)
		}
		time.Sleep(stuckAfter + time.Second)
		wantCutOff(t, c)
	})
}

package redisq

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

// weigh returns how many bytes the keys take that activities are found by.
func weigh(t *testing.T, server *testredis.Server) (bytes int) {
	t.Helper()
	for _, name := range keysOf(t, server) {
		_, kind, _ := strings.Cut(name, "}:")
		if kind, _, _ = strings.Cut(kind, ":"); kind == "every" || kind == "older" || kind == "u" || kind == "m" || kind == "x" {
			n, err := strconv.Atoi(strings.TrimSpace(server.Must("MEMORY", "USAGE", name, "SAMPLES", "0")))
			if err != nil {
				t.Fatal(err)
			}
			bytes += n
		}
	}
	return bytes
}

// TestMemoryOfFinding measures what it costs that activities can be found, if most are of one actor.
func TestMemoryOfFinding(t *testing.T) {
	const activities = 1500
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "postrider"})
	var ids []string
	for i := range activities {
		sub := submission(strconv.Itoa(i), 10, "a.example")
		sub.Actor = "https://app.example/users/alice"
		if i%10 == 0 {
			sub.Actor = fmt.Sprintf("https://app.example/users/%d", i)
		}
		sub.KeyID = sub.Actor + "#main-key"
		sub.Idempotency = queue.Idempotency{}
		enqueue(t, s, sub)
		ids = append(ids, sub.ID)
	}
	each := weigh(t, server) / activities
	t.Logf("%d bytes for each activity that can be found", each)
	if each > 300 { // 110 of a hundred thousand; here nearly each is in a list of URIs of its own
		t.Errorf("an activity that can be found costs %d bytes", each)
	}
	for _, id := range ids {
		if _, err := s.Cancel(t.Context(), id); err != nil {
			t.Fatal(err)
		}
	}
	s.opts.Retention = time.Nanosecond // as if a day had passed
	sweepAll(t, s)
	if left := weigh(t, server); left > 0 {
		t.Errorf("%d bytes are left once all are gone", left)
	}
}

// TestFindsAllOfOneMoment checks that no page ends for good among activities that were accepted in the same script, so at the
// same time.
func TestFindsAllOfOneMoment(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	const activities = 120
	var group []*batchedCall
	for i := range activities {
		in, err := s.newIntake(t.Context(), submission(strconv.Itoa(i), 10, "a.example"))
		if err != nil {
			t.Fatal(err)
		}
		to := in.lanes()
		c := in.batchedCall(to, "")
		c.done = make(chan struct{})
		group = append(group, c)
	}
	s.parts[0].enqueues.together(group)
	for name, f := range map[string]queue.ActivityFilter{
		"all": {}, "of a key": {KeyID: "https://app.example/users/alice#main-key"}, "pending": {State: queue.ActivityPending},
	} {
		found := map[string]bool{}
		for p := (queue.Page{Limit: 7}); ; {
			list, err := s.Activities(t.Context(), f, p)
			if err != nil {
				t.Fatal(err)
			}
			for _, a := range list.Items {
				found[a.URI] = true
			}
			if p.Cursor = list.Next; p.Cursor == "" {
				break
			}
		}
		if len(found) != activities {
			t.Errorf("%s: %d activities are found, want %d", name, len(found), activities)
		}
	}
}

// TestSearchAmongMoved checks that a page costs the same however many activities were moved to a store that had others, in whatever
// order these came.
func TestSearchAmongMoved(t *testing.T) {
	counted := map[string][]int{}
	for _, n := range []int{150, 1500} {
		server := testredis.Start(t)
		s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 2, NoWakes: true})
		enqueue(t, s, submission("before", 10, "a.example"))
		now := time.Now()
		var records []queue.Record
		for i := range n {
			a := submission(strconv.Itoa(i), 10).Activity
			a.Actor = fmt.Sprint("https://app.example/users/", i%3)
			a.KeyID = a.Actor + "#main-key"
			a.CreatedAt = now.Add(-time.Hour - time.Duration(i*7919%n)*time.Second)
			records = append(records, queue.Record{Activity: &queue.MovedActivity{Activity: a, Delivered: 1}})
		}
		if stored, err := s.Import(t.Context(), records); stored != n || err != nil {
			t.Fatal(stored, err)
		}
		enqueue(t, s, submission("after", 10, "a.example"))
		for name, f := range map[string]queue.ActivityFilter{
			"all": {}, "since": {Since: now.Add(-30 * time.Minute)}, "since the moved": {Since: now.Add(-time.Hour - 5*time.Second)},
			"actor": {Actor: "https://app.example/users/1"}, "key": {KeyID: "https://app.example/users/2#main-key"},
		} {
			before := commands(t, server)
			if _, err := s.Activities(t.Context(), f, queue.Page{Limit: 10}); err != nil {
				t.Fatal(err)
			}
			counted[name] = append(counted[name], commands(t, server)-before-1)
		}
	}
	for name, n := range counted {
		if n[0] > 40 || n[1] > 40 { // it depends on how they are spread over the partitions
			t.Errorf("%s: a page takes %d commands of 150 activities, and %d of 1,500", name, n[0], n[1])
		}
		t.Logf("%s: %d and %d commands", name, n[0], n[1])
	}
}

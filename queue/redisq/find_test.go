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
		if kind, _, _ = strings.Cut(kind, ":"); kind == "every" || kind == "u" || kind == "m" || kind == "x" {
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

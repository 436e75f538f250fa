package redisq

import (
	"crypto/sha256"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// submission is an activity of some size to the shared inbox of each host.
func submission(uri string, size int, hosts ...string) *queue.Submission {
	id := uuid.Must(uuid.NewV7())
	s := &queue.Submission{
		Activity: queue.Activity{
			ID: id.String(), URI: "https://app.example/users/alice/statuses/" + uri, Type: "Create",
			KeyID: "https://app.example/users/alice#main-key", OrderingKey: uri, Priority: queue.Normal,
			Body: fmt.Appendf(nil, "%-*s", size, uri),
		},
		TTL:         72 * time.Hour,
		Idempotency: queue.Idempotency{Key: sha256.Sum256(id[:])},
	}
	for _, host := range hosts {
		s.Recipients = append(s.Recipients, queue.Recipient{Inbox: "https://" + host + "/inbox", Host: host})
	}
	return s
}

func manyHosts(n int) []string {
	hosts := make([]string, n)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("social%05d.example", i)
	}
	return hosts
}

// enqueue returns when all is in the lanes.
func enqueue(t testing.TB, s *Store, sub *queue.Submission) {
	t.Helper()
	defer s.releases.Wait()
	if r, err := s.Enqueue(t.Context(), sub); err != nil || r.Accepted != len(sub.Recipients) {
		t.Fatalf("Enqueue accepted %d of %d, %v", r.Accepted, len(sub.Recipients), err)
	}
}

// used is how many bytes Redis uses.
func used(t testing.TB, server *testredis.Server) int {
	t.Helper()
	for line := range strings.Lines(server.Must("INFO", "memory")) {
		if text, ok := strings.CutPrefix(strings.TrimSpace(line), "used_memory_dataset:"); ok {
			n, err := strconv.Atoi(text)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatal("INFO memory tells nothing of the memory used")
	return 0
}

// held is how many bytes the keys of the queue take, but for the feed: no more and no less, whatever else Redis has in memory.
func held(t testing.TB, server *testredis.Server) int {
	t.Helper()
	n, err := strconv.Atoi(server.Must("EVAL", `local n = 0
		for _, key in ipairs(redis.call('KEYS', '*')) do
			if not string.find(key, '}:feed$') then n = n + redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) end
		end
		return n`, "0"))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestMemoryOfLabels measures what it costs that an app names the actors behind inboxes, and gives metadata.
func TestMemoryOfLabels(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p"})
	hosts := manyHosts(2000)
	calls := 0
	cost := func(change func(*queue.Submission)) (list, about int) {
		calls++
		sub := submission(strconv.Itoa(calls), 10, hosts...)
		change(sub)
		enqueue(t, s, sub)
		for kind, n := range map[rediskeys.Kind]*int{rediskeys.Recipients: &list, rediskeys.Activity: &about} {
			text := server.Must("EVAL", "return redis.call('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', 0)", "1", s.parts[0].Of(kind, sub.ID))
			var err error
			if *n, err = strconv.Atoi(text); err != nil {
				t.Fatal(err)
			}
		}
		return list, about
	}
	list, about := cost(func(*queue.Submission) {})
	longer, larger := cost(func(sub *queue.Submission) {
		sub.Actor, sub.Metadata = "https://app.example/users/alice", []byte(`{"status":12345678901234567890123456789}`)
		for i := range sub.Recipients {
			r := &sub.Recipients[i]
			r.IDs = []string{fmt.Sprintf("https://%s/users/user%04d", r.Host, i)}
		}
	})
	each := (longer - list) / len(hosts)
	t.Logf("%d bytes more for each delivery with an ID of 15 characters behind its host", each)
	t.Logf("%d bytes more for an activity with an actor and metadata of 40 bytes", larger-about)
	if each > 25 || larger-about > 150 {
		t.Error("that is too much")
	}
}

// TestMemory measures what a pending delivery costs, all that is stored because of it included.
func TestMemory(t *testing.T) {
	alone := cost(t, 1000, 1) // nearly all of it is the activity's: body, description, claim
	t.Logf("%d bytes for an activity to one host", alone)
	if alone > 6000 {
		t.Errorf("an activity costs %d bytes", alone)
	}
	wide := cost(t, 1, 2000) / 2000
	t.Logf("%d bytes for each delivery of an activity to 2,000 hosts", wide)
	if wide > 400 {
		t.Errorf("a delivery of a large fan-out costs %d bytes, want at most 400", wide)
	}
	deep := (cost(t, 1000, 50) - alone) / 49
	t.Logf("%d bytes for each delivery in lanes 1,000 deep, besides its activity", deep)
	if deep > 150 {
		t.Errorf("a delivery in a deep lane costs %d bytes, want at most 150", deep)
	}
}

// TestMemoryOfFailing measures what a pending delivery costs to a host that failed: its record and its last attempts too.
func TestMemoryOfFailing(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "postrider"})
	hosts := manyHosts(1000)
	try := func(hosts []string, r queue.Result, record *queue.HostRecord) {
		t.Helper()
		for _, host := range hosts {
			turns, err := s.Take(t.Context(), []lockmgr.Lease{{Host: host, Token: 1, TTL: time.Minute}}, 1)
			if err != nil {
				t.Fatal(err)
			}
			r.ID = turns[0].Deliveries[0].ID
			if _, err := s.Settle(t.Context(), turns[0].Lease, queue.Settlement{Results: []queue.Result{r}, Host: record, Release: true}, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	enqueue(t, s, submission("warm-up", 10, manyHosts(3000)[2000:]...)) // so that scripts are there
	try(manyHosts(2100)[2000:], queue.Result{}, &queue.HostRecord{})
	before := held(t, server)
	enqueue(t, s, submission("1", 2600, hosts...))
	for attempt := 1; attempt <= 5; attempt++ {
		failure := &queue.LastAttempt{
			At: time.Now(), Outcome: "unreachable", Error: "dial tcp 192.0.2.17:443: connect: connection refused", Duration: 1234567,
		}
		record := &queue.HostRecord{Breaker: breaker.Record{Failures: 1, Days: []int32{20780}, Failed: true}, LastError: failure}
		try(hosts, queue.Result{Verdict: queue.Retry, Spent: true, HostFailed: true, Attempt: failure}, record)
		each := (held(t, server) - before) / len(hosts)
		t.Logf("%d bytes for each delivery to a host that failed %d times", each, attempt)
		if each > 440+20*(attempt-1) {
			t.Errorf("a delivery to a host that failed %d times costs %d bytes", attempt, each)
		}
	}
	if encoding := server.Must("OBJECT", "ENCODING", "postrider:{p0}:h:"+hosts[0]); encoding != "listpack" {
		t.Errorf("a lane of one delivery is a %s, want a listpack", encoding)
	}
}

// cost is how many bytes an activity takes that goes to so many hosts.
func cost(t *testing.T, activities, hosts int) int {
	t.Helper()
	const body = 2600
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "postrider"})
	other := openStore(t, Options{URL: server.URL(), Prefix: "other"}) // so that scripts are there
	for _, n := range []int{1, laneChunk + 1} {
		enqueue(t, other, submission(strconv.Itoa(n), body, manyHosts(n)...))
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	before := used(t, server)
	for i := range activities {
		enqueue(t, s, submission(strconv.Itoa(i), body, manyHosts(hosts)...))
	}
	return (used(t, server) - before) / activities
}

// work takes and settles all there is in the lanes, each delivery as verdict says.
func work(t testing.TB, s *Store, token uint64, hosts []string, verdict func(n int) queue.Result) {
	t.Helper()
	leases := make([]lockmgr.Lease, len(hosts))
	for i, host := range hosts {
		leases[i] = lockmgr.Lease{Host: host, Token: token, TTL: time.Minute}
	}
	n := 0
	for {
		turns, err := s.Take(t.Context(), leases, 50)
		if err != nil {
			t.Fatal(err)
		}
		idle := true
		for _, turn := range turns {
			st := queue.Settlement{Release: true}
			for _, d := range turn.Deliveries {
				r := verdict(n)
				r.ID = d.ID
				st.Results = append(st.Results, r)
				n++
			}
			idle = idle && len(turn.Deliveries) == 0
			if _, err := s.Settle(t.Context(), turn.Lease, st, 0); err != nil {
				t.Fatal(err)
			}
		}
		if idle {
			return
		}
	}
}

// TestLeavesNothingBehind checks that of work that ended only hosts and totals are left once its retention is over.
func TestLeavesNothingBehind(t *testing.T) {
	for _, partitions := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d partitions", partitions), func(t *testing.T) {
			server := testredis.Start(t)
			o := Options{URL: server.URL(), Prefix: "p", Partitions: partitions, Limits: queue.Limits{DeadRetention: time.Millisecond}}
			s := openStore(t, o)
			hosts := manyHosts(20)
			for i := range 60 {
				sub := submission(strconv.Itoa(i), 100, hosts...)
				sub.OrderingKey, sub.Priority = strconv.Itoa(i%50), queue.Priority(i%queue.Priorities)
				enqueue(t, s, sub)
				if i%10 == 0 {
					if _, err := s.Cancel(t.Context(), sub.ID); err != nil {
						t.Fatal(err)
					}
				}
			}
			expiring := submission("expiring", 100, hosts...)
			expiring.TTL, expiring.OrderingKey = time.Millisecond, "0"
			enqueue(t, s, expiring)
			last := &queue.LastAttempt{At: time.Now(), Outcome: "gone", Status: 410}
			work(t, s, 1, hosts, func(n int) queue.Result {
				switch n % 3 {
				case 0:
					return queue.Result{Verdict: queue.Dead, Reason: queue.ReasonGone, Attempt: last}
				case 1:
					return queue.Result{Verdict: queue.Delivered, Spent: true}
				default:
					return queue.Result{Verdict: queue.Retry, Spent: true, Attempt: last}
				}
			})
			buryAndRetry(t, s, hosts)
			s.reporting.Wait()                 // homes know what has ended
			s.opts.Retention = time.Nanosecond // as if a day had passed
			for range 3 {                      // once for letters, then for parts that waited for other parts
				sweepAll(t, s)
			}
			st, err := s.Stats(t.Context())
			if err != nil || st.Activities != 0 || st.Pending != 0 || st.Dead != 0 {
				t.Errorf("stats are %+v, %v", st, err)
			}
			leftOver(t, server, hosts)
		})
	}
}

// buryAndRetry has what is pending die and come back, to be cancelled or to expire.
func buryAndRetry(t *testing.T, s *Store, hosts []string) {
	t.Helper()
	sub := submission("again", 100, hosts...)
	enqueue(t, s, sub)
	for _, action := range []queue.HostAction{queue.Block, queue.Unblock} {
		for _, host := range hosts {
			if _, err := s.Act(t.Context(), host, action, queue.Order{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	count, err := s.RetryDead(t.Context(), queue.DeadLetterChoice{}, time.Millisecond)
	if err != nil || count.Done == 0 || count.Done != count.Matched {
		t.Fatalf("RetryDead gave %+v, %v", count, err)
	}
	if _, err := s.Cancel(t.Context(), sub.ID); err != nil {
		t.Fatal(err)
	}
	deletion := submission("deletion", 100, hosts...)
	deletion.OrderingKey, deletion.Role = "0", queue.Deletes
	deletion.Object = "0"
	enqueue(t, s, deletion)
	work(t, s, 2, hosts, func(int) queue.Result { return queue.Result{} })
}

// sweepAll sweeps as long as there is more to do.
func sweepAll(t testing.TB, s *Store) {
	t.Helper()
	for range 1000 {
		if next, err := s.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		} else if next > 0 {
			return
		}
	}
	t.Fatal("Sweep found more to do a thousand times")
}

// leftOver checks that there is no key but those of each host, those that every partition has, and claims that last for
// a day.
func leftOver(t *testing.T, server *testredis.Server, hosts []string) {
	t.Helper()
	lanes, claims := 0, 0
	for _, key := range keysOf(t, server) {
		_, rest, _ := strings.Cut(key, "}:")
		switch kind, name, _ := strings.Cut(rest, ":"); {
		case kind == "h" && strings.HasPrefix(name, "social"):
			lanes++
		case kind == "claim":
			claims++
		case rest == "meta", rest == "stats", rest == "feed", rest == "offered", rest == "hosts", rest == "hostpages":
		default:
			t.Errorf("%s is left", key)
		}
	}
	if lanes != len(hosts) || claims != 63 {
		t.Errorf("%d hosts and %d claims are known, want %d and 63", lanes, claims, len(hosts))
	}
}

// keysOf returns all keys.
func keysOf(t testing.TB, server *testredis.Server) []string {
	t.Helper()
	text := server.Must("EVAL", "return table.concat(redis.call('KEYS', '*'), '\\n')", "0")
	return strings.Split(text, "\n")
}

// TestHealthyHostCost logs what a host costs of which something was learnt and nothing is pending.
func TestHealthyHostCost(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "postrider"})
	hosts := manyHosts(2000)
	before := used(t, server)
	sub := submission("1", 10, hosts...)
	enqueue(t, s, sub)
	for _, host := range hosts {
		l := lockmgr.Lease{Host: host, Token: 1, TTL: time.Minute}
		record := queue.HostRecord{Breaker: breaker.Record{LastSuccess: time.Now().UTC(), Window: 8}, Scheme: "cavage"}
		if _, err := s.Take(t.Context(), []lockmgr.Lease{l}, 1); err != nil {
			t.Fatal(err)
		}
		st := queue.Settlement{Results: []queue.Result{{ID: sub.ID + ".0"}}, Host: &record, Release: true}
		if _, err := s.Settle(t.Context(), l, st, 0); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Cancel(t.Context(), sub.ID); err != nil {
		t.Fatal(err)
	}
	each := (used(t, server) - before) / len(hosts)
	t.Logf("%d bytes for each host", each)
	if each > 350 {
		t.Errorf("a host costs %d bytes", each)
	}
}

// TestMemoryOfFeed measures what entries of the feed cost.
func TestMemoryOfFeed(t *testing.T) {
	const entries = 1000
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Limits: queue.Limits{Feed: queue.FeedLimits{Delivered: true}}})
	hosts := manyHosts(entries)
	feed := func() int {
		n, err := strconv.Atoi(server.Must("EVAL", "return redis.call('MEMORY', 'USAGE', KEYS[1], 'SAMPLES', 0) or 0", "1", "p:{p0}:feed"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	attempt := &queue.LastAttempt{At: time.Now(), Status: 410, Outcome: "gone", Error: "Gone", Duration: 1234567}
	for _, kind := range []struct {
		name string
		most int
		do   func()
	}{
		{"orders: the action and the host's new state", 290, func() {
			for _, host := range hosts {
				if err := s.act(t.Context(), host, queue.Pause, queue.Order{}); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"activities that are done", 130, func() {
			for i, host := range hosts {
				sub := submission(strconv.Itoa(i), 10, host)
				enqueue(t, s, sub)
				if _, err := s.cancelAll(t.Context(), uuid.MustParse(sub.ID)); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"ends of orders: likewise", 190, func() {
			for _, host := range hosts {
				if err := s.act(t.Context(), host, queue.Resume, queue.Order{}); err != nil {
					t.Fatal(err)
				}
			}
		}},
		{"dead letters", 220, func() {
			enqueue(t, s, submission("dead", 10, hosts...))
			work(t, s, 1, hosts, func(int) queue.Result {
				return queue.Result{Verdict: queue.Dead, Reason: queue.ReasonGone, Attempt: attempt}
			})
		}},
		{"what was delivered", 200, func() {
			enqueue(t, s, submission("delivered", 10, hosts...))
			work(t, s, 2, hosts, func(int) queue.Result { return queue.Result{Attempt: attempt} })
		}},
	} {
		before := feed()
		kind.do()
		each := (feed() - before) / entries
		t.Logf("%d bytes for each entry of %s", each, kind.name)
		if each > kind.most {
			t.Errorf("an entry of %s costs %d bytes, want at most %d", kind.name, each, kind.most)
		}
	}
}

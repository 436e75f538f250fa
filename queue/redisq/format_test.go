package redisq

import (
	"bufio"
	"cmp"
	goflag "flag"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

var updateFormat = goflag.Bool("update", false, "write the golden file of the store's format")

const formatFile = "testdata/store.txt"

// TestFormat checks that a store in the format of the golden file is read, retried, cancelled and delivered in its order.
// Where that can't be so after a release, the number in format changes too.
func TestFormat(t *testing.T) {
	if *updateFormat {
		writeFormat(t)
	}
	server := testredis.Start(t)
	loadFormat(t, server)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p"})
	checkExport(t, s)
	var kinds []queue.EventKind
	for _, e := range feedOf(t, s, "") {
		kinds = append(kinds, e.Kind)
	}
	fed := []queue.EventKind{queue.EventHostState, queue.EventDead, queue.EventActivityDone, queue.EventHostState, queue.EventActivityDone}
	if diff := gocmp.Diff(fed, kinds); diff != "" {
		t.Errorf("the feed (-want +got):\n%s", diff)
	}
	if h, err := s.Host(t.Context(), "failing.example"); err != nil || h.Record.Scheme != "cavage" || h.Record.LastError == nil {
		t.Errorf("the host that failed is %+v, %v", h, err)
	}
	if h, err := s.Host(t.Context(), "blocked.example"); err != nil || h.State != queue.HostBlocked {
		t.Errorf("the blocked host is %+v, %v", h, err)
	}
	count, err := s.RetryDead(t.Context(), queue.DeadLetterChoice{}, time.Hour)
	if want := (queue.DeadLetterCount{Matched: 1, Done: 1}); err != nil || count != want {
		t.Errorf("RetryDead gave %+v, %v", count, err)
	}
	order := slices.DeleteFunc(inOrder(t, s, "failing.example"), func(uri string) bool { return strings.HasPrefix(uri, "n") })
	if diff := gocmp.Diff([]string{"dead", "first", "second"}, order); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
	if got := inOrder(t, s, "superseded.example"); len(got) > 0 {
		t.Errorf("%v is given, which was deleted", got)
	}
	if _, err := s.PutKey(t.Context(), queue.Key{ID: "missing"}); err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff([]string{"keyless"}, inOrder(t, s, "keyless.example")); diff != "" {
		t.Errorf("once its key is there (-want +got):\n%s", diff)
	}
	if n := pending(t, s); n != 0 {
		t.Errorf("%d deliveries are pending, want none", n)
	}
}

// checkExport checks what Export gives of the golden file.
func checkExport(t *testing.T, s *Store) {
	t.Helper()
	kinds := map[string]int{}
	err := s.Export(t.Context(), func(r queue.Record) error {
		switch {
		case r.Key != nil:
			kinds["key "+string(r.Key.Sealed)]++
		case r.Host != nil:
			kinds["hosts"]++
		case r.Tombstone != nil:
			kinds["tombstone of "+r.Tombstone.Object]++
		case r.Receipt != nil:
			kinds["receipts"]++
		case len(r.Activity.Deliveries) == 0 || string(r.Activity.Body) == "body of "+r.Activity.URI:
			kinds["activities"]++
			kinds["finished"] += 1 - min(1, len(r.Activity.Deliveries))
			kinds["metadata "+string(r.Activity.Metadata)]++
			kinds["actor "+r.Activity.Actor]++
			kinds["traces"] += min(1, len(r.Activity.Trace))
			for _, d := range r.Activity.Deliveries {
				kinds[cmp.Or(string(d.Reason), "pending")]++
				kinds["attempts"] += d.Attempts
				kinds["headers"] += len(d.Headers)
				kinds["IDs"] += len(d.IDs)
				kinds["attempts kept"] += len(d.History)
			}
		}
		return nil
	})
	want := map[string]int{
		"key sealed": 1, "hosts": 5, "tombstone of the note": 1, "receipts": 23, "activities": 24, "finished": 1,
		"pending": 22, "gone": 1, "attempts": 3, "attempts kept": 4, "headers": 1, "IDs": 2, "metadata ": 23, `metadata {"n":1}`: 1,
		"actor ": 23, "actor https://app.example/users/alice": 1, "traces": 1,
	}
	if diff := gocmp.Diff(want, kinds); diff != "" || err != nil {
		t.Errorf("Export: %v (-want +got):\n%s", err, diff)
	}
}

const forever = 100 * 365 * 24 * time.Hour

// fillFormat gives a store something of everything that it keeps.
func fillFormat(t *testing.T, s *Store) {
	t.Helper()
	put := func(uri, host string, change func(sub *queue.Submission)) {
		sub := submission(uri, 0, host)
		sub.TTL = forever
		sub.Body = []byte("body of " + sub.URI)
		change(sub)
		enqueue(t, s, sub)
	}
	settle := func(host string, result queue.Result, st queue.Settlement) {
		lease := lockmgr.Lease{Host: host, Token: 1, TTL: time.Minute}
		turns, err := s.Take(t.Context(), []lockmgr.Lease{lease}, 1)
		if err != nil || len(turns) != 1 || len(turns[0].Deliveries) != 1 {
			t.Fatal(turns, err)
		}
		result.ID, result.Attempt = turns[0].Deliveries[0].ID, &refused
		st.Results, st.Release = []queue.Result{result}, true
		if _, err := s.Settle(t.Context(), lease, st, 0); err != nil {
			t.Fatal(err)
		}
	}
	plain := func(*queue.Submission) {}
	chain := func(sub *queue.Submission) { sub.OrderingKey = "thread" }
	if _, err := s.PutKey(t.Context(), queue.Key{ID: "key", Sealed: []byte("sealed"), WhenIdle: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Act(t.Context(), "blocked.example", queue.Block, queue.Order{}); err != nil {
		t.Fatal(err)
	}
	put("dead", "failing.example", chain)
	settle("failing.example", queue.Result{Verdict: queue.Dead, Reason: queue.ReasonGone, Spent: true}, queue.Settlement{})
	put("first", "failing.example", func(sub *queue.Submission) {
		chain(sub)
		sub.Recipients[0].Headers = []queue.Header{{Name: "X-First", Value: "yes"}}
		sub.Recipients[0].IDs = []string{"https://failing.example/users/ann", "https://other.example/bob"}
		sub.Actor, sub.Metadata = "https://app.example/users/alice", []byte(`{"n":1}`)
		sub.Trace = []byte("\x00trace\xff")
	})
	failing := queue.HostRecord{Breaker: breaker.Record{Failures: 1, Failed: true}, Scheme: "cavage", LastError: &refused}
	for range 2 {
		settle("failing.example", queue.Result{Verdict: queue.Retry, Spent: true, HostFailed: true}, queue.Settlement{Host: &failing})
	}
	for i := range 18 { // more than are in the window
		put("n"+strconv.Itoa(i), "failing.example", plain)
	}
	put("second", "failing.example", chain)
	old := submission("superseded", 0, "superseded.example") // for longer than queue.SupersededAfter
	old.Body, old.Role = []byte("body of "+old.URI), queue.Makes
	old.Object = "the note"
	old.CreatedAt = time.Now().Add(-time.Hour)
	moved := &queue.MovedActivity{Activity: old.Activity, Deliveries: []queue.MovedDelivery{{Recipient: old.Recipients[0], TTL: forever}}}
	if n, err := s.Import(t.Context(), []queue.Record{{Activity: moved}}); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	put("delete", "fine.example", func(sub *queue.Submission) { sub.Role, sub.Object = queue.Deletes, "the note" })
	settle("fine.example", queue.Result{Verdict: queue.Delivered, Spent: true}, queue.Settlement{})
	put("keyless", "keyless.example", func(sub *queue.Submission) { sub.KeyID = "missing" })
	settle("keyless.example", queue.Result{Verdict: queue.Defer, WaitKey: true}, queue.Settlement{})
}

// writeFormat writes the golden file: the commands that make a store again, each in a line, as quoted words.
func writeFormat(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p"})
	fillFormat(t, s)
	var lines []string
	for _, key := range slices.Sorted(slices.Values(keysOf(t, server))) {
		for _, words := range commandsOf(t, s.client, key, server.Must("TYPE", key)) {
			for i, word := range words {
				words[i] = strconv.QuoteToASCII(word)
			}
			lines = append(lines, strings.Join(words, " ")+"\n")
		}
	}
	if err := os.WriteFile(formatFile, []byte(strings.Join(lines, "")), 0o600); err != nil {
		t.Fatal(err)
	}
}

// commandsOf returns the commands that make a key again: one, but for a stream one for each entry.
func commandsOf(t *testing.T, client rueidis.Client, key, kind string) (commands [][]string) {
	t.Helper()
	if kind != "stream" {
		return [][]string{commandOf(t, client, key, kind)}
	}
	entries, err := client.Do(t.Context(), client.B().Xrange().Key(key).Start("-").End("+").Build()).AsXRange()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		commands = append(commands, []string{"XADD", key, e.ID, "e", e.FieldValues["e"]})
	}
	return commands
}

func commandOf(t *testing.T, client rueidis.Client, key, kind string) []string {
	t.Helper()
	read := map[string][]string{
		"hash": {"HGETALL", key}, "list": {"LRANGE", key, "0", "-1"}, "zset": {"ZRANGE", key, "0", "-1", "WITHSCORES"}, "string": {"GET", key},
	}[kind]
	m, err := client.Do(t.Context(), client.B().Arbitrary(read...).Build()).ToMessage()
	if err != nil {
		t.Fatal(key, kind, err)
	}
	switch kind {
	case "hash":
		words := []string{"HSET", key}
		all, err := m.AsStrMap()
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range slices.Sorted(maps.Keys(all)) {
			words = append(words, field, all[field])
		}
		return words
	case "zset":
		words := []string{"ZADD", key}
		all, err := m.AsZScores()
		if err != nil {
			t.Fatal(err)
		}
		for _, z := range all {
			words = append(words, strconv.FormatFloat(z.Score, 'f', -1, 64), z.Member)
		}
		return words
	case "list":
		all, err := m.AsStrSlice()
		if err != nil {
			t.Fatal(err)
		}
		return append([]string{"RPUSH", key}, all...)
	}
	text, err := m.ToString()
	if err != nil {
		t.Fatal(err)
	}
	return []string{"SET", key, text}
}

// loadFormat fills a server with the golden file. Claims last for a while, as they did.
func loadFormat(t *testing.T, server *testredis.Server) {
	t.Helper()
	f, err := os.Open(formatFile)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var command []string
		for rest := lines.Text(); rest != ""; {
			quoted, err := strconv.QuotedPrefix(rest)
			if err != nil {
				t.Fatal(err)
			}
			word, err := strconv.Unquote(quoted)
			if err != nil {
				t.Fatal(err)
			}
			command, rest = append(command, word), strings.TrimPrefix(rest[len(quoted):], " ")
		}
		server.Must(command...)
		if strings.Contains(command[1], ":claim:") {
			server.Must("EXPIRE", command[1], "3600")
		}
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
}

// TestRefusesAnotherFormat checks that a node does not touch a store whose format it doesn't know.
func TestRefusesAnotherFormat(t *testing.T) {
	server := testredis.Start(t)
	server.Must("HSET", "p:{p0}:meta", "partitions", "1", "format", "99")
	if _, err := Open(t.Context(), Options{URL: server.URL(), Prefix: "p"}); err == nil || !strings.Contains(err.Error(), "format 99") {
		t.Errorf("opened a store of format 99: %v", err)
	}
}

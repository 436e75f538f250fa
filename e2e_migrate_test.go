package main

import (
	"fmt"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/internal/testredis"
)

// otherMasterKey is a master key that is nobody's yet.
var otherMasterKey = strings.Repeat("B", 43) + "="

// migrateOnce runs a migration, which must end with the code, and say what is wanted.
func migrateOnce(t *testing.T, code int, says string, args ...string) (output string) {
	t.Helper()
	got, stdout, stderr := runOnce(t, nil, append([]string{"migrate"}, args...)...)
	if got != code || !strings.Contains(stdout+stderr, says) {
		t.Fatalf("migrate %v ended with %d, want %d and %q:\n%s%s", args, got, code, says, stdout, stderr)
	}
	return stdout + stderr
}

// startAt starts a node on a store that has its key already.
func startAt(t *testing.T, args ...string) *testNode {
	t.Helper()
	n := newTestNode(t, false, args)
	n.start()
	return n
}

// TestMigrate moves what a node has from one store to the next, on and on, while it is stopped: nothing is lost, nothing
// is sent twice, and whoever asks gets the answers that the first node gave.
func TestMigrate(t *testing.T) {
	t.Parallel()
	var healed atomic.Bool
	h := startHosts(t, 3, func(i int) testinbox.Options {
		return scripted(func(testinbox.Request) testinbox.Reply {
			switch {
			case i == 0 && !healed.Load():
				return testinbox.Reply{Status: http.StatusFound}
			case i == 2:
				return testinbox.Reply{Status: http.StatusGone}
			}
			return testinbox.Reply{}
		})
	})
	server := testredis.Start(t)
	node := startNode(t)
	folder, sealed := "embedded:"+node.dir, "@"+filepath.Join(node.dir, "master.key")
	var all []acceptedView
	for _, s := range chains()["Create, Update, Delete"] {
		all = append(all, node.deliver(s.activity, h.Inbox(0, "/inbox")))
	}
	call := submission{activity: like("once"), inboxes: h.urls(), more: `,"recipients":[{"inbox":"http://10.0.0.1/"}]`}.String()
	first := node.call(http.MethodPost, "/v1/activities", call, "Idempotency-Key", "once")
	mixed := read[acceptedView](node, http.StatusAccepted, first)
	eventually(t, "one is delivered, one dead, and one was tried", func() bool {
		c := node.activity(mixed).Counts
		return c.Delivered == 1 && c.Dead == 1 && attempted(node, all[0]) > 0
	})
	letters := node.deadLetters("")
	migrateOnce(t, 1, "in use", "--store", folder, "--to", server.URL())
	node.stop()
	outputs := migrateOnce(t, 0, "moved ", "--store", folder, "--to", server.URL())
	checkMoved(t, node, outputs, server.URL())

	onRedis := startAt(t, "--store", server.URL(), "--master-key", sealed)
	if a := onRedis.call(http.MethodPost, "/v1/activities", call, "Idempotency-Key", "once"); a.body != first.body {
		t.Errorf("answered %d %s, first %s", a.status, a.body, first.body)
	}
	if got := onRedis.deadLetters(""); len(got) != 1 || got[0].ActivityID != letters[0].ActivityID || !got[0].DiedAt.Equal(letters[0].DiedAt) {
		t.Errorf("dead letters %+v, before %+v", got, letters)
	}
	last := filepath.Join(t.TempDir(), "last")
	outputs += moveOn(t, server, onRedis, sealed, last)
	scan(t, "the output", []byte(outputs), keySecrets())

	healed.Store(true)
	end := startAt(t, "--store", "embedded:"+last, "--master-key", otherMasterKey)
	for _, a := range all {
		if got := end.settled(a); got.Delivered != 1 {
			t.Errorf("counts %+v", got)
		}
	}
	if got := end.settled(mixed); got != (countsView{Total: 3, Delivered: 2, Dead: 1}) {
		t.Errorf("counts %+v", got)
	}
	checkArrived(t, h)
}

// checkMoved checks what the first migration said, and that nobody works on the old store any more.
func checkMoved(t *testing.T, node *testNode, output, to string) {
	t.Helper()
	if counted := regexp.MustCompile(`\s+`).ReplaceAllString(output, " "); !strings.Contains(counted,
		"keys 1 hosts 3 activities 4 deliveries pending 4 dead letters 1 receipts 4 ") {
		t.Errorf("it says:\n%s", output)
	}
	folder := "embedded:" + node.dir
	if code, _, said := runOnce(t, nil, "serve", "--store", folder, "--listen", "127.0.0.1:0"); code != 1 ||
		!strings.Contains(said, "was moved to redis://") || !strings.Contains(said, "rm "+node.dir) {
		t.Errorf("a node on what was moved ended with %d: %s", code, said)
	}
	migrateOnce(t, 1, "was moved to", "--store", folder, "--to", to)
}

// moveOn moves the store of a node on Redis to more partitions, under another master key, and from there to a folder. It
// returns what was said.
func moveOn(t *testing.T, server *testredis.Server, node *testNode, sealed, folder string) (outputs string) {
	t.Helper()
	next := []string{"--store", server.URL(), "--master-key", sealed, "--to", server.URL(), "--to-redis-prefix", "second",
		"--to-redis-partitions", "4", "--to-master-key", otherMasterKey}
	migrateOnce(t, 1, "in use", next...)
	node.stop()
	outputs = migrateOnce(t, 0, "moved ", next...)
	stored := ""
	for p := range 4 {
		stored += server.Must("EVAL", "return table.concat(redis.call('HVALS', KEYS[1]))", "1", fmt.Sprintf("second:{p%d}:keys", p))
	}
	if !strings.Contains(stored, keyID) {
		t.Errorf("the key is stored as %q", stored)
	}
	scan(t, "Redis", []byte(stored), keySecrets())
	outputs += migrateOnce(t, 0, "moved ", "--store", server.URL(), "--redis-prefix", "second", "--redis-partitions", "4",
		"--master-key", otherMasterKey, "--to", "embedded:"+folder)
	scanFolder(t, folder, keySecrets())
	return outputs
}

// checkArrived checks what the hosts of TestMigrate took, in which order.
func checkArrived(t *testing.T, h *hosts) {
	t.Helper()
	for i, want := range [][]string{{"1", "2", "3"}, {"once"}, {"once"}} {
		var got []string
		for _, r := range h.inboxes[i].Received() {
			if id := lastPart(r.ActivityID); id != "once" || i > 0 {
				got = append(got, id)
			}
		}
		if got = slices.Compact(got); !slices.Equal(got, want) {
			t.Errorf("host %d got %v, want %v", i, got, want)
		}
	}
	if got := requestsOf(h.inboxes[1], "once"); got != 1 {
		t.Errorf("what was delivered was sent %d times", got)
	}
}

// TestMigrateCutShort fills a Redis until it has no more room, and goes on once it has.
func TestMigrateCutShort(t *testing.T) {
	t.Parallel()
	const activities = 100
	h := startHost(t, scripted(func(testinbox.Request) testinbox.Reply { return testinbox.Reply{Status: http.StatusFound} }))
	server := testredis.Start(t)
	node := startNode(t, "--retry-base", "1h")
	for i := range activities {
		activity := fmt.Sprintf(`{"id":"https://app.example/%d","type":"Like","content":%q}`, i, strings.Repeat("x", 20_000))
		node.deliver(activity, h.Inbox(0, "/inbox"))
	}
	node.stop()
	startAt(t, "--store", server.URL(), "--redis-prefix", "other", "--master-key", otherMasterKey).stop() // so that scripts are there
	used, err := strconv.Atoi(regexp.MustCompile(`used_memory:(\d+)`).FindStringSubmatch(server.Must("INFO", "memory"))[1])
	if err != nil {
		t.Fatal(err)
	}
	server.Must("CONFIG", "SET", "maxmemory", strconv.Itoa(used+800_000))
	args := []string{"--store", "embedded:" + node.dir, "--to", server.URL()}
	migrateOnce(t, 1, "store is full", args...)
	server.Must("CONFIG", "SET", "maxmemory", "0")
	if n := server.Must("ZCARD", "postrider:{p0}:pending"); n == "0" || n == strconv.Itoa(activities) {
		t.Errorf("%s activities were moved before there was no room", n)
	}
	serve := []string{"serve", "--store", server.URL(), "--master-key", otherMasterKey, "--listen", "127.0.0.1:0"}
	if code, _, said := runOnce(t, nil, serve...); code != 1 || !strings.Contains(said, "is being filled from embedded:") {
		t.Errorf("a node on half of a store ended with %d: %s", code, said)
	}
	migrateOnce(t, 0, "were there already", args...)
	n := startAt(t, "--store", server.URL(), "--master-key", "@"+filepath.Join(node.dir, "master.key"), "--retry-base", "1h")
	if got := n.host(h.Host(0)); got.Pending != activities {
		t.Errorf("%d deliveries are pending, want %d", got.Pending, activities)
	}
}

// TestMigrateRefuses goes through what can be wrong with a migration before it begins.
func TestMigrateRefuses(t *testing.T) {
	t.Parallel()
	server := testredis.Start(t)
	empty := filepath.Join(t.TempDir(), "empty")
	key := []string{"--master-key", otherMasterKey}
	migrateOnce(t, 2, "to \"\"", "--store", "embedded:"+empty)
	migrateOnce(t, 2, "want another store", "--store", "embedded:"+empty, "--to", "embedded:"+empty)
	migrateOnce(t, 2, "want another store", append(key, "--store", server.URL(), "--to", server.URL())...)
	migrateOnce(t, 2, "master-key", "--store", server.URL(), "--to", "embedded:"+empty)
	migrateOnce(t, 1, "there is no store in", "--store", "embedded:"+empty, "--to", server.URL())
	migrateOnce(t, 1, "holds nothing", append(key, "--store", server.URL(), "--to", "embedded:"+empty)...)
	node := startNode(t)
	node.stop()
	migrateOnce(t, 1, "the master key does not open the private keys", append(key, "--store", "embedded:"+node.dir, "--to", server.URL())...)
	server.Must("SET", "postrider:{p0}:lease:a.example", "1 nonce", "PX", "60000")
	migrateOnce(t, 1, "a node has a lease of a.example", "--store", "embedded:"+node.dir, "--to", server.URL())
}

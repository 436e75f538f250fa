package e2e

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

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/internal/testredis"
)

// otherMasterKey is a master key that no store uses yet.
var otherMasterKey = strings.Repeat("B", 43) + "="

// migrateOnce runs a migration, which must end with the code and print the text.
func migrateOnce(t *testing.T, code int, says string, args ...string) (output string) {
	t.Helper()
	got, stdout, stderr := harness.RunOnce(t, nil, append([]string{"migrate"}, args...)...)
	if got != code || !strings.Contains(stdout+stderr, says) {
		t.Fatalf("migrate %v ended with %d, want %d and %q:\n%s%s", args, got, code, says, stdout, stderr)
	}
	return stdout + stderr
}

// startAt starts a node on a store that has its key already.
func startAt(t *testing.T, args ...string) *testNode {
	t.Helper()
	n := newTestNode(t, false, args)
	n.Start()
	return n
}

// TestMigrate moves the data of a stopped node through several stores: nothing is lost, nothing is sent twice, and the API
// gives the answers of the first node.
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
	folder, sealed := "embedded:"+node.Dir, "@"+filepath.Join(node.Dir, "master.key")
	var all []acceptedView
	for _, s := range chains()["Create, Update, Delete"] {
		all = append(all, node.deliver(s.activity, h.Inbox(0, "/inbox")))
	}
	call := submission{activity: like("once"), inboxes: h.urls(), more: `,"recipients":[{"inbox":"http://10.0.0.1/"}]`}.String()
	first := node.Call(http.MethodPost, "/v1/activities", call, "Idempotency-Key", "once")
	mixed := read[acceptedView](node, http.StatusAccepted, first)
	harness.Eventually(t, "one is delivered, one dead, and one was tried", func() bool {
		c := node.activity(mixed).Counts
		return c.Delivered == 1 && c.Dead == 1 && attempted(node, all[0]) > 0
	})
	letters := node.deadLetters("")
	migrateOnce(t, 1, "in use", "--store", folder, "--to", server.URL())
	node.Stop()
	outputs := migrateOnce(t, 0, "moved ", "--store", folder, "--to", server.URL())
	checkMoved(t, node, outputs, server.URL())

	onRedis := startAt(t, "--store", server.URL(), "--master-key", sealed)
	if a := onRedis.Call(http.MethodPost, "/v1/activities", call, "Idempotency-Key", "once"); a.Body != first.Body {
		t.Errorf("answered %d %s, first %s", a.Status, a.Body, first.Body)
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

// checkMoved checks the output of the first migration, and that no node works on the old store any more.
func checkMoved(t *testing.T, node *testNode, output, to string) {
	t.Helper()
	if counted := regexp.MustCompile(`\s+`).ReplaceAllString(output, " "); !strings.Contains(counted,
		"keys 1 hosts 3 activities 4 deliveries pending 4 dead letters 1 receipts 1 ") {
		t.Errorf("it says:\n%s", output)
	}
	folder := "embedded:" + node.Dir
	if code, _, said := harness.RunOnce(t, nil, "serve", "--store", folder, "--listen", "127.0.0.1:0"); code != 1 ||
		!strings.Contains(said, "was moved to redis://") || !strings.Contains(said, "rm "+node.Dir) {
		t.Errorf("a node on what was moved ended with %d: %s", code, said)
	}
	migrateOnce(t, 1, "was moved to", "--store", folder, "--to", to)
}

// moveOn moves the store of a node on Redis to more partitions, under another master key, and from there to a folder. It
// returns the output.
func moveOn(t *testing.T, server *testredis.Server, node *testNode, sealed, folder string) (outputs string) {
	t.Helper()
	next := []string{"--store", server.URL(), "--master-key", sealed, "--to", server.URL(), "--to-redis-prefix", "second",
		"--to-redis-partitions", "4", "--to-master-key", otherMasterKey}
	migrateOnce(t, 1, "in use", next...)
	node.Stop()
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

// checkArrived checks which requests the hosts of TestMigrate accepted, and their order.
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
	node.Stop()
	startAt(t, "--store", server.URL(), "--redis-prefix", "other", "--master-key", otherMasterKey).Stop() // so that scripts are there
	used, err := strconv.Atoi(regexp.MustCompile(`used_memory:(\d+)`).FindStringSubmatch(server.Must("INFO", "memory"))[1])
	if err != nil {
		t.Fatal(err)
	}
	server.Must("CONFIG", "SET", "maxmemory", strconv.Itoa(used+800_000))
	args := []string{"--store", "embedded:" + node.Dir, "--to", server.URL()}
	migrateOnce(t, 1, "store is full", args...)
	server.Must("CONFIG", "SET", "maxmemory", "0")
	if n := server.Must("ZCARD", "postrider:{p0}:pending"); n == "0" || n == strconv.Itoa(activities) {
		t.Errorf("%s activities were moved before there was no room", n)
	}
	serve := []string{"serve", "--store", server.URL(), "--master-key", otherMasterKey, "--listen", "127.0.0.1:0"}
	if code, _, said := harness.RunOnce(t, nil, serve...); code != 1 || !strings.Contains(said, "is being filled from embedded:") {
		t.Errorf("a node on half of a store ended with %d: %s", code, said)
	}
	migrateOnce(t, 0, "were there already", args...)
	n := startAt(t, "--store", server.URL(), "--master-key", "@"+filepath.Join(node.Dir, "master.key"), "--retry-base", "1h")
	if got := n.host(h.Host(0)); got.Pending != activities {
		t.Errorf("%d deliveries are pending, want %d", got.Pending, activities)
	}
}

// TestMigrateFromFull moves a store away from a Redis that has no room.
func TestMigrateFromFull(t *testing.T) {
	t.Parallel()
	h := startHost(t, replies(testinbox.Reply{Status: http.StatusFound}))
	server := testredis.Start(t)
	node := onRedis(server.URL()).startNode(t, "--retry-base", "1h")
	node.deliver(like("1"), h.Inbox(0, "/inbox"))
	node.Stop()
	server.Must("CONFIG", "SET", "maxmemory", "1")
	from := []string{"--store", server.URL(), "--master-key", strings.Repeat("A", 43) + "="}
	folder := "embedded:" + filepath.Join(t.TempDir(), "folder")
	migrateOnce(t, 0, "moved ", append(from, "--to", folder, "--to-master-key", otherMasterKey)...)
	code, _, said := harness.RunOnce(t, nil, append([]string{"serve", "--listen", "127.0.0.1:0"}, from...)...)
	if code != 1 || !strings.Contains(said, "was moved to embedded:") {
		t.Errorf("a node on what was moved ended with %d: %s", code, said)
	}
}

// TestMigrateRefuses goes through the faults that a migration refuses before it begins.
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
	node.Stop()
	migrateOnce(t, 1, "the master key does not open the private keys", append(key, "--store", "embedded:"+node.Dir, "--to", server.URL())...)
	server.Must("SET", "postrider:{p0}:lease:a.example", "1 nonce", "PX", "60000")
	migrateOnce(t, 1, "a node has a lease of a.example", "--store", "embedded:"+node.Dir, "--to", server.URL())
}

package e2e

import (
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"zombiezen.com/go/sqlite"
	"zombiezen.com/go/sqlite/sqlitex"

	"github.com/postrider/postrider/e2e/harness"
	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testinbox"
	"github.com/postrider/postrider/internal/testredis"
)

// TestNewerStoreIsRefused goes back to an older program after an upgrade that changed the store: neither a node nor a
// migration touches the store, and the newer program goes on with it as if nothing had happened.
func TestNewerStoreIsRefused(t *testing.T) {
	t.Parallel()
	t.Run("embedded", func(t *testing.T) {
		t.Parallel()
		n := startNode(t)
		testNewerStoreIsRefused(t, n, store{"--store", "embedded:" + n.Dir}, func(version int) {
			conn, err := sqlite.OpenConn(filepath.Join(n.Dir, "postrider.db"), sqlite.OpenReadWrite)
			if err != nil {
				t.Fatal(err)
			}
			if err := sqlitex.ExecuteTransient(conn, "PRAGMA user_version = "+strconv.Itoa(version), nil); err != nil {
				t.Error(err)
			}
			if err := conn.Close(); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		server := testredis.Start(t)
		s := onRedis(server.URL())
		testNewerStoreIsRefused(t, s.startNode(t), s, func(version int) {
			server.Must("HSET", rediskeys.Scheme{Prefix: "postrider", Partitions: 1}.Partition(0).Key(rediskeys.Meta), "format", strconv.Itoa(version))
		})
	})
}

func testNewerStoreIsRefused(t *testing.T, node *testNode, s store, setVersion func(int)) {
	t.Helper()
	h := startHosts(t, 1, func(int) testinbox.Options { return testinbox.Options{} })
	node.act(h.Host(0), "pause")
	a := node.deliver(like("before"), h.Inbox(0, "/inbox"))
	node.Stop()

	setVersion(99)
	for _, command := range [][]string{
		append([]string{"serve", "--listen", "127.0.0.1:0"}, s...),
		append([]string{"migrate", "--to", "embedded:" + filepath.Join(t.TempDir(), "moved")}, s[:min(len(s), 4)]...),
	} {
		code, stdout, stderr := harness.RunOnce(t, nil, command...)
		if code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "99") ||
			!strings.Contains(stderr, "use the program that wrote it") {
			t.Errorf("%s ended with %d: %s%s", command[0], code, stdout, stderr)
		}
	}
	setVersion(1)
	node.Start()
	node.act(h.Host(0), "resume")
	if got := node.settled(a); got.Delivered != 1 {
		t.Errorf("counts %+v", got)
	}
}

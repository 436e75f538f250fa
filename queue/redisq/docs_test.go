package redisq

import (
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testredis"
)

// These tests hold docs/redis.md against the store: its keys, and the permissions of a user. The contract runs as a user
// that has just these.

// documentedKeys returns the patterns of the documented keys, as Redis matches them, with their types.
func documentedKeys(t *testing.T) map[string]string {
	t.Helper()
	_, rows, found := strings.Cut(redisDoc(t), "\n| key | type |")
	if !found {
		t.Fatal("docs/redis.md has no table of keys")
	}
	types, kinds := map[string]string{}, map[rediskeys.Kind]string{}
	for _, line := range strings.Split(rows, "\n")[2:] {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			break
		}
		for name := range strings.SplitSeq(strings.ReplaceAll(cells[1], "`", ""), ",") {
			pattern := regexp.MustCompile(`[A-Z]+`).ReplaceAllString(strings.TrimSpace(name), "*")
			kind, _, _ := strings.Cut(pattern, ":")
			types["*:{p*}:"+pattern] = strings.TrimSpace(cells[2])
			kinds[rediskeys.Kind(kind)] = types["*:{p*}:"+pattern]
		}
	}
	if diff := cmp.Diff(rediskeys.Types, kinds); diff != "" {
		t.Errorf("docs/redis.md lists other keys than there are (-are +listed):\n%s", diff)
	}
	return types
}

func redisDoc(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/redis.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// restrict makes the documented user on servers, and returns the URL for it. The user may touch the documented keys only,
// and more than one fleet's.
func restrict(t *testing.T, url string, servers ...*testredis.Server) string {
	t.Helper()
	rule := regexp.MustCompile(`(?s)\nACL (SETUSER postrider .*?)\n` + "```").FindStringSubmatch(redisDoc(t))
	if rule == nil {
		t.Fatal("docs/redis.md has no ACL SETUSER")
	}
	var args []string
	for word := range strings.FieldsSeq(strings.ReplaceAll(rule[1], "\\\n", " ")) {
		switch {
		case strings.HasPrefix(word, "~"):
			for pattern := range documentedKeys(t) {
				args = append(args, "~"+pattern)
			}
		default:
			args = append(args, strings.Replace(word, "&postrider:", "&*:", 1))
		}
	}
	for _, server := range servers {
		server.Must(append([]string{"ACL"}, args...)...)
	}
	return strings.Replace(url, "://", "://postrider:PASSWORD@", 1)
}

// checkKeys checks that every key on a server is a documented one, of the documented type. Redis does it, at one instant: so
// many keys would take the race detector a minute.
func checkKeys(t *testing.T, server *testredis.Server) {
	t.Helper()
	command := []string{"EVAL", `local kinds, documented, wrong, count = {}, {}, {}, 0
		for _, key in ipairs(redis.call('KEYS', '*')) do
			kinds[key] = redis.call('TYPE', key).ok
			count = count + 1
		end
		for i = 1, #ARGV, 2 do
			for _, key in ipairs(redis.call('KEYS', ARGV[i])) do
				documented[key] = true
				if kinds[key] ~= ARGV[i + 1] then
					wrong[#wrong + 1] = key .. ' is a ' .. kinds[key] .. ', documented as ' .. ARGV[i + 1]
				end
			end
		end
		for key in pairs(kinds) do
			if not documented[key] then wrong[#wrong + 1] = key .. ' is not documented' end
		end
		if count < 100 then wrong[#wrong + 1] = 'only ' .. count .. ' keys are there' end
		return table.concat(wrong, '\n')`, "0"}
	for pattern, kind := range documentedKeys(t) {
		command = append(command, pattern, kind)
	}
	if wrong := server.Must(command...); wrong != "" {
		t.Error(wrong)
	}
}

// TestUserAsDocumented covers what the contract's user does not do: leases, and other ways to set Redis up.
func TestUserAsDocumented(t *testing.T) {
	t.Parallel()
	t.Run("alone", func(t *testing.T) {
		server := testredis.Start(t)
		tryUser(t, restrict(t, server.URL(), server))
		for _, forbidden := range [][]string{{"GET", "other"}, {"KEYS", "*"}, {"FLUSHALL"}, {"CONFIG", "GET", "*"}} {
			if answer := server.Must(append([]string{"ACL", "DRYRUN", "postrider"}, forbidden...)...); answer == "OK" {
				t.Errorf("the user may do %v", forbidden)
			}
		}
		checkKeys(t, server)
	})
	t.Run("cluster", func(t *testing.T) {
		cluster := testredis.StartCluster(t, 3)
		tryUser(t, restrict(t, cluster.URL(), cluster.Nodes...))
	})
	t.Run("sentinel", func(t *testing.T) {
		sentinel := testredis.StartSentinel(t)
		tryUser(t, restrict(t, sentinel.URL(), sentinel.Master, sentinel.Replica))
	})
}

func tryUser(t *testing.T, url string) {
	t.Helper()
	s := openStore(t, Options{URL: url, Prefix: "postrider", Partitions: 3})
	manager, hosts := s.Leases(time.Minute), manyHosts(150)
	leases, err := manager.Acquire(t.Context(), hosts)
	if err != nil || len(leases) != len(hosts) {
		t.Fatalf("Acquire gave %d leases, %v", len(leases), err)
	}
	if lost, err := manager.Extend(t.Context(), leases); err != nil || len(lost) > 0 {
		t.Errorf("Extend lost %d, %v", len(lost), err)
	}
	enqueue(t, s, submission("1", 100, hosts...))
	for began := time.Now(); ; time.Sleep(time.Millisecond) { // it listens soon after it was opened
		who, err := s.InUse(t.Context())
		if err == nil && strings.Contains(who, "1 nodes listen") {
			break
		}
		if err != nil || time.Since(began) > 10*time.Second {
			t.Fatalf("InUse = %q, %v", who, err)
		}
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if err := manager.Release(t.Context(), leases); err != nil {
		t.Error(err)
	}
}

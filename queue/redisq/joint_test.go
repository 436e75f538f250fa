package redisq

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// TestJointScripts checks that each script can be one that works in several partitions: it has no more variables then than Lua
// allows.
func TestJointScripts(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	for name, lua := range script.All() {
		if answer, err := lua.Joint().Exec(t.Context(), s.client, nil, nil).ToArray(); err != nil || len(answer) != 0 {
			t.Errorf("%s in no partition gave %v, %v", name, answer, err)
		}
	}
}

// draws are calls that look for so many lanes in each partition.
func draws(s *Store, lanes string) (all []bundle) {
	for _, p := range s.parts {
		all = append(all, bundle{{p: p, args: []string{lanes, lanes, "1000", "1"}}})
	}
	return all
}

// TestJointFails checks that an error in one partition of several in which a script works is an error of that one only, of
// whatever kind, and that it names the key.
func TestJointFails(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 4})
	hosts := manyHosts(40)
	enqueue(t, s, submission("1", 100, hosts...))
	server.Must("SET", "p:{p2}:due2", "not a set")
	calls := draws(s, "1")
	calls[1][0].args[0] = "one" // no number
	s.callEach(t.Context(), script.Due, draws(s, "0"))
	before := server.Calls("evalsha")
	results := s.callEach(t.Context(), script.Due, calls)
	if n := server.Calls("evalsha") - before; n != 1 {
		t.Errorf("%d scripts ran, want one", n)
	}
	for n, r := range results {
		broken := ""
		if key, ok := errors.AsType[*brokenKey](r.err); ok {
			broken = key.key
		}
		var lanes []string
		if r.err == nil {
			var next, suspects, lag int64
			if err := scan(r.answers[0], &next, &suspects, &lag, &lanes); err != nil {
				t.Fatal(err)
			}
		}
		switch n {
		case 1:
			if !scriptFailed(r.err) || broken != "" {
				t.Errorf("partition 1 gave %v, want a failed script", r.err)
			}
		case 2:
			if !scriptFailed(r.err) || broken != "p:{p2}:due2" {
				t.Errorf("partition 2 gave %v, want that its key is broken", r.err)
			}
		default:
			if len(lanes) != 1 || s.partitionOf(lanes[0]).N != n {
				t.Errorf("partition %d gave %q, %v", n, lanes, r.err)
			}
		}
	}
}

// TestJointRefused checks that each partition has the error of a script that Redis does not run.
func TestJointRefused(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 4})
	stage := func() (all []bundle) {
		for _, p := range s.parts {
			all = append(all, bundle{{p: p, keys: p.staging("x"), args: []string{"nothing of that kind"}}})
		}
		return all
	}
	for name, c := range map[string]struct {
		set, unset []string
		is         func(err error) bool
	}{
		"full": {
			[]string{"CONFIG", "SET", "maxmemory", "1"}, []string{"CONFIG", "SET", "maxmemory", "0"},
			func(err error) bool { return errors.Is(err, queue.ErrFull) },
		},
		"read-only": {
			[]string{"REPLICAOF", "127.0.0.1", "1"}, []string{"REPLICAOF", "NO", "ONE"},
			func(err error) bool { return strings.Contains(err.Error(), "READONLY") && !scriptFailed(err) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			server.Must(c.set...)
			defer server.Must(c.unset...)
			for n, r := range s.callEach(t.Context(), script.Stage, stage()) {
				if r.err == nil || !c.is(r.err) {
					t.Errorf("partition %d gave %v", n, r.err)
				}
			}
		})
	}
}

// TestJointCalls checks that what is wanted of several partitions at a time takes few scripts, whose number is bounded by what
// one does: a call that several partitions have a part of, and a look, leases, turns and settlements.
func TestJointCalls(t *testing.T) {
	const partitions = 64
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: partitions, NoWakes: true})
	hosts := manyHosts(200)
	count := func(what string, most int, do func()) {
		before := server.Calls("evalsha")
		do()
		if n := server.Calls("evalsha") - before; n > most {
			t.Errorf("%s took %d scripts, want at most %d", what, n, most)
		}
	}
	count("an activity for 200 hosts", 2*partitions/4, func() { enqueue(t, s, submission("1", 100, hosts...)) })
	var offer queue.Offer
	count("a look", partitions/4, func() {
		var err error
		if offer, err = s.Due(t.Context(), queue.Want{Lanes: 500, Suspect: 500}); err != nil || len(offer.Hosts) != len(hosts) {
			t.Fatalf("Due gave %d hosts, %v", len(offer.Hosts), err)
		}
	})
	leases, err := s.Leases(time.Minute).Acquire(t.Context(), offer.Hosts)
	if err != nil || len(leases) != len(hosts) {
		t.Fatalf("%d leases, %v", len(leases), err)
	}
	count("turns on 200 hosts", 200/batchCalls+3, func() {
		if turns, err := s.Take(t.Context(), leases, 1); err != nil || len(turns) != len(hosts) {
			t.Fatalf("Take gave %d turns, %v", len(turns), err)
		}
	})
}

// TestJointOnlyInOneRedis checks that scripts stay within a partition where several Redis have them, also behind something that
// hides that.
func TestJointOnlyInOneRedis(t *testing.T) {
	t.Run("it refuses", func(t *testing.T) {
		member := testredis.StartCluster(t, 1).Nodes[0]
		s := openStore(t, Options{URL: "redis://" + member.Addr, Prefix: "p", Partitions: 4})
		enqueue(t, s, submission("1", 100, manyHosts(10)...))
		o, err := s.Due(t.Context(), queue.Want{Lanes: 20, Suspect: 20})
		if err != nil || len(o.Hosts) != 10 || s.keys.Joint {
			t.Errorf("Due gave %q, %v, joint %t", o.Hosts, err, s.keys.Joint)
		}
	})
	for name, servers := range map[string]int{"it is one": 1, "they are two": 2} {
		t.Run(name, func(t *testing.T) {
			var clients []rueidis.Client
			for range servers {
				c, err := Connect(Options{URL: testredis.Start(t).URL()})
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				clients = append(clients, c)
			}
			c := newConn(sharded{clients[0], clients[servers-1]}, Options{Prefix: "p"})
			if joint, err := c.tryJoint(t.Context(), 4); joint != (servers == 1) || err != nil {
				t.Errorf("tryJoint = %t, %v", joint, err)
			}
		})
	}
}

// sharded is a client of a proxy that keeps what is about partition 1 in another Redis, and sends a command where its first key
// is.
type sharded struct {
	rueidis.Client
	other rueidis.Client
}

// DoMulti implements rueidis.Client.
func (c sharded) DoMulti(ctx context.Context, commands ...rueidis.Completed) (all []rueidis.RedisResult) {
	for _, command := range commands {
		to := c.Client
		if strings.HasPrefix(command.Commands()[1], "p:{p1}:") {
			to = c.other
		}
		all = append(all, to.Do(ctx, command))
	}
	return all
}

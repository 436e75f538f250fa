package redisq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// pending is what all activities have pending.
func pending(t *testing.T, s *Store) int {
	t.Helper()
	st, err := s.Stats(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return st.Pending
}

func TestRestartAndScriptFlush(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 2})
	hosts := manyHosts(10)
	enqueue(t, s, submission("1", 100, hosts...))
	server.Must("SCRIPT", "FLUSH")
	enqueue(t, s, submission("2", 100, hosts...))
	server.Restart()
	enqueue(t, s, submission("3", 100, hosts...))
	if n := pending(t, s); n != 30 {
		t.Errorf("%d deliveries are pending, want 30", n)
	}
	work(t, s, 1, hosts, func(int) queue.Result { return queue.Result{Spent: true} })
	if st, err := s.Stats(t.Context()); err != nil || st.Delivered != 30 || st.Pending != 0 {
		t.Errorf("stats are %+v, %v", st, err)
	}
}

// TestHangs checks that a Redis that does not answer holds up nobody for longer than a call may take, and that work
// goes on when it answers again.
func TestHangs(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p"})
	sub := submission("1", 100, "a.example")
	thaw := server.Freeze()
	defer thaw()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := s.Enqueue(ctx, sub); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Enqueue gave %v, want that its time was over", err)
	}
	if err := s.Ready(ctx); err == nil {
		t.Error("a Redis that hangs is ready")
	}
	thaw()
	// The first call may have been carried out after it was given up; either way the activity is there once.
	r, err := s.Enqueue(t.Context(), sub)
	if err != nil || r.ID != sub.ID || r.Accepted != 1 {
		t.Errorf("the repeated call gave %+v, %v", r, err)
	}
	if n := pending(t, s); n != 1 {
		t.Errorf("%d deliveries are pending, want 1", n)
	}
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestFull checks that a Redis without room refuses new work, whole, but lets what is there be done; and that there is
// room then.
func TestFull(t *testing.T) {
	for _, partitions := range []int{1, 3} {
		t.Run(fmt.Sprintf("%d partitions", partitions), func(t *testing.T) {
			server := testredis.Start(t)
			s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: partitions, Limits: queue.Limits{DeadRetention: time.Hour}})
			hosts := manyHosts(30)
			enqueue(t, s, submission("1", 1000, hosts...))
			server.Must("CONFIG", "SET", "maxmemory", "1")
			sub := submission("2", 1000, hosts...)
			if _, err := s.Enqueue(t.Context(), sub); !errors.Is(err, queue.ErrFull) {
				t.Fatalf("Enqueue gave %v, want ErrFull", err)
			}
			work(t, s, 1, hosts, func(n int) queue.Result {
				if n%2 == 0 {
					return queue.Result{Verdict: queue.Dead, Reason: queue.ReasonGone}
				}
				return queue.Result{Spent: true}
			})
			if _, err := s.Sweep(t.Context()); err != nil {
				t.Error(err)
			}
			if o, err := s.Due(t.Context(), queue.Want{Lanes: 5, Suspect: 5}); err != nil {
				t.Errorf("Due gave %+v, %v", o, err)
			}
			server.Must("CONFIG", "SET", "maxmemory", "0")
			if n := pending(t, s); n != 0 {
				t.Errorf("%d deliveries are pending, want none", n)
			}
			enqueue(t, s, sub)
		})
	}
}

// TestWrongType checks that a key of someone else's stops only what touches it, and changes nothing.
func TestWrongType(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p"})
	server.Must("SET", "p:{p0}:h:bad.example", "not a hash")
	if _, err := s.Enqueue(t.Context(), submission("1", 100, "a.example", "bad.example")); err == nil {
		t.Error("Enqueue to a lane that is no lane gave no error")
	}
	if n := pending(t, s); n != 0 {
		t.Errorf("%d deliveries are pending, want none", n)
	}
	enqueue(t, s, submission("2", 100, "a.example"))
}

// TestStepsInterrupted checks what becomes of a submission whose node died on the way: all of it or nothing.
func TestStepsInterrupted(t *testing.T) {
	for _, c := range []struct {
		name   string
		commit bool
		want   int
	}{{"before it was committed", false, 0}, {"after it was committed", true, 40}} {
		t.Run(c.name, func(t *testing.T) {
			server := testredis.Start(t)
			s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 3})
			hosts := manyHosts(40)
			in, r := stageOnly(t, s, submission("1", 100, hosts...))
			if c.commit {
				if _, err := in.commit(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
			if o, err := s.Due(t.Context(), queue.Want{Lanes: 9, Suspect: 9}); err != nil || len(o.Hosts) > 0 {
				t.Fatalf("before it was released Due gave %+v, %v", o, err)
			}
			if !c.commit {
				server.Must("DEL", in.claims.Of(rediskeys.Claim, in.claim)) // as if it had lapsed
			}
			for _, p := range s.parts { // as if time had passed
				server.Must("EVAL", "if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('ZADD', KEYS[1], 1, ARGV[1]) end",
					"1", p.Key(rediskeys.Staged), string(in.id[:]))
			}
			sweepAll(t, s)
			if n := pending(t, s); n != c.want {
				t.Errorf("%d deliveries are pending, want %d", n, c.want)
			}
			n := 0
			work(t, s, 1, hosts, func(int) queue.Result {
				n++
				return queue.Result{Spent: true}
			})
			if n != c.want {
				t.Errorf("%d deliveries were given, want %d", n, c.want)
			}
			for _, key := range keysOf(t, server) {
				if strings.Contains(key, "}:s:") || strings.HasSuffix(key, "}:staged") || !c.commit && strings.Contains(key, in.text) {
					t.Errorf("%s is left", key)
				}
			}
		})
	}
}

// stageOnly does the first steps of storing a submission.
func stageOnly(t *testing.T, s *Store, sub *queue.Submission) (*intake, queue.Receipt) {
	t.Helper()
	in, err := s.newIntake(t.Context(), sub)
	if err != nil {
		t.Fatal(err)
	}
	if _, known, err := in.takeClaim(t.Context()); known || err != nil {
		t.Fatalf("the claim was known: %t, %v", known, err)
	}
	r, err := in.stageAll(t.Context(), split(t, in))
	if err != nil {
		t.Fatal(err)
	}
	return in, r
}

// TestLarge checks a submission too large for one script, much of it to one host.
func TestLarge(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	sub := submission("1", 100, manyHosts(1200)...)
	for i := range 1500 {
		sub.Recipients = append(sub.Recipients, queue.Recipient{Inbox: fmt.Sprintf("https://big.example/users/%d/inbox", i), Host: "big.example"})
	}
	enqueue(t, s, sub)
	other := submission("2", 100, "big.example")
	enqueue(t, s, other)
	l := lockmgr.Lease{Host: "big.example", Token: 1, TTL: time.Minute}
	turns, err := s.Take(t.Context(), []lockmgr.Lease{l}, 100)
	if err != nil || len(turns[0].Deliveries) != 100 {
		t.Fatalf("Take gave %d deliveries, %v, want as many as asked for: each inbox has a chain of its own", len(turns[0].Deliveries), err)
	}
	if _, err := s.Settle(t.Context(), l, queue.Settlement{Release: true}, 0); err != nil {
		t.Fatal(err)
	}
	next := 0
	work(t, s, 2, []string{"big.example"}, func(int) queue.Result {
		next++
		return queue.Result{Spent: true}
	})
	if next != 1501 {
		t.Errorf("%d deliveries were given, want 1501", next)
	}
	a, err := s.Cancel(t.Context(), sub.ID)
	if want := (queue.Counts{Total: 2700, Delivered: 1500, Cancelled: 1200}); err != nil || a.Counts != want {
		t.Errorf("counts are %+v, %v, want %+v", a.Counts, err, want)
	}
	if n := pending(t, s); n != 0 {
		t.Errorf("%d deliveries are pending, want none", n)
	}
}

// TestWakesOtherNodes checks that what one node accepts another hears of at once, also after it lost its connection.
func TestWakesOtherNodes(t *testing.T) {
	server := testredis.Start(t)
	o := Options{URL: server.URL(), Prefix: "p", Partitions: 2}
	a, b := openStore(t, o), openStore(t, o)
	awaitListener(t, server, "p", "2")
	for i := range 2 {
		for again := true; again; { // while it has just begun to hear
			o, err := b.Due(t.Context(), queue.Want{Lanes: 10, Suspect: 10})
			if err != nil {
				t.Fatal(err)
			}
			again = o.Next == 0
		}
		drain(b)
		enqueue(t, a, submission(uuid.NewString(), 10, fmt.Sprintf("host%d.example", i)))
		select {
		case <-b.Wake():
		case <-time.After(5 * time.Second):
			t.Fatalf("the other node was not woken, time %d", i)
		}
		server.Must("CLIENT", "KILL", "TYPE", "pubsub")
		awaitListener(t, server, "p", "2")
	}
}

// TestDoesNotWakeForLater checks that a node sleeps on when what comes is due after Due said that something is.
func TestDoesNotWakeForLater(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	s.asleep.Store(int64(time.Since(s.start) + time.Minute))
	drain(s)
	s.heard(s.keys.Wakes(0), "120000")
	select {
	case <-s.Wake():
		t.Error("it was woken for what is due in two minutes")
	default:
	}
	s.heard(s.keys.Wakes(0), "1000")
	select {
	case <-s.Wake():
	default:
		t.Error("it was not woken for what is due in a second")
	}
}

func drain(s *Store) {
	select {
	case <-s.wake:
	default:
	}
}

// awaitListener waits until so many nodes of a prefix listen.
func awaitListener(t *testing.T, server *testredis.Server, prefix, nodes string) {
	t.Helper()
	for start := time.Now(); time.Since(start) < 10*time.Second; {
		if n := server.Must("EVAL", "return tostring(redis.call('PUBSUB', 'NUMSUB', ARGV[1])[2])", "0", prefix+":wake"); n == nodes {
			return
		}
	}
	t.Fatal("nobody listens")
}

func TestOpenRefuses(t *testing.T) {
	server := testredis.Start(t)
	protected := testredis.Start(t, "--requirepass", "sesame")
	evicting := testredis.Start(t, "--maxmemory-policy", "allkeys-lru")
	openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 4})
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"another number of partitions", Options{URL: server.URL(), Prefix: "p", Partitions: 8}, "set redis-partitions to 4"},
		{"a Redis that evicts", Options{URL: evicting.URL(), Prefix: "p"}, "set it to noeviction"},
		{"no password", Options{URL: protected.URL(), Prefix: "p"}, "it wants a password"},
		{"a wrong password", Options{URL: "redis://:open@" + protected.Addr, Prefix: "p"}, "user or password is wrong"},
		{"a database that isn't there", Options{URL: server.URL() + "/99", Prefix: "p"}, "DB index is out of range"},
		{"nobody there", Options{URL: "redis://127.0.0.1:1", Prefix: "p"}, "refused"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Log = slog.New(slog.DiscardHandler)
			s, err := Open(t.Context(), c.o)
			if err == nil {
				_ = s.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("Open gave %v, want an error with %q", err, c.want)
			}
		})
	}
	again := openStore(t, Options{URL: server.URL(), Prefix: "p"})
	if len(again.parts) != 4 {
		t.Errorf("without a number there are %d partitions, want those the store was made with", len(again.parts))
	}
	enqueue(t, openStore(t, Options{URL: "redis://:sesame@" + protected.Addr + "/3", Prefix: "p"}), submission("1", 1, "a.example"))
}

func TestOpenWarnsWithoutAOF(t *testing.T) {
	for setting, want := range map[string]bool{"no": true, "yes": false} {
		var log bytes.Buffer
		s, err := Open(t.Context(), Options{
			URL: testredis.Start(t, "--appendonly", setting).URL(), Prefix: "p", Log: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if got := strings.Contains(log.String(), "store.not_durable"); got != want {
			t.Errorf("with appendonly %s the warning was given: %t, want %t", setting, got, want)
		}
	}
}

// TestPrefixesAreApart checks that two fleets on one Redis never see each other.
func TestPrefixesAreApart(t *testing.T) {
	server := testredis.Start(t)
	a := openStore(t, Options{URL: server.URL(), Prefix: "a"})
	b := openStore(t, Options{URL: server.URL(), Prefix: "b"})
	enqueue(t, a, submission("1", 10, "a.example"))
	if n := pending(t, b); n != 0 {
		t.Errorf("another fleet has %d deliveries pending", n)
	}
	if o, err := b.Due(t.Context(), queue.Want{Lanes: 1, Suspect: 1}); err != nil || len(o.Hosts) != 0 {
		t.Errorf("another fleet is offered %+v, %v", o, err)
	}
}

// TestFailover checks that nodes go on with the replica when the master dies.
func TestFailover(t *testing.T) {
	t.Parallel()
	c := testredis.StartSentinel(t)
	s := openStore(t, Options{URL: c.URL(), Prefix: "p", Partitions: 2})
	hosts := manyHosts(20)
	enqueue(t, s, submission("1", 100, hosts...))
	c.Failover()
	sub := submission("2", 100, hosts...)
	for start := time.Now(); ; { // calls may fail until the client has found the new master
		if r, err := s.Enqueue(t.Context(), sub); err == nil && r.Accepted == 20 {
			break
		} else if time.Since(start) > 20*time.Second {
			t.Fatalf("after the failover Enqueue gives %+v, %v", r, err)
		}
	}
	done := 0
	work(t, s, 1, hosts, func(int) queue.Result {
		done++
		return queue.Result{Spent: true}
	})
	if done != 40 {
		t.Errorf("%d deliveries were given, want 40", done)
	}
}

// TestLateCommit checks that a submission whose claim has lapsed is not stored after all: Sweep may have taken it back.
func TestLateCommit(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 3})
	sub := submission("1", 100, manyHosts(4)...)
	in, r := stageOnly(t, s, sub)
	server.Must("DEL", in.claims.Of(rediskeys.Claim, in.claim))
	if _, err := in.commit(t.Context(), r); !errors.Is(err, errLapsed) || !errors.Is(err, queue.ErrUnderWay) { // a caller is to try again
		t.Errorf("commit gave %v, want %v", err, errLapsed)
	}
	other := *sub
	other.ID = uuid.Must(uuid.NewV7()).String()
	stageOnly(t, s, &other)
	if _, err := in.commit(t.Context(), r); !errors.Is(err, errLapsed) {
		t.Errorf("commit while another has the claim gave %v, want %v", err, errLapsed)
	}
}

// TestWorkForOfferedLane checks that more work does not make a lane due that was offered just now, and that it counts
// for the lane's priority.
func TestWorkForOfferedLane(t *testing.T) {
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p"})
	low, high := submission("1", 10, "a.example"), submission("2", 10, "a.example")
	low.Priority, high.Priority = queue.Low, queue.High
	enqueue(t, s, low)
	if o, err := s.Due(t.Context(), queue.Want{Lanes: 5, Suspect: 5}); err != nil || len(o.Hosts) != 1 {
		t.Fatalf("Due gave %+v, %v", o, err)
	}
	enqueue(t, s, high)
	if o, err := s.Due(t.Context(), queue.Want{Lanes: 5, Suspect: 5}); err != nil || len(o.Hosts) != 0 || o.Next > queue.OfferTTL {
		t.Errorf("Due gave %+v, %v, want nothing yet", o, err)
	}
	enqueue(t, s, submission("3", 10, "a.example"))
	if n := server.Must("ZCARD", "p:{p0}:due3"); n != "1" { // suspect, high
		t.Errorf("%s lanes have work of high priority, want 1", n)
	}
}

package redisq

import (
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

// TestMeetsStaged checks what becomes of a submission that finds another of the same activity under way, of which nobody
// knows yet whether it will be stored: one of them is, and no delivery is lost or made twice.
func TestMeetsStaged(t *testing.T) {
	const hosts = 12
	for name, c := range map[string]struct {
		older      bool // the one that comes second has the lower ID
		then       func(*testing.T, *testredis.Server, *intake, queue.Receipt)
		duplicates int
	}{
		"which is stored":   {false, func(t *testing.T, _ *testredis.Server, in *intake, r queue.Receipt) { commitStaged(t, in, r, nil) }, hosts},
		"which is given up": {false, func(t *testing.T, _ *testredis.Server, in *intake, _ queue.Receipt) { giveUpStaged(t, in) }, 0},
		"whose node is dead": {false, func(_ *testing.T, s *testredis.Server, in *intake, _ queue.Receipt) {
			s.Must("DEL", in.claims.Of(rediskeys.Claim, in.claim))
		}, 0},
		"which is younger": {true, nil, 0},
	} {
		for _, partitions := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, %d partitions", name, partitions), func(t *testing.T) {
				t.Parallel()
				server := testredis.Start(t)
				s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: partitions})
				first, second := submission("1", 100, manyHosts(hosts)...), submission("1", 100, manyHosts(hosts)...)
				if c.older {
					first, second = second, first
				}
				in, staged := stageOnly(t, s, first)
				if c.then != nil {
					go c.then(t, server, in, staged)
				}
				r, err := s.Enqueue(t.Context(), second)
				if err != nil || r.Accepted != hosts-c.duplicates || r.Duplicates != c.duplicates {
					t.Errorf("Enqueue gave %+v, %v, want %d duplicates", r, err, c.duplicates)
				}
				if c.older {
					commitStaged(t, in, staged, errLapsed)
				}
				given := map[string]int{}
				work(t, s, 1, manyHosts(hosts), func(n int) queue.Result {
					given[fmt.Sprint(n)]++
					return queue.Result{Spent: true}
				})
				if len(given) != hosts || pending(t, s) != 0 {
					t.Errorf("%d deliveries were given, want %d; %d are pending", len(given), hosts, pending(t, s))
				}
			})
		}
	}
}

func commitStaged(t *testing.T, in *intake, r queue.Receipt, want error) {
	if _, err := in.commit(t.Context(), r); !errors.Is(err, want) {
		t.Errorf("commit gave %v, want %v", err, want)
	}
}

func giveUpStaged(t *testing.T, in *intake) {
	if err := in.abort(t.Context(), batches{}); err != nil { // of what it staged it takes nothing back
		t.Error(err)
	}
}

func split(t *testing.T, in *intake) batches {
	t.Helper()
	all := in.batches()
	return all
}

// TestOldestOfManyIsStored checks that of many submissions of one activity at the same time all come to an end, and that
// each delivery is given once.
func TestOldestOfManyIsStored(t *testing.T) {
	const hosts, calls = 12, 8
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p", Partitions: 3})
	results := make(chan error, calls)
	for range calls {
		sub := submission("1", 100, manyHosts(hosts)...)
		go func() {
			r, err := s.Enqueue(t.Context(), sub)
			for errors.Is(err, queue.ErrUnderWay) { // as an app does
				sub.ID = uuid.Must(uuid.NewV7()).String()
				r, err = s.Enqueue(t.Context(), sub)
			}
			if err == nil && r.Accepted+r.Duplicates != hosts {
				err = fmt.Errorf("receipt %+v", r)
			}
			results <- err
		}()
	}
	for range calls {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	given := 0
	work(t, s, 1, manyHosts(hosts), func(int) queue.Result {
		given++
		return queue.Result{Spent: true}
	})
	if given != hosts {
		t.Errorf("%d deliveries were given, want %d", given, hosts)
	}
}

// TestStepsRepeated checks that steps that are sent again, for their answers were lost, do nothing more.
func TestStepsRepeated(t *testing.T) {
	for _, partitions := range []int{1, 3} {
		s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p", Partitions: partitions})
		hosts := manyHosts(2*laneChunk + 1)
		in, r := stageOnly(t, s, submission("1", 100, hosts...))
		again, err := in.stageAll(t.Context(), split(t, in))
		if diff := cmp.Diff(r, again); diff != "" || err != nil || r.Accepted != len(hosts) {
			t.Errorf("staged again, %v (-want +got):\n%s", err, diff)
		}
		commitStaged(t, in, r, nil)
		commitStaged(t, in, r, nil)
		_ = in.releaseAll(t.Context(), split(t, in))
		_ = in.releaseAll(t.Context(), split(t, in))
		given := 0
		work(t, s, 1, hosts, func(int) queue.Result {
			given++
			return queue.Result{Spent: true}
		})
		if given != len(hosts) || pending(t, s) != 0 {
			t.Errorf("%d deliveries were given, want %d; %d are pending", given, len(hosts), pending(t, s))
		}
	}
}

// TestReleaseIsMadeUpFor checks that what was committed as Redis went away is in its lanes soon after it is back.
func TestReleaseIsMadeUpFor(t *testing.T) {
	t.Parallel() // a release goes on for some seconds
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 3})
	sub := submission("1", 100, manyHosts(12)...)
	in, r := stageOnly(t, s, sub)
	commitStaged(t, in, r, nil)
	server.Stop()
	_ = in.releaseAll(t.Context(), split(t, in))
	server.Run()
	claim := in.claims.Of(rediskeys.Claim, in.claim)
	if left, _ := strconv.Atoi(server.Must("PTTL", claim)); left < int(committedTTL.Milliseconds()) {
		t.Errorf("the claim lasts %d ms; a fleet that is away for longer would lose what is accepted", left)
	}
	sweepAll(t, s)
	if left, _ := strconv.Atoi(server.Must("PTTL", claim)); left <= 0 || left > int(queue.IdempotencyTTL.Milliseconds()) {
		t.Errorf("once all is released the claim lasts %d ms, want a day", left)
	}
	if o, err := s.Due(t.Context(), queue.Want{Lanes: 20, Suspect: 20}); err != nil || len(o.Hosts) != 12 {
		t.Errorf("Due gave %+v, %v, want all hosts", o, err)
	}
}

// TestTakesBackOneAttempt checks that a node that finds an abandoned submission does not take back what it has staged
// again meanwhile.
func TestTakesBackOneAttempt(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p", Partitions: 2})
	sub := submission("1", 100, manyHosts(10)...)
	in, _ := stageOnly(t, s, sub)
	_, before, err := in.home.claimOf(t.Context(), in.id)
	if err != nil || before == "" {
		t.Fatalf("it is staged under %q, %v", before, err)
	}
	if err := s.abandon(t.Context(), in.home, in.id); err != nil {
		t.Fatal(err)
	}
	if err := in.unstageAll(t.Context(), split(t, in)); err != nil {
		t.Fatal(err)
	}
	in, r := stageOnly(t, s, sub)
	for _, p := range s.parts {
		if err := p.unstage(t.Context(), in.id, before); err != nil {
			t.Fatal(err)
		}
	}
	commitStaged(t, in, r, nil)
	_ = in.releaseAll(t.Context(), split(t, in))
	given := 0
	work(t, s, 1, manyHosts(10), func(int) queue.Result {
		given++
		return queue.Result{Spent: true}
	})
	if given != 10 {
		t.Errorf("%d deliveries were given, want 10", given)
	}
}

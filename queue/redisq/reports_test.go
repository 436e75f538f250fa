package redisq

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

// neverReports has a node make no reports by itself, as if it died before each.
func neverReports(s *Store) {
	for _, p := range s.parts {
		p.reports.running = true
	}
}

// sweepReports has a node sweep what has been due for long.
func sweepReports(t *testing.T, server *testredis.Server, s *Store) {
	t.Helper()
	for _, p := range s.parts {
		for _, id := range strings.Split(server.Must("EVAL", "return table.concat(redis.call('ZRANGE', KEYS[1], 0, -1), '|||')", "1", p.Key(rediskeys.Ended)), "|||") {
			if id != "" {
				server.Must("ZADD", p.Key(rediskeys.Ended), "XX", "1", id)
			}
		}
	}
	s.sweepAt.Store(0)
	sweepAll(t, s)
}

// due is how many reports are due in all partitions.
func dueIn(t *testing.T, server *testredis.Server, s *Store) (n int) {
	t.Helper()
	for _, p := range s.parts {
		if server.Must("ZCARD", p.Key(rediskeys.Ended)) != "0" {
			n++
		}
	}
	return n
}

// TestReportsAreMadeUpFor checks that the feed says that an activity is done, once, whichever step of its reports a node
// died after.
func TestReportsAreMadeUpFor(t *testing.T) {
	hosts := manyHosts(12)
	for name, report := range map[string]func(t *testing.T, s *Store, some []report){
		"before it told the home": func(*testing.T, *Store, []report) {},
		"after it told the home": func(t *testing.T, s *Store, some []report) {
			for range 2 { // its answer was lost
				if _, err := s.tellHomes(t.Context(), some); err != nil {
					t.Error(err)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testredis.Start(t)
			o := Options{URL: server.URL(), Prefix: "p", Partitions: 4}
			s, other := openStore(t, o), openStore(t, o)
			neverReports(s)
			enqueue(t, s, submission("1", 100, hosts...))
			oneDies(t, s, 1, hosts)
			for _, p := range s.parts {
				report(t, s, p.reports.take())
			}
			if dueIn(t, server, s) == 0 {
				t.Error("no report is due, so none is made up for")
			}
			sweepReports(t, server, other)
			checkDone(t, other, "11/1/0")
			if n := dueIn(t, server, s); n != 0 {
				t.Errorf("reports are still due in %d partitions", n)
			}
		})
	}
}

// TestDeadNodesReportsAreMadeUpForSoon checks that the node that is left makes the reports of one that fell silent when these are
// old enough, and not only when it would have swept anyway.
func TestDeadNodesReportsAreMadeUpForSoon(t *testing.T) {
	t.Parallel()
	hosts := manyHosts(12)
	server := testredis.Start(t)
	o := Options{URL: server.URL(), Prefix: "p", Partitions: 4}
	left := openStore(t, o)
	sweepAll(t, left)
	o.NoWakes = true // so it is not heard
	s := openStore(t, o)
	neverReports(s)
	_ = left.company.heard(looking(s.company.self, time.Now(), true))
	enqueue(t, s, submission("1", 100, hosts...))
	oneDies(t, s, 1, hosts)
	_ = left.company.heard(looking(s.company.self, time.Now().Add(-2*queue.NodeSilence), true))
	left.reshare()
	if wait, err := left.Sweep(t.Context()); wait > stageTTL || err != nil {
		t.Errorf("the next sweep is in %s, %v, want when the reports are %s old", wait, err, stageTTL)
	}
	for start := time.Now(); len(doneOf(t, left)) == 0; time.Sleep(10 * time.Millisecond) {
		if time.Since(start) > time.Minute {
			t.Fatal("the reports are not made")
		}
		if _, err := left.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	checkDone(t, left, "11/1/0")
}

// TestRetryIsReportedFirst checks that the feed never takes an activity for done of which a dead letter is about to be made
// pending again, and does so again if that came to nothing.
func TestRetryIsReportedFirst(t *testing.T) {
	t.Parallel()
	hosts := manyHosts(12)
	server := testredis.Start(t)
	o := Options{URL: server.URL(), Prefix: "p", Partitions: 4}
	s, other := openStore(t, o), openStore(t, o)
	sub := submission("1", 100, hosts...)
	enqueue(t, s, sub)
	work(t, s, 1, hosts, func(int) queue.Result { return queue.Result{Verdict: queue.Dead, Reason: queue.ReasonGone} })
	s.reporting.Wait()
	checkDone(t, s, "0/12/0")
	neverReports(s)

	home := s.partitionOf(sub.ID)
	letters, err := s.DeadLetters(t.Context(), queue.DeadLetterFilter{}, queue.Page{Limit: 100})
	if err != nil || len(letters.Items) != len(hosts) {
		t.Fatal(letters, err)
	}
	byPart := map[*partition][]*queue.DeadLetter{}
	for i := range letters.Items {
		p := s.partitionOf(letters.Items[i].Host)
		byPart[p] = append(byPart[p], &letters.Items[i])
	}
	for p, some := range byPart {
		if p == home {
			continue
		}
		ids := activitiesOf(p, some)
		known, err := p.standing(t.Context(), ids, true)
		if err == nil {
			_, err = s.tellHomes(t.Context(), known)
		}
		if err != nil {
			t.Fatal(err)
		}
		before, late := doneOf(t, s), slices.Clone(known)
		for i := range late { // one of before, that it has ended
			late[i].number--
			late[i].rest = strings.Replace(late[i].rest, "\xc2", "\xc3", 1) // false, true in MessagePack
		}
		if err := s.makeReports(t.Context(), late); err != nil {
			t.Fatal(err)
		}
		checkDone(t, s, before...)
		if server.Must("ZCARD", p.Key(rediskeys.Ended)) != "1" {
			t.Error("a late report is taken for the one that is due")
		}
		if _, err := other.report(t.Context(), p, []string{known[0].name()}); err != nil { // as another node's Sweep does meanwhile
			t.Fatal(err)
		}
		if n, _, err := p.revive(t.Context(), some, time.Hour, known); n != -1 || err != nil {
			t.Errorf("though another report was made meanwhile, %d letters are retried, %v", n, err)
		}
		if n, _, err := s.revive(t.Context(), p, some, time.Hour); n != len(some) || err != nil {
			t.Errorf("of %d letters %d are retried, %v", len(some), n, err)
		}
		break
	}
	before := doneOf(t, s)
	if n := len(before); n > 2 { // once more, as the retry seemed to have come to nothing
		t.Errorf("the activity is done %d times", n)
	}
	sweepReports(t, server, other)
	work(t, other, 2, hosts, func(int) queue.Result { return queue.Result{} })
	other.reporting.Wait()
	all := doneOf(t, other)
	if len(all) != len(before)+1 || all[len(all)-1] == "0/12/0" {
		t.Errorf("activities that are done: %v, and before what was retried was delivered: %v", all, before)
	}
}

// TestDoneBeforeAllIsReleased checks that an activity is done once, though the rest of it, all refused, is released after that.
func TestDoneBeforeAllIsReleased(t *testing.T) {
	t.Parallel()
	hosts := manyHosts(2 * laneChunk)
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	for _, host := range hosts[laneChunk:] {
		if _, err := s.Act(t.Context(), host, queue.Block, queue.Order{}); err != nil {
			t.Fatal(err)
		}
	}
	in := acceptOnly(t, s, submission("1", 100, hosts...))
	for n, to := range split(t, in)[in.home] {
		if _, err := s.releaseSome(t.Context(), in.home, in.id, strconv.Itoa(n), hostsOf(to)); err != nil {
			t.Fatal(err)
		}
		work(t, s, uint64(n+1), hosts, func(int) queue.Result { return queue.Result{Spent: true} })
		checkDone(t, s, fmt.Sprintf("%d/0/0", laneChunk))
	}
}

// TestPartOfStagedIsNotDone checks that an activity is not done before all of it came into its lanes, and that a partition
// where all of it was refused holds up nothing.
func TestPartOfStagedIsNotDone(t *testing.T) {
	t.Parallel()
	hosts := manyHosts(40)
	server := testredis.Start(t)
	s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: 4})
	refusing := s.partitionOf(hosts[0])
	for _, host := range hosts {
		if s.partitionOf(host) == refusing {
			if _, err := s.Act(t.Context(), host, queue.Block, queue.Order{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	in := acceptOnly(t, s, submission("1", 100, hosts...))
	all := split(t, in)
	last := s.parts[(refusing.N+1)%4]
	for p, some := range all {
		for n, to := range some {
			if p == last {
				continue
			}
			if _, err := s.releaseSome(t.Context(), p, in.id, fmt.Sprint(n), hostsOf(to)); err != nil {
				t.Fatal(err)
			}
		}
	}
	oneDies(t, s, 1, hosts)
	s.reporting.Wait()
	checkDone(t, s)
	if err := s.releaseRest(t.Context(), last, in.id); err != nil {
		t.Fatal(err)
	}
	work(t, s, 2, hosts, func(int) queue.Result { return queue.Result{Spent: true} })
	s.reporting.Wait()
	a, err := s.Activity(t.Context(), in.sub.ID)
	if err != nil || a.Counts.Pending > 0 || a.Counts.Total == len(hosts) {
		t.Fatalf("counts are %+v, %v", a.Counts, err)
	}
	checkDone(t, s, fmt.Sprintf("%d/1/0", a.Counts.Delivered))
}

// TestImportedIsDone checks that the feed says when the rest of an activity ends that was moved here, and nothing of what ended
// before.
func TestImportedIsDone(t *testing.T) {
	t.Parallel()
	hosts := manyHosts(20)
	for _, partitions := range []int{1, 4} {
		s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p", Partitions: partitions})
		over, rest := submission("over", 100, hosts...), submission("rest", 100, hosts...)
		for _, sub := range []*queue.Submission{over, rest} {
			moved := &queue.MovedActivity{Activity: sub.Activity, Delivered: 3, Finished: time.Hour}
			moved.CreatedAt = time.Now().Add(-2 * time.Hour)
			for i, r := range sub.Recipients {
				d := queue.MovedDelivery{Recipient: r, TTL: time.Hour}
				if sub == over || i > 0 {
					d.Reason, d.DiedAt = queue.ReasonGone, time.Now().Add(-time.Hour)
				}
				moved.Deliveries = append(moved.Deliveries, d)
			}
			if n, err := s.Import(t.Context(), []queue.Record{{Activity: moved}}); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		s.reporting.Wait()
		if all := feedOf(t, s, ""); len(all) > 0 {
			t.Errorf("the feed has what happened elsewhere: %+v", all)
		}
		work(t, s, 1, hosts, func(int) queue.Result { return queue.Result{} })
		s.reporting.Wait()
		checkDone(t, s, "4/19/0")
	}
}

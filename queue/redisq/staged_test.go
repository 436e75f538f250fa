package redisq

import (
	"fmt"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// acceptOnly stores a submission, but leaves it to others to move it into the lanes, as while a large one is released.
func acceptOnly(t *testing.T, s *Store, sub *queue.Submission) *intake {
	t.Helper()
	in, r := stageOnly(t, s, sub)
	commitStaged(t, in, r, nil)
	return in
}

// TestStandsBehindStaged checks that what is accepted after a submission stands behind it in each lane, whether that is
// in the lanes yet or not, and that nobody waits for one that nobody was told of yet.
func TestStandsBehindStaged(t *testing.T) {
	const host = "a.example"
	for name, c := range map[string]struct {
		partitions, recipients int // recipients of the later one, besides those on the host
	}{"in one script": {1, 0}, "in steps": {1, 2 * laneChunk}, "in several partitions": {3, 1}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := testredis.Start(t)
			s := openStore(t, Options{URL: server.URL(), Prefix: "p", Partitions: c.partitions})
			accept := func(uri string) *queue.Submission {
				sub := submission(uri, 100, append([]string{host}, manyHosts(c.recipients)...)...)
				sub.OrderingKey = "thread"
				return sub
			}
			undecided, staged := stageOnly(t, s, accept("undecided"))
			first := acceptOnly(t, s, accept("first"))
			enqueue(t, s, accept("second"))
			commitStaged(t, undecided, staged, nil)
			enqueue(t, s, accept("third"))
			if diff := cmp.Diff([]string{"first", "second", "undecided", "third"}, inOrder(t, s, host)); diff != "" {
				t.Errorf("order (-want +got):\n%s", diff)
			}
			_ = first.releaseAll(t.Context(), split(t, first))
			_ = undecided.releaseAll(t.Context(), split(t, undecided))
			work(t, s, 1, manyHosts(c.recipients), func(int) queue.Result { return queue.Result{Spent: true} })
			for _, key := range keysOf(t, server) {
				if strings.HasSuffix(key, ":ordered") {
					t.Errorf("%s is left: %q", key, server.Must("HGETALL", key))
				}
			}
		})
	}
}

// inOrder takes what a lane gives, one after the other, and returns the last parts of the URIs.
func inOrder(t *testing.T, s *Store, host string) (uris []string) {
	t.Helper()
	lease := lockmgr.Lease{Host: host, Token: 1, TTL: time.Minute}
	for {
		turns, err := s.Take(t.Context(), []lockmgr.Lease{lease}, 10)
		if err != nil {
			t.Fatal(err)
		}
		st := queue.Settlement{}
		for _, d := range turns[0].Deliveries {
			uris = append(uris, d.Activity.URI[len("https://app.example/users/alice/statuses/"):])
			st.Results = append(st.Results, queue.Result{ID: d.ID, Spent: true})
		}
		if len(st.Results) == 0 {
			return uris
		}
		if _, err := s.Settle(t.Context(), lease, st, 0); err != nil {
			t.Fatal(err)
		}
	}
}

// TestStagedIsThere checks that an activity that is accepted, but not in the lanes yet, is listed and cancelled whole.
func TestStagedIsThere(t *testing.T) {
	t.Parallel()
	const hosts = 40
	for _, partitions := range []int{1, 3} {
		s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p", Partitions: partitions})
		listed, cancelled := submission("listed", 100, manyHosts(hosts)...), submission("cancelled", 100, manyHosts(hosts)...)
		acceptOnly(t, s, listed)
		acceptOnly(t, s, cancelled)
		if list, err := s.Deliveries(t.Context(), listed.ID, queue.StatePending, queue.Page{Limit: 2 * hosts}); err != nil || len(list.Items) != hosts {
			t.Errorf("of %d deliveries %d are listed, %v", hosts, len(list.Items), err)
		}
		a, err := s.Cancel(t.Context(), cancelled.ID)
		if want := (queue.Counts{Total: hosts, Cancelled: hosts}); err != nil || a.Counts != want {
			t.Errorf("Cancel left %+v, %v", a.Counts, err)
		}
	}
}

// TestLargeIsReleased checks that all of a large submission is in the lanes once its store is closed, though its caller
// was answered before.
func TestLargeIsReleased(t *testing.T) {
	t.Parallel()
	for _, partitions := range []int{1, 3} {
		o := Options{URL: testredis.Start(t).URL(), Prefix: "p", Partitions: partitions}
		s := openStore(t, o)
		const activities = 2 * maxReleasing
		hosts := manyHosts(large + 1)
		for i := range activities {
			sub := submission(fmt.Sprint(i), 100, hosts...)
			if r, err := s.Enqueue(t.Context(), sub); err != nil || r.Accepted != len(hosts) {
				t.Fatalf("Enqueue gave %+v, %v", r, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		s = openStore(t, o)
		given := 0
		work(t, s, 1, hosts, func(int) queue.Result {
			given++
			return queue.Result{Spent: true}
		})
		if given != activities*len(hosts) {
			t.Errorf("%d deliveries were given, want %d", given, activities*len(hosts))
		}
	}
}

// TestAnotherReleases checks that a node that dies before it moved a large submission into the lanes is stood in for by
// another as soon as what is staged can be told to be left alone, and not when that happens to sweep. So is one that was
// asked again for what its dead neighbour had told nobody of.
func TestAnotherReleases(t *testing.T) {
	for name, dies := range map[string]func(in *intake, other *Store){
		"after its answer": func(in *intake, _ *Store) { in.release(t.Context(), nil) },
		"before its answer": func(in *intake, other *Store) {
			again := *in.sub
			again.ID = uuid.Must(uuid.NewV7()).String()
			if r, err := other.Enqueue(t.Context(), &again); err != nil || r.ID != in.sub.ID {
				t.Errorf("asked again, the other gave %+v, %v", r, err)
			}
		},
	} {
		for _, partitions := range []int{1, 3} {
			t.Run(fmt.Sprintf("%s, %d partitions", name, partitions), func(t *testing.T) {
				t.Parallel()
				server := testredis.Start(t)
				o := Options{URL: server.URL(), Prefix: "p", Partitions: partitions}
				s, other := openStore(t, o), openStore(t, o)
				awaitListener(t, server, "p", "2")
				if next, err := other.Sweep(t.Context()); err != nil || next != queue.MaxIdle {
					t.Fatalf("the first sweep gave %s, %v", next, err)
				}
				hosts := manyHosts(large + 1)
				dies(acceptOnly(t, s, submission("1", 100, hosts...)), other)
				for began := time.Now(); server.Must("ZCARD", s.parts[0].Key(rediskeys.Staged)) != "0"; time.Sleep(10 * time.Millisecond) {
					if next, err := other.Sweep(t.Context()); err != nil || time.Since(began) > queue.MaxIdle/2 {
						t.Fatalf("the other means to sweep in %s, %v", next, err)
					}
				}
				sweepAll(t, other) // other partitions
				given := 0
				work(t, other, 1, hosts, func(int) queue.Result {
					given++
					return queue.Result{Spent: true}
				})
				if given != len(hosts) {
					t.Errorf("%d deliveries were given, want %d", given, len(hosts))
				}
			})
		}
	}
}

// TestStagedIsListed checks that what is accepted for a host is listed there before it is in the lane, behind what is.
func TestStagedIsListed(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	for _, uri := range []string{"first", "second"} {
		enqueue(t, s, submission(uri, 100, "a.example"))
	}
	acceptOnly(t, s, submission("staged", 100, append([]string{"a.example"}, manyHosts(2*laneChunk)...)...))
	list, err := s.HostDeliveries(t.Context(), "a.example", queue.Page{Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	var uris []string
	for _, d := range list.Items {
		uris = append(uris, path.Base(d.URI))
	}
	if diff := cmp.Diff([]string{"first", "second", "staged"}, uris); diff != "" {
		t.Errorf("pending for the host (-want +got):\n%s", diff)
	}
}

// TestAcceptedBeforeItWasStored checks that a search goes by when an activity was accepted, as it is shown, and not by when it
// was stored, which may take a while.
func TestAcceptedBeforeItWasStored(t *testing.T) {
	s := openStore(t, Options{URL: testredis.Start(t).URL(), Prefix: "p"})
	in, err := s.newIntake(t.Context(), submission("1", 100, manyHosts(2*laneChunk)...))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := in.takeClaim(t.Context()); err != nil {
		t.Fatal(err)
	}
	accepted, err := strconv.ParseInt(in.claimed, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	for stored := int64(0); stored <= accepted+1; time.Sleep(time.Millisecond) {
		stored = s.parts[0].lag.stored(time.Now())
	}
	r, err := in.stageAll(t.Context(), split(t, in))
	if err != nil {
		t.Fatal(err)
	}
	commitStaged(t, in, r, nil)
	_ = in.releaseAll(t.Context(), split(t, in))
	for after, want := range map[int64]int{0: 1, 1: 0} {
		list, err := s.Activities(t.Context(), queue.ActivityFilter{Since: s.parts[0].lag.shown(accepted + after)}, queue.Page{Limit: 10})
		if err != nil || len(list.Items) != want {
			t.Errorf("%d ms after it was accepted: %d activities, %v, want %d", after, len(list.Items), err, want)
		}
	}
}

package redisq

import (
	"context"
	"errors"
	"fmt"
	"path"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// TestSettledTogether checks that settlements that one script writes do what they do one after the other, that one which is
// refused or fails at a key of its own is no concern of the others, and that each gets its own answer.
func TestSettledTogether(t *testing.T) {
	for _, c := range []struct {
		name    string
		bad     string
		scripts int // of them all
		answers []string
	}{
		{"all are well", "nothing", 1, []string{"", "", "lease not held", "", "", "", "", ""}},
		{"one fails", "h:worse.example", 2, []string{"", "", "lease not held", "h:worse.example", "", "", "", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			server := testredis.Start(t)
			want, _ := settled(t, server, "alone", c.bad, func(s *Store, n int, settle func(int) string) (errs []string) {
				for i := range n {
					errs = append(errs, settle(i))
				}
				return errs
			})
			got, scripts := settled(t, server, "together", c.bad, func(s *Store, n int, settle func(int) string) []string {
				return together(t, s.parts[0].settles, n, settle)
			})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-one by one +together):\n%s", diff)
			}
			if diff := cmp.Diff(c.answers, got[0]); diff != "" {
				t.Errorf("answers (-want +got):\n%s", diff)
			}
			if scripts != c.scripts {
				t.Errorf("%d scripts ran, want %d", scripts, c.scripts)
			}
		})
	}
}

// settled settles deliveries to eight hosts, once something else has overwritten a key, and returns what is to be seen of
// that, the errors first, and how many scripts settling took.
func settled(t *testing.T, server *testredis.Server, prefix, bad string, all func(s *Store, n int, settle func(int) string) []string) (seen []any, scripts int) {
	t.Helper()
	hosts := []string{
		"done.example", "retry.example", "late.example", "worse.example", "dead.example", "behind.example", "last.example", "key.example",
	}
	s := openStore(t, Options{URL: server.URL(), Prefix: prefix})
	subs := []*queue.Submission{
		submission("1", 100, hosts...), submission("2", 100, "done.example", "last.example"), submission("3", 100, "behind.example"),
	}
	subs[2].OrderingKey = subs[0].OrderingKey // waits behind it
	for _, sub := range subs {
		enqueue(t, s, sub)
	}
	leases, settlements := settlementsOf(t, s, hosts)
	server.Must("SET", prefix+":{p0}:"+bad, "of another type")
	before := server.Calls("evalsha")
	seen = []any{all(s, len(hosts), func(i int) string {
		_, err := s.Settle(context.Background(), leases[i], settlements[i], 0)
		return errorText(err)
	})}
	scripts = server.Calls("evalsha") - before
	server.Must("DEL", prefix+":{p0}:"+bad)
	next, err := s.Take(t.Context(), []lockmgr.Lease{{Host: "behind.example", Token: leases[5].Token + 1000, TTL: time.Minute}}, 10)
	if err != nil || len(next) != 1 || len(next[0].Deliveries) != 1 || next[0].Deliveries[0].Activity.URI != subs[2].URI {
		t.Errorf("then the lane gives %+v, %v, want what waited", next, err)
	}
	seen = append(seen, overview(t, s), server.Must("EXISTS", prefix+":{p0}:lease:done.example"))
	for _, sub := range subs {
		a, err := s.Activity(t.Context(), sub.ID)
		if err != nil {
			t.Fatal(err)
		}
		seen = append(seen, a.Counts, a.State)
	}
	return seen, scripts
}

// settlementsOf takes all that may go of hosts, and returns a settlement for each. That of late.example is too late.
func settlementsOf(t *testing.T, s *Store, hosts []string) (leases []lockmgr.Lease, all []queue.Settlement) {
	t.Helper()
	leases, err := s.Leases(time.Minute).Acquire(t.Context(), hosts)
	if err != nil || len(leases) != len(hosts) {
		t.Fatal(leases, err)
	}
	turns, err := s.Take(t.Context(), leases, 10)
	if err != nil || len(turns) != len(hosts) {
		t.Fatal(turns, err)
	}
	for _, turn := range turns {
		st := queue.Settlement{Host: &turn.Host, Release: turn.Lease.Host != "last.example"}
		for _, d := range turn.Deliveries {
			r := queue.Result{ID: d.ID, Spent: true}
			switch turn.Lease.Host {
			case "retry.example":
				r.Verdict, r.After = queue.Retry, time.Hour
			case "dead.example":
				r.Verdict, r.Reason = queue.Dead, queue.ReasonGone
			case "key.example":
				r.Verdict, r.WaitKey = queue.Defer, true
			case "late.example":
				later := turn.Lease
				later.Token += 100
				if _, err := s.Take(t.Context(), []lockmgr.Lease{later}, 1); err != nil {
					t.Fatal(err)
				}
			}
			st.Results = append(st.Results, r)
		}
		all = append(all, st)
	}
	return leases, all
}

// errorText returns the part of an error that is the same in all stores.
func errorText(err error) string {
	broken, ok := errors.AsType[*brokenKey](err)
	switch {
	case err == nil:
		return ""
	case errors.Is(err, queue.ErrNotHeld):
		return queue.ErrNotHeld.Error()
	case ok:
		_, key, _ := strings.Cut(broken.key, "}:")
		return key
	}
	return err.Error()
}

// TestTakenTogether checks that turns which take more of their lanes at the same time share a script, that each gets what is
// its own and no more than it asks for, and that a lane which is broken or lost is no concern of the others.
func TestTakenTogether(t *testing.T) {
	hosts := []string{"one.example", "deep.example", "late.example", "bad.example", "unknown.example", "empty.example"}
	for _, c := range []struct {
		bad     string
		scripts int
		want    []string
	}{
		{"nothing", 1, []string{"1 []", "1 [2 3]", "lease not held", "1 []", "lease not held", "1 []"}},
		{"q1:bad.example", 1, []string{"1 []", "1 [2 3]", "lease not held", "1 []", "lease not held", "1 []"}},
		{"h:bad.example", 2, []string{"1 []", "1 [2 3]", "lease not held", "h:bad.example", "lease not held", "1 []"}},
	} {
		t.Run(c.bad, func(t *testing.T) {
			server := testredis.Start(t)
			s := openStore(t, Options{URL: server.URL(), Prefix: "p"})
			for i := range 4 {
				to := []string{"deep.example"}
				if i == 0 {
					to = append(to, "one.example", "late.example", "bad.example", "empty.example")
				}
				enqueue(t, s, submission(strconv.Itoa(i+1), 100, to...))
			}
			if _, err := s.Take(t.Context(), []lockmgr.Lease{{Host: "late.example", Token: 9, TTL: time.Minute}}, 1); err != nil {
				t.Fatal(err)
			}
			var leases []lockmgr.Lease
			for _, host := range hosts {
				leases = append(leases, lockmgr.Lease{Host: host, Token: 5, TTL: time.Minute})
			}
			turns, err := s.Take(t.Context(), leases, 1)
			if err != nil {
				t.Fatal(err)
			}
			taken := map[string]string{}
			for _, turn := range turns {
				taken[turn.Lease.Host] = fmt.Sprint(len(turn.Deliveries))
			}
			server.Must("SET", "p:{p0}:"+c.bad, "of another type")
			before := server.Calls("evalsha")
			got := together(t, s.parts[0].settles, len(hosts), func(i int) string {
				next, err := s.Settle(context.Background(), leases[i], queue.Settlement{}, 2)
				if err != nil {
					return errorText(err)
				}
				uris := []string{}
				for _, d := range next {
					uris = append(uris, path.Base(d.Activity.URI))
				}
				return taken[hosts[i]] + " " + fmt.Sprint(uris)
			})
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if n := server.Calls("evalsha") - before; n != c.scripts {
				t.Errorf("%d scripts ran, want %d", n, c.scripts)
			}
		})
	}
}

package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestLinks(t *testing.T) {
	for i := range 1000 {
		l := linkTo(i)
		if l.RTT < nearest || l.RTT > farthest || l.Idle < hastiest || l.Idle > mostPatient || l != linkTo(i) {
			t.Errorf("host %d: %+v", i, l)
		}
	}
	if linkTo(0) == linkTo(1) {
		t.Error("all hosts are equal")
	}
}

func TestFarInboxes(t *testing.T) {
	hosts := make([]string, 100)
	for i := range hosts {
		hosts[i] = fmt.Sprintf("https://%d.example", i)
	}
	const n = 10_000
	hits := map[string]int{}
	numbers := map[string]bool{}
	inboxes := farInboxes(hosts, n, n)
	for _, inbox := range inboxes {
		host, number, _ := strings.Cut(inbox, farPath)
		hits[host]++
		numbers[number] = true
	}
	if len(numbers) != n || !numbers["10000"] || !numbers["19999"] {
		t.Errorf("%d different numbers", len(numbers))
	}
	// By Zipf's law the second gets half as much as the first, and the tenth a tenth.
	first := hits[hosts[0]]
	for _, rank := range []int{2, 10} {
		if got := hits[hosts[rank-1]] * rank; got < first*3/4 || got > first*5/4 {
			t.Errorf("host %d gets %d of %d, the first %d", rank, hits[hosts[rank-1]], n, first)
		}
	}
	hostsOf := func(inboxes []string) (of []string) {
		for _, inbox := range inboxes {
			host, _, _ := strings.Cut(inbox, farPath)
			of = append(of, host)
		}
		return of
	}
	if diff := cmp.Diff(hostsOf(farInboxes(hosts, 0, n)), hostsOf(inboxes)); diff != "" {
		t.Errorf("bare loop and node get other hosts: %s", diff)
	}
}

func TestOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var at [3]time.Duration
		err := onTime(t.Context(), 3, time.Second, func(_ context.Context, i int) error {
			at[i] = time.Since(began)
			time.Sleep(time.Minute)
			return nil
		})
		if at != [3]time.Duration{0, time.Second, 2 * time.Second} || err != nil {
			t.Errorf("called after %v: %v", at, err)
		}
		if took := time.Since(began); took != 62*time.Second {
			t.Errorf("returned after %s", took)
		}
		failed := errors.New("failed")
		calls := 0
		err = onTime(t.Context(), 3, time.Second, func(context.Context, int) error {
			calls++
			return failed
		})
		if !errors.Is(err, failed) || calls != 1 {
			t.Errorf("%v after %d calls", err, calls)
		}
	})
}

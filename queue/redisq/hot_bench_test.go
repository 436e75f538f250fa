package redisq

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
)

// benched is a Redis of a benchmark's own with a store on it.
type benched struct {
	b      *testing.B
	server *testredis.Server
	store  *Store

	cpu     float64 // of the server, in s, outside of what is measured
	longest float64 // script, in ms
}

func startBench(b *testing.B) *benched {
	server := testredis.Start(b, "--auto-aof-rewrite-percentage", "0") // its child would be taken for the server
	server.Must("CONFIG", "SET", "latency-tracking-info-percentiles", "50 100")
	return &benched{b: b, server: server, store: openStore(b, Options{URL: server.URL(), Prefix: "p"})}
}

func (r *benched) used() float64 {
	total := 0.0
	for line := range strings.Lines(r.server.Must("INFO", "cpu")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		if name == "used_cpu_user" || name == "used_cpu_sys" {
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				r.b.Fatal(err)
			}
			total += n
		}
	}
	return total
}

// begin starts to measure; what was done so far does not count.
func (r *benched) begin() {
	r.server.Must("CONFIG", "RESETSTAT")
	r.cpu = r.used()
	r.b.ResetTimer()
}

// know makes hosts known that have nothing pending.
func (r *benched) know(hosts []string) {
	sub := submission("first", 10, hosts...)
	enqueue(r.b, r.store, sub)
	if _, err := r.store.Cancel(r.b.Context(), sub.ID); err != nil {
		r.b.Fatal(err)
	}
}

// aside does something that does not count.
func (r *benched) aside(do func()) {
	r.b.StopTimer()
	r.longest = max(r.longest, r.slowest())
	before := r.used()
	do()
	r.cpu += r.used() - before
	r.server.Must("CONFIG", "RESETSTAT")
	r.b.StartTimer()
}

// report tells what so many deliveries cost, and how long the longest script ran.
func (r *benched) report(deliveries int) {
	elapsed, cpu := r.b.Elapsed().Seconds(), r.used()-r.cpu
	r.b.ReportMetric(float64(deliveries)/elapsed, "deliveries/s")
	r.b.ReportMetric(cpu*1e6/float64(deliveries), "redis-µs/delivery")
	r.b.ReportMetric(max(r.longest, r.slowest()), "longest-ms")
}

// commands returns how many commands the server ran since its counters began, in scripts and else.
func (r *benched) commands() (n int) {
	for line := range strings.Lines(r.server.Must("INFO", "commandstats")) {
		if _, text, ok := strings.Cut(line, ":calls="); ok {
			text, _, _ = strings.Cut(text, ",")
			calls, err := strconv.Atoi(text)
			if err != nil {
				r.b.Fatal(err)
			}
			n += calls
		}
	}
	return n
}

// slowest is how long the longest script ran since the server's counters began, in ms.
func (r *benched) slowest() float64 {
	_, text, _ := strings.Cut(r.server.Must("INFO", "latencystats"), "latency_percentiles_usec_evalsha:")
	_, text, _ = strings.Cut(text, "p100=")
	text, _, _ = strings.Cut(text, "\r")
	us, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0 // none ran
	}
	return us / 1e3
}

// BenchmarkFanOut stores an activity for many hosts: such as were never heard of, such as have nothing pending, and
// such as have.
func BenchmarkFanOut(b *testing.B) {
	for _, n := range []int{2000, 20_000} {
		for _, kind := range []string{"new", "idle", "pending"} {
			b.Run(fmt.Sprintf("%s/%d", kind, n), func(b *testing.B) { fanOut(b, kind, n) })
		}
	}
}

func fanOut(b *testing.B, kind string, n int) {
	r, calls := startBench(b), 0
	store := func() *queue.Submission {
		hosts := manyHosts(n)
		for i := range hosts {
			if kind == "new" {
				hosts[i] = fmt.Sprintf("x%d-%s", calls, hosts[i])
			}
		}
		calls++
		sub := submission(strconv.Itoa(calls), 2600, hosts...)
		enqueue(b, r.store, sub)
		return sub
	}
	empty := func(sub *queue.Submission) {
		if kind == "pending" {
			return
		}
		if _, err := r.store.Cancel(b.Context(), sub.ID); err != nil {
			b.Fatal(err)
		}
	}
	empty(store())
	r.begin()
	for range b.N {
		sub := store()
		r.aside(func() { empty(sub) })
	}
	r.report(b.N * n)
}

// BenchmarkEnqueue stores activities for one inbox each, from many callers at once: with an idempotency key for each, without, and
// many for few hosts, so that most are beside others of their lanes or in backlogs.
func BenchmarkEnqueue(b *testing.B) {
	b.Run("keyed", func(b *testing.B) { enqueueOften(b, 5000, true) })
	b.Run("plain", func(b *testing.B) { enqueueOften(b, 5000, false) })
	b.Run("deep", func(b *testing.B) { enqueueOften(b, 200, false) })
}

func enqueueOften(b *testing.B, hostCount int, keyed bool) {
	r := startBench(b)
	hosts := manyHosts(hostCount)
	r.know(hosts)
	var calls atomic.Int64
	b.SetParallelism(32)
	r.begin()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			n := int(calls.Add(1))
			sub := submission(strconv.Itoa(n), 2600, hosts[n%len(hosts)])
			if !keyed {
				sub.Idempotency = queue.Idempotency{}
			}
			enqueue(b, r.store, sub)
		}
	})
	r.report(b.N)
	b.ReportMetric(float64(r.commands())/float64(b.N), "commands/delivery")
}

// BenchmarkTurn finds lanes, leases them, takes the one delivery of each and settles it, twenty at a time.
func BenchmarkTurn(b *testing.B) {
	const lanes = 20
	r := startBench(b)
	leases, hosts := r.store.Leases(time.Minute), manyHosts(5000)
	r.know(hosts)
	for i := range b.N {
		enqueue(b, r.store, submission(strconv.Itoa(i), 2600, hosts[i%len(hosts)]))
	}
	r.begin()
	for done := 0; done < b.N; {
		o, err := r.store.Due(b.Context(), queue.Want{Lanes: lanes, Suspect: lanes})
		if err != nil {
			b.Fatal(err)
		}
		held, err := leases.Acquire(b.Context(), o.Hosts)
		if err != nil {
			b.Fatal(err)
		}
		turns, err := r.store.Take(b.Context(), held, 1)
		if err != nil {
			b.Fatal(err)
		}
		for _, t := range turns {
			done += r.settle(t)
		}
		r.release(leases, held)
	}
	r.report(b.N)
}

func (r *benched) settle(t queue.Turn) int {
	st := queue.Settlement{Release: true, Host: &t.Host}
	for _, d := range t.Deliveries {
		st.Results = append(st.Results, queue.Result{ID: d.ID, Spent: true})
	}
	if _, err := r.store.Settle(r.b.Context(), t.Lease, st, 0); err != nil {
		r.b.Fatal(err)
	}
	return len(t.Deliveries)
}

func (r *benched) release(leases *lockmgr.Redis, held []lockmgr.Lease) {
	if err := leases.Release(r.b.Context(), held); err != nil {
		r.b.Fatal(err)
	}
}

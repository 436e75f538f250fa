package redisq

import (
	"crypto/sha256"
	flags "flag" // there is a function flag
	"fmt"
	"log/slog"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/internal/testredis"
	"github.com/postrider/postrider/queue"
)

var (
	fleetNodes       = flags.Int("fleet.nodes", 16, "nodes of BenchmarkFleet")
	fleetMasters     = flags.Int("fleet.masters", 6, "masters of its cluster")
	fleetPartitions  = flags.Int("fleet.partitions", 64, "partitions of its store")
	fleetHosts       = flags.Int("fleet.hosts", 4000, "hosts, a quarter of them dead")
	fleetPending     = flags.Int("fleet.pending", 80_000, "deliveries that are pending at first")
	fleetFan         = flags.Int("fleet.fan", 1000, "inboxes of each activity")
	fleetBytes       = flags.Int("fleet.bytes", 2600, "bytes of each activity")
	fleetConcurrency = flags.Int("fleet.concurrency", 64, "attempts in flight on each node; they take no time, so that more would only wait for Redis")
	fleetAnswer      = flags.Duration("fleet.answer", 0, "how long a healthy host takes to answer")
	fleetLease       = flags.Duration("fleet.lease", 30*time.Second, "how long a lease lasts")
	fleetTimeout     = flags.Duration("fleet.timeout", 10*time.Minute, "when it is given up")
)

// fleetBench is one run of BenchmarkFleet.
type fleetBench struct {
	b       *testing.B
	cluster *testredis.Cluster
	homes   []int // the master of each partition
	options Options
	log     *fleetLog
	ledger  *ledger
	nodes   []*fleetNode
	healthy int64
	begun   time.Time
	table   strings.Builder
}

const fleetKeys = 256 // actors, each with a key

// BenchmarkFleet has a fleet in one process deliver what is pending for many hosts, a quarter of them dead, on a cluster. While it
// works a node joins, a node leaves, all are restarted one after the other, and a node dies. It tells what a delivery costs, how the
// work is shared, and how long work waits, and fails if a delivery is lost or made twice for another reason than that a node died.
//
// Signatures and HTTP are not part of it: hosts answer at once, in the same process.
func BenchmarkFleet(b *testing.B) {
	for range b.N {
		f := newFleetBench(b)
		f.fill()
		f.run()
		f.check()
		fmt.Fprintf(os.Stderr, "\n%s", &f.table) // Log would cut it off
	}
}

func newFleetBench(b *testing.B) *fleetBench {
	f := &fleetBench{b: b, cluster: testredis.StartCluster(b, *fleetMasters), log: newFleetLog(), options: fleetSettings.Options}
	for _, s := range f.cluster.Nodes {
		s.Must("CONFIG", "SET", "auto-aof-rewrite-percentage", "0") // a rewrite would be measured with whatever stage it is in
		s.Must("CONFIG", "SET", "cluster-node-timeout", "15000")    // as it is by default: all processors are busy
	}
	f.options.URL = f.cluster.URL()
	f.options.Partitions = *fleetPartitions
	f.options.Log = slog.New(f.log)
	fan := min(*fleetFan, *fleetHosts)
	spare := *fleetNodes + 2 // one joins
	keys := openStore(b, f.options).keys
	for n := range *fleetPartitions {
		f.homes = append(f.homes, f.cluster.Home(f.cluster.Slot(keys.Partition(n).Key(rediskeys.Meta))))
	}
	f.ledger = newLedger(*fleetHosts, fan, *fleetPending/fan, fleetSettings.Window, spare, *fleetPartitions, func(host int) int {
		return keys.PartitionOf(fleetHost(host))
	})
	f.healthy = f.ledger.left.Load()
	for i := range *fleetNodes {
		f.nodes = append(f.nodes, f.open(i))
	}
	b.Cleanup(func() {
		for _, n := range f.nodes {
			_ = n.leave() // it may have left
		}
	})
	return f
}

// open opens a node. As a supervisor does, it tries again where that fails while Redis is slow.
func (f *fleetBench) open(number int) *fleetNode {
	f.b.Helper()
	for range 5 {
		n, err := openNode(f.b.Context(), f.options, number, f.ledger, *fleetAnswer, *fleetLease, *fleetConcurrency)
		if err == nil {
			return n
		}
		f.options.Log.Warn("a node does not start", "error", err)
	}
	f.b.Fatal("a node does not start")
	return nil
}

// say adds a line to the table.
func (f *fleetBench) say(what, format string, args ...any) {
	_, _ = fmt.Fprintf(&f.table, "%-44s %s\n", what, fmt.Sprintf(format, args...))
}

// fill stores what is to be delivered.
func (f *fleetBench) fill() {
	ctx := f.b.Context()
	for i := range fleetKeys {
		if _, err := f.nodes[0].store.PutKey(ctx, queue.Key{ID: fleetKey(i), Sealed: make([]byte, 1200)}); err != nil {
			f.b.Fatal(err)
		}
	}
	before := costOf(f.b, f.cluster, f.ledger)
	activities := len(f.ledger.first) / f.ledger.fan
	next := make(chan int)
	var callers sync.WaitGroup
	for i := range 8 {
		callers.Go(func() {
			for activity := range next {
				if err := f.enqueue(f.nodes[i%len(f.nodes)], activity); err != nil {
					f.b.Error(err)
				}
			}
		})
	}
	for activity := range activities {
		next <- activity
	}
	close(next)
	callers.Wait()
	for _, n := range f.nodes {
		n.store.releases.Wait()
	}
	d := costOf(f.b, f.cluster, f.ledger).since(before)
	took, stored := d.at.Sub(before.at).Seconds(), float64(len(f.ledger.first))
	f.say("intake, deliveries/s", "%.0f (%.0f in %.0f s)", stored/took, stored, took)
	f.say("intake, CPU of Redis and nodes a delivery", "%.0f µs, %.0f µs", total(d.masters)/stored*1e6, d.nodes/stored*1e6)
	f.b.ReportMetric(stored/took, "accepted/s")
}

func fleetKey(n int) string {
	return fmt.Sprintf("https://app.example/users/%d#main-key", n%fleetKeys)
}

func (f *fleetBench) enqueue(n *fleetNode, activity int) error {
	id := uuid.Must(uuid.NewV7())
	sub := &queue.Submission{
		Activity: queue.Activity{
			ID: id.String(), URI: fmt.Sprintf("https://app.example/statuses/%d", activity), Type: "Create", KeyID: fleetKey(activity),
			OrderingKey: fmt.Sprint(activity), Priority: queue.Priority(activity % queue.Priorities), Body: fleetBody(activity, *fleetBytes),
		},
		TTL: 72 * time.Hour, Idempotency: queue.Idempotency{Key: sha256.Sum256(id[:])},
	}
	for _, host := range f.ledger.to(activity) {
		name := fleetHost(host)
		sub.Recipients = append(sub.Recipients, queue.Recipient{Inbox: "https://" + name + "/inbox", Host: name})
	}
	r, err := n.store.Enqueue(f.b.Context(), sub)
	if err == nil && r.Accepted != len(sub.Recipients) {
		err = fmt.Errorf("accepted %d of %d", r.Accepted, len(sub.Recipients))
	}
	return err
}

// done returns the share of healthy deliveries that arrived.
func (f *fleetBench) done() float64 { return 1 - float64(f.ledger.left.Load())/float64(f.healthy) }

// await waits until something is so, or all is delivered, and returns how long that took.
func (f *fleetBench) await(is func() bool) time.Duration {
	start := time.Now()
	for !is() && f.ledger.left.Load() > 0 && time.Since(f.begun) < *fleetTimeout {
		time.Sleep(5 * time.Millisecond)
	}
	return time.Since(start)
}

// reach waits until a share of the healthy deliveries has arrived.
func (f *fleetBench) reach(share float64) { f.await(func() bool { return f.done() >= share }) }

// run delivers, in stages that begin as shares of the work are done.
func (f *fleetBench) run() {
	f.b.ResetTimer()
	f.begun = time.Now()
	f.ledger.begin(f.begun)
	before := costOf(f.b, f.cluster, f.ledger)
	for _, n := range f.nodes {
		n.deliver()
	}
	f.reach(0.05)
	f.say("first twentieth", "%.1f s, longest pause of a partition %s", time.Since(f.begun).Seconds(), f.pause())
	f.steady(0.2)
	f.stage("a node joins", 0.25, f.join)
	f.stage("a node leaves", 0.35, f.leave)
	f.stage("all are restarted", 0.45, f.restart)
	f.stage("a node dies", 0.9, f.die)
	f.reach(1)
	took := time.Since(f.begun)
	f.b.StopTimer()
	f.say("until the last healthy delivery", "%.1f s; longest pause of a partition since the death %s", took.Seconds(), f.pause())
	f.sayWaits()
	f.costs("the whole run", costOf(f.b, f.cluster, f.ledger).since(before), took)
	f.b.ReportMetric(float64(f.healthy)/took.Seconds(), "deliveries/s")
}

func (f *fleetBench) pause() string { return rounded(f.ledger.pause(time.Now())) }

func rounded(d time.Duration) string { return fmt.Sprintf("%.2f s", d.Seconds()) }

// stage does something to the fleet once a share of the work is done.
func (f *fleetBench) stage(name string, share float64, do func() string) {
	f.reach(share)
	f.say("before: "+name, "longest pause of a partition %s", f.pause())
	repeats, done := f.ledger.repeats.Load(), f.done()
	start := time.Now()
	what := do()
	rate := (f.done() - done) * float64(f.healthy) / time.Since(start).Seconds()
	f.say(name, "%s; longest pause of a partition %s, repeats %d, %.0f deliveries/s, then %.0f %% done",
		what, f.pause(), f.ledger.repeats.Load()-repeats, rate, 100*f.done())
}

// steady measures the fleet while nothing is done to it.
func (f *fleetBench) steady(until float64) {
	before := costOf(f.b, f.cluster, f.ledger)
	f.reach(until)
	d := costOf(f.b, f.cluster, f.ledger).since(before)
	f.costs("undisturbed", d, d.at.Sub(before.at))
	f.shares(d)
	f.b.ReportMetric(total(d.masters)/d.deliveries*1e6, "redis-µs/delivery")
	f.b.ReportMetric(d.nodes/d.deliveries*1e6, "node-µs/delivery")
	f.b.ReportMetric(d.scripts/d.deliveries, "scripts/delivery")
	f.b.ReportMetric(d.in/d.deliveries, "in-B/delivery")
	f.b.ReportMetric(d.out/d.deliveries, "out-B/delivery")
}

// costs says what was used in a time.
func (f *fleetBench) costs(name string, d fleetCost, took time.Duration) {
	n := d.deliveries
	f.say(name, "%.0f deliveries/s, %.0f attempts at dead hosts/s, in %.0f s", n/took.Seconds(), d.attempts/took.Seconds(), took.Seconds())
	f.say("  for one delivery", "CPU of Redis %.0f µs, of nodes %.0f µs, scripts %.2f, publishes %.3f, bytes in %.0f, out %.0f",
		total(d.masters)/n*1e6, d.nodes/n*1e6, d.scripts/n, d.publishes/n, d.in/n, d.out/n)
	f.say("  cores", "Redis %.2f, nodes %.2f; the busiest master has %.0f %% of Redis's CPU",
		total(d.masters)/took.Seconds(), d.nodes/took.Seconds(), 100*slices.Max(d.masters)/total(d.masters))
}

// shares says how deliveries were shared among nodes, partitions and masters.
func (f *fleetBench) shares(d fleetCost) {
	masters := make([]int, len(f.cluster.Nodes))
	for n, master := range f.homes {
		masters[master] += d.parts[n]
	}
	served := make([]int, len(f.nodes))
	for i, n := range f.nodes {
		for _, serves := range n.store.company.served() {
			if serves {
				served[i]++
			}
		}
	}
	f.say("  partitions that a node serves", "%s", spreadOf(served))
	f.say("  % of deliveries that a node makes", "%s", spreadOf(percent(d.makers[:len(f.nodes)])))
	f.say("  % in a partition", "%s", spreadOf(percent(d.parts)))
	f.say("  % in a master", "%s", spreadOf(percent(masters)))
}

func percent(counts []int) (shares []float64) {
	all := total(counts)
	for _, n := range counts {
		shares = append(shares, 100*float64(n)/float64(max(1, all)))
	}
	return shares
}

// spreadOf returns the least, the median and the greatest value.
func spreadOf[T int | float64](values []T) string {
	sorted := slices.Sorted(slices.Values(values))
	return fmt.Sprintf("%.3g, %.3g, %.3g", float64(sorted[0]), float64(sorted[len(sorted)/2]), float64(sorted[len(sorted)-1]))
}

// join adds a node.
func (f *fleetBench) join() string {
	start := time.Now()
	n := f.open(len(f.nodes))
	opened := time.Since(start)
	f.nodes = append(f.nodes, n)
	n.deliver()
	_, before := f.ledger.delivered()
	since := time.Now()
	f.await(func() bool {
		_, now := f.ledger.delivered()
		made, all := now[n.number]-before[n.number], total(now)-total(before)
		if 2*made*len(f.nodes) >= all && all >= 100*len(f.nodes) {
			return true
		}
		if time.Since(since) > time.Second {
			before, since = now, time.Now()
		}
		return false
	})
	return fmt.Sprintf("open after %s, has half of a node's mean share or more after %s", rounded(opened), rounded(time.Since(start)))
}

// leave has a node leave.
func (f *fleetBench) leave() string {
	n := f.nodes[1]
	theirs := f.servedBy(n)
	start := time.Now()
	if err := n.leave(); err != nil {
		f.b.Error(err)
	}
	left := time.Since(start)
	served := f.taken(n, theirs, start)
	f.nodes = slices.Delete(f.nodes, 1, 2)
	return fmt.Sprintf("gone after %s, its %d partitions are served after %s", rounded(left), len(theirs), rounded(served))
}

// servedBy returns the partitions of which a node made the last delivery.
func (f *fleetBench) servedBy(n *fleetNode) (parts []*ledgerPart) {
	for _, p := range f.ledger.parts {
		p.mu.Lock()
		if p.node == n.number {
			parts = append(parts, p)
		}
		p.mu.Unlock()
	}
	return parts
}

// taken waits until others serve some partitions, and returns how long that took since a time.
func (f *fleetBench) taken(n *fleetNode, parts []*ledgerPart, since time.Time) time.Duration {
	f.await(func() bool {
		return !slices.ContainsFunc(parts, func(p *ledgerPart) bool { return !p.servedSince(n.number, since) })
	})
	return time.Since(since)
}

// restart restarts all nodes, one after the other.
func (f *fleetBench) restart() string {
	start := time.Now()
	var longest time.Duration
	for i, n := range f.nodes {
		began := time.Now()
		if err := n.leave(); err != nil {
			f.b.Error(err)
		}
		f.nodes[i] = f.open(n.number)
		f.nodes[i].deliver()
		longest = max(longest, time.Since(began))
	}
	return fmt.Sprintf("%d nodes in %s, each in %s at the most", len(f.nodes), rounded(time.Since(start)), rounded(longest))
}

// die has a node die.
func (f *fleetBench) die() string {
	n := f.nodes[len(f.nodes)/2]
	theirs := f.servedBy(n)
	n.die()
	start := time.Now()
	held := f.ledger.die(n.number, start)
	f.nodes = slices.DeleteFunc(f.nodes, func(other *fleetNode) bool { return other == n })
	served := f.taken(n, theirs, start)
	f.b.Cleanup(n.ended.Wait)
	return fmt.Sprintf("held %d hosts, its %d partitions are served after %s", held, len(theirs), rounded(served))
}

// sayWaits says how long the hosts waited that a dead node held.
func (f *fleetBench) sayWaits() {
	f.ledger.mu.Lock()
	defer f.ledger.mu.Unlock()
	if waits := slices.Sorted(slices.Values(f.ledger.waits)); len(waits) > 0 {
		f.say("hosts that the dead node held wait", "%s, median %s, %s at the most, with leases of %s",
			rounded(waits[0]), rounded(waits[len(waits)/2]), rounded(waits[len(waits)-1]), *fleetLease)
	}
}

// check checks that all arrived that could, and that the store counts as the hosts do.
func (f *fleetBench) check() {
	l := f.ledger
	for n, p := range l.parts {
		if p.left > 0 {
			f.b.Errorf("%d deliveries in partition %d did not arrive", p.left, n)
		}
	}
	if left := l.left.Load(); left > 0 {
		f.b.Errorf("%d deliveries did not arrive", left)
	}
	if repeats, lost := l.repeats.Load(), l.lost.Load(); repeats != lost {
		f.b.Errorf("%d deliveries were made twice, only %d of them by the node that died", repeats, lost)
	}
	if n := l.overlaps.Load(); n > 0 {
		f.b.Errorf("%d requests were more than a host may get at a time", n)
	}
	f.say("repeats of what the dead node made", "%d", l.lost.Load())
	most, allowed := l.mostAttempts(), fleetSettings.Threshold+fleetSettings.Window
	for gap := fleetSettings.CoolOff; gap < time.Since(f.begun); gap += gap {
		allowed++
	}
	f.say("attempts at dead hosts", "%d, at most %d at one", l.deadAttempts.Load(), most)
	if most > allowed {
		f.b.Errorf("%d attempts at a dead host, want at most %d", most, allowed)
	}
	for _, n := range f.nodes[1:] {
		if err := n.leave(); err != nil {
			f.b.Error(err)
		}
	}
	first := f.nodes[0]
	first.stop()
	first.ended.Wait()
	stats, err := first.store.Stats(f.b.Context())
	if err != nil {
		f.b.Fatal(err)
	}
	if pending := len(l.first) - int(f.healthy); stats.Pending != pending || stats.Delivered != f.healthy || stats.Dead != 0 {
		f.b.Errorf("the store counts %d pending, %d delivered and %d dead, want %d, %d and 0",
			stats.Pending, stats.Delivered, stats.Dead, pending, f.healthy)
	}
	f.say("pending at the end, for dead hosts", "%d", stats.Pending)
	for _, line := range f.log.counts() {
		f.say("warning", "%s", line)
	}
}

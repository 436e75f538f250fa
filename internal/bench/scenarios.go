package bench

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/postrider/postrider/internal/config"
)

const callers = 64 // of intake

// sizes say how much is measured.
type sizes struct {
	usual   int // hosts
	rounds  int // activities to each of them
	bare    int // activities to each of them by bare loops
	hosts   int // each with a new connection
	paced   int // single activities
	fanout  int // inboxes of one activity
	intake  int // single activities by many callers
	backlog []int
	far     int           // deliveries to hosts that are far away
	every   time.Duration // between activities to farTogether of those
	repeats int           // of short measurements
	rest    time.Duration
}

// sizeOf returns how much is measured for these arguments.
func sizeOf(call config.BenchCall) sizes {
	switch {
	case call.Tiny:
		return sizes{
			usual: 32, rounds: 1, bare: 1, hosts: 40, paced: 5, fanout: 200, intake: 100, backlog: []int{1000, 2000}, repeats: 1,
			rest: 100 * time.Millisecond, far: 200, every: 10 * time.Millisecond,
		}
	case call.Short:
		return sizes{
			usual: 200, rounds: 10, bare: 5, hosts: 500, paced: 30, fanout: 2000, intake: 2000, backlog: []int{1000, 10_000, 100_000},
			repeats: 3, rest: time.Second, far: 1500, every: 200 * time.Millisecond,
		}
	}
	return sizes{
		usual: 200, rounds: 40, bare: 15, hosts: 5000, paced: 100, fanout: 20_000, intake: 10_000,
		backlog: []int{1000, 10_000, 100_000, 1_000_000}, repeats: 5, rest: 3 * time.Second,
		far: 12_000, every: 50 * time.Millisecond,
	}
}

// scenarios returns the scenarios by the names in config.BenchScenarios.
func scenarios() map[string]func(*bench, context.Context) (figures, error) {
	return map[string]func(*bench, context.Context) (figures, error){
		"keepalive": (*bench).keepalive, "connections": (*bench).connections, "tls": (*bench).overTLS, "world": (*bench).world, "slow": (*bench).slow,
		"dead": (*bench).dead, "backlog": (*bench).backlog, "fanout": (*bench).fanout, "intake": (*bench).intake,
		"idle": (*bench).idle,
	}
}

// keepalive delivers over existing connections.
func (b *bench) keepalive(ctx context.Context) (figures, error) {
	return b.deliver(ctx, load{hosts: b.size.usual, activities: b.size.rounds, bare: b.size.bare, warm: true})
}

// connections delivers to many hosts, with a new connection for each delivery.
func (b *bench) connections(ctx context.Context) (figures, error) {
	return b.deliver(ctx, load{hosts: b.size.hosts, activities: 1, bare: 1})
}

// overTLS is connections with TLS.
func (b *bench) overTLS(ctx context.Context) (figures, error) {
	return b.deliver(ctx, load{hosts: b.size.hosts, activities: 1, bare: 1, tls: true})
}

// slow delivers to slow inboxes, compared with fast ones.
func (b *bench) slow(ctx context.Context) (figures, error) {
	return b.compare(ctx, load{hosts: b.size.usual, activities: b.size.rounds, path: slowPath, warm: true},
		load{hosts: b.size.usual, activities: b.size.rounds, warm: true})
}

// dead delivers to hosts with a quarter of dead ones, compared with the healthy ones alone.
func (b *bench) dead(ctx context.Context) (figures, error) {
	healthy := load{hosts: b.size.usual * 3 / 4, activities: b.size.rounds, warm: true, hasty: true}
	some := healthy
	some.hanging = b.size.usual / 8
	some.closed = b.size.usual / 8
	return b.compare(ctx, some, healthy)
}

// compare measures a load and another one to compare it with.
func (b *bench) compare(ctx context.Context, l, with load) (figures, error) {
	base, err := b.deliver(ctx, with)
	if err != nil {
		return nil, err
	}
	f, err := b.deliver(ctx, l)
	if err != nil {
		return nil, err
	}
	f["base_per_second"] = base["deliveries_per_second"]
	f["base_cpu_ms"] = base["node_cpu_ms"]
	f.ratio("throughput_ratio", f["deliveries_per_second"], base["deliveries_per_second"])
	f.ratio("cpu_ratio_to_base", f["node_cpu_ms"]+f["store_cpu_ms"], base["node_cpu_ms"]+base["store_cpu_ms"])
	return f, nil
}

const (
	backlogHosts = 5000
	laneDepth    = 20 // deliveries for each host while there are few
)

// backlog measures claims while the store grows, and then delivers beside everything that is pending.
func (b *bench) backlog(ctx context.Context) (f figures, err error) {
	at := b.newLocation()
	defer func() { err = errors.Join(err, b.clear(ctx, at)) }()
	grown := figures{}
	if err := b.fillStore(ctx, at, grown); err != nil {
		return nil, err
	}
	empty := load{hosts: b.size.usual, activities: b.size.rounds, warm: true}
	beside := empty
	beside.at = &at
	beside.backlog = b.size.backlog[len(b.size.backlog)-1]
	if f, err = b.compare(ctx, beside, empty); err != nil {
		return nil, err
	}
	for name, value := range grown {
		f[name] = value
	}
	f["pending"] = float64(beside.backlog)
	f.ratio("claim_ratio", f[claimOf(beside.backlog)], f[claimOf(b.size.backlog[0])])
	return f, nil
}

// claimOf returns the name of the figure for a claim with a number of pending deliveries.
func claimOf(pending int) string { return fmt.Sprintf("claim_us_at_%d", pending) }

// fillStore fills a store step by step, measures claims at each step, and makes all hosts wait at the end.
func (b *bench) fillStore(ctx context.Context, at location, f figures) (err error) {
	p, err := b.start(ctx, "filler", at, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	body := makeActivity("https://bench.example/activities/waiting")
	hosts := 0
	began := time.Now()
	for _, pending := range b.size.backlog {
		wanted := min(backlogHosts, pending/laneDepth)
		if err := p.call("fill", filling{hosts, wanted, laneDepth, body}, nil); err != nil {
			return err
		}
		if more := pending - wanted*laneDepth; more > 0 {
			if err := p.call("fill", filling{0, wanted, more / wanted, body}, nil); err != nil {
				return err
			}
		}
		hosts = wanted
		f["fill_per_second"] = perSecond(pending, time.Since(began))
		var us float64
		if err := p.call("claim", struct{}{}, &us); err != nil {
			return err
		}
		f[claimOf(pending)] = us
	}
	return p.call("pause", hosts, nil)
}

// waiting makes a store with hosts that wait, and a node on it.
func (b *bench) waiting(ctx context.Context, hosts int, use func(w *world, at location) error) (err error) {
	at := b.newLocation()
	w := &world{b: b}
	defer func() { err = errors.Join(err, w.close(), b.clear(ctx, at)) }()
	p, err := b.start(ctx, "filler", at, nil)
	if err != nil {
		return err
	}
	err = errors.Join(p.call("fill", filling{0, hosts, 1, makeActivity("https://bench.example/activities/waiting")}, nil),
		p.call("pause", hosts, nil), p.stop())
	if err != nil {
		return err
	}
	if err := w.startNodes(ctx, at, 1); err != nil {
		return err
	}
	return use(w, at)
}

// fanout measures the time to the 202 for one activity to many inboxes, beside bare rows.
func (b *bench) fanout(ctx context.Context) (f figures, err error) {
	hosts := b.size.fanout / 4
	var inboxes []string
	for i := range b.size.fanout {
		inboxes = append(inboxes, fmt.Sprintf("http://%s/users/%d/inbox", waitingHost(i%hosts), i/hosts))
	}
	row := inboxes[0]
	if b.redis != nil {
		row += strings.Repeat("x", 64) // the other fields of a delivery
	}
	f = figures{"inboxes": float64(b.size.fanout)}
	err = b.waiting(ctx, hosts, func(w *world, at location) error {
		var took, placed []float64
		for i := range b.size.repeats {
			body := submission(makeActivity(fmt.Sprintf("https://bench.example/activities/fanout/%d", i)), inboxes)
			began := time.Now()
			id, accepted, err := w.apis[0].submit(ctx, body, len(inboxes))
			if err != nil {
				return err
			}
			settled, err := w.apis[0].settled(ctx, id)
			if err != nil {
				return err
			}
			took = append(took, millis(accepted.Sub(began)))
			placed = append(placed, millis(settled.Sub(began)))
		}
		f["to_202_ms"] = median(took)
		f["to_lanes_ms"] = median(placed)
		used, err := w.spent(ctx)
		f["peak_mib"] = used.peak
		if err != nil {
			return err
		}
		bare, err := b.insert(ctx, at, rows{Rows: b.size.fanout, Value: row})
		f["bare_insert_ms"] = millis(bare)
		f.ratio("insert_ratio", f["to_202_ms"], f["bare_insert_ms"])
		return err
	})
	return f, err
}

// insert returns the median time of bare rows at a location.
func (b *bench) insert(ctx context.Context, at location, r rows) (d time.Duration, err error) {
	p, err := b.start(ctx, "inserts", at, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	var took []float64
	for range b.size.repeats {
		if err := p.call("insert", r, &d); err != nil {
			return 0, err
		}
		took = append(took, float64(d))
	}
	return time.Duration(median(took)), nil
}

// intake measures how many single activities of many callers are accepted, beside bare rows that hold the same calls and
// share commits: rows of callers in the same process, and rows of a bare service with the same callers.
func (b *bench) intake(ctx context.Context) (f figures, err error) {
	f = figures{"activities": float64(b.size.intake)}
	err = b.waiting(ctx, b.size.usual, func(w *world, at location) error {
		before, err := w.spent(ctx)
		if err != nil {
			return err
		}
		took, callersCPU, err := b.submitOften(ctx, w.apis[0])
		if err != nil {
			return err
		}
		after, err := w.spent(ctx)
		if err != nil {
			return err
		}
		ms := 1000 / float64(b.size.repeats*b.size.intake)
		f["accepted_per_second"] = perSecond(b.size.intake, took)
		f["callers_cpu_ms"] = callersCPU * ms
		f["node_cpu_ms"] = (after.cpu - before.cpu) * ms
		f["peak_mib"] = after.peak
		if b.redis != nil {
			f["store_cpu_ms"] = (after.store.cpu - before.store.cpu) * ms
		}
		return b.bareIntake(ctx, at, f)
	})
	return f, err
}

// bareIntake measures the bare rows that intake is compared with.
func (b *bench) bareIntake(ctx context.Context, at location, f figures) (err error) {
	call := submission(makeActivity("https://bench.example/activities/intake/0"), []string{"http://" + waitingHost(0) + plainPath})
	bare, err := b.insert(ctx, at, rows{Rows: b.size.intake, Callers: callers, Value: string(call)})
	if err != nil {
		return err
	}
	f["bare_inserts_per_second"] = perSecond(b.size.intake, bare)
	f.ratio("intake_ratio", f["accepted_per_second"], f["bare_inserts_per_second"])
	p, err := b.start(ctx, "inserts", at, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.stop()) }()
	var address string
	if err := p.call("serve", nil, &address); err != nil {
		return err
	}
	took, _, err := b.submitOften(ctx, newAPI(address))
	f["bare_calls_per_second"] = perSecond(b.size.intake, took)
	f.ratio("bare_intake_ratio", f["accepted_per_second"], f["bare_calls_per_second"])
	return err
}

// submitOften lets callers submit single activities some times, and returns the median of the times that they took, and the
// CPU that the callers used, in seconds.
func (b *bench) submitOften(ctx context.Context, a *api) (_ time.Duration, cpu float64, err error) {
	var all []float64
	for i := range b.size.repeats {
		took, spent, err := b.submitByCallers(ctx, a, i*b.size.intake)
		if err != nil {
			return 0, 0, err
		}
		all = append(all, float64(took))
		cpu += spent
	}
	return time.Duration(median(all)), cpu, nil
}

// submitByCallers lets callers submit activities, numbered from first on, to one inbox each.
func (b *bench) submitByCallers(ctx context.Context, a *api, first int) (took time.Duration, cpu float64, err error) {
	var callers [callers]*caller
	for i := range callers {
		if callers[i], err = a.dial(ctx); err != nil {
			return 0, 0, err
		}
		defer callers[i].conn.Close()
	}
	calls := make([][]byte, b.size.intake)
	for i := range calls {
		activity := makeActivity(fmt.Sprintf("https://bench.example/activities/intake/%d", first+i))
		inbox := "http://" + waitingHost(i%b.size.usual) + plainPath
		if calls[i], err = a.prepare(submission(activity, []string{inbox})); err != nil {
			return 0, 0, err
		}
	}
	before := ownUsage()
	began := time.Now()
	var all errgroup.Group
	for i, c := range callers {
		all.Go(func() error { return c.submit(calls, i, len(callers)) })
	}
	err = all.Wait()
	return time.Since(began), ownUsage().CPU - before.CPU, err
}

// idle measures an idle node.
func (b *bench) idle(ctx context.Context) (f figures, err error) {
	at := b.newLocation()
	w := &world{b: b}
	defer func() { err = errors.Join(err, w.close(), b.clear(ctx, at)) }()
	if err := w.startNodes(ctx, at, 1); err != nil {
		return nil, err
	}
	wait(ctx, time.Second)
	before, err := w.spent(ctx)
	if err != nil {
		return nil, err
	}
	wait(ctx, b.size.rest)
	after, err := w.spent(ctx)
	if err != nil {
		return nil, err
	}
	return figures{
		"peak_mib": after.peak, "cpu_percent": 100 * (after.cpu - before.cpu) / b.size.rest.Seconds(),
	}, nil
}

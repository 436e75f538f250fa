package simulation

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/embedded"
	"github.com/postrider/postrider/queue/queuetest"
)

// config configures a run. Fields that are not set are drawn from the seed.
type config struct {
	seed     uint64
	hosts    int
	days     int
	posts    int
	lease    time.Duration
	calm     bool // nothing happens to nodes and stores
	living   bool // hosts that would be dead are well, to measure how much the dead delay the healthy
	roomy    bool // many slots
	mutation *mutation
	until    string // the run ends at an error with this text
	trace    io.Writer
}

// world is one run.
type world struct {
	config
	t          *testing.T
	dir        string
	start      time.Time
	end        time.Duration // of all posts and faults; what is pending then has its TTL to end
	life       context.Context
	abort      func()
	list       []*host
	posts      map[string]*post // by the ID that the call gives; guarded by check.mu
	plan       []*post
	leases     *leases
	check      *checker
	rules      rules
	feedLimits queue.FeedLimits
	drives     sync.WaitGroup

	outages []span // of what all nodes share; guarded by check.mu

	mu    sync.Mutex
	depot *queuetest.Faults // guarded by mu
	nodes [3]*node          // guarded by mu; nil while one is down
	lives [3]int            // guarded by mu

	jumped atomic.Int64 // by how much the wall clock did, in all
}

const (
	ttl     = 72 * time.Hour
	slack   = 2 * time.Minute // for what has to happen soon
	idle    = 6 * time.Hour   // an idle node polls no sooner: a month has many minutes
	testKey = "https://app.example/users/alice#main-key"
)

var errAway = errors.New("the store is away")

// report is the result of a run.
type report struct {
	violations []string
	hash       uint64
	steps      int
	figures    figures
	took       time.Duration
}

// simulate runs a world from its beginning to its end.
func simulate(t *testing.T, c config) (r report) {
	t.Helper()
	began := time.Now()
	dir, err := os.MkdirTemp(memory(), "postrider-simulation-") //nolint:usetesting // in memory, which the folders of tests are not
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, c, dir)
		w.run()
		r = report{w.check.violations, w.check.hash, w.check.steps, w.check.figures, 0}
	})
	r.took = time.Since(began)
	return r
}

// memory returns a folder in memory, if the machine has one: durability is tested elsewhere.
func memory() string {
	if _, err := os.Stat("/dev/shm"); err == nil {
		return "/dev/shm"
	}
	return ""
}

func newWorld(t *testing.T, c config, dir string) *world {
	r := dice(c.seed, "world")
	w := &world{
		config: c, t: t, dir: dir, start: time.Now(), life: t.Context(), posts: map[string]*post{},
		end: time.Duration(c.days)*24*time.Hour - ttl - 12*time.Hour,
		rules: rules{
			threshold: pick(r, 3, 5, 10, 10), window: pick(r, 1, 2, 8, 8), concurrency: pick(r, 4, 8, 16, 64),
			coolOff: time.Minute, coolOffMax: time.Hour, unavailableDays: 7, retryBase: 15 * time.Second, maxAttempts: 17,
		},
	}
	if c.roomy {
		w.rules.threshold = 10
		w.rules.window = 8
		w.rules.concurrency = 1024
	}
	w.leases = newLeases(c.lease)
	w.check = &checker{
		w: w, rules: w.rules, hosts: map[string]*host{}, pairs: map[string]*pair{}, byID: map[string]*pair{},
		chains: map[string][]*pair{}, tombstones: map[string][]*tombstone{}, busy: map[int]chan struct{}{}, trace: c.trace,
		feed: feed{places: map[string]int{}, ending: map[*post]bool{}},
	}
	w.check.figures.init()
	for i := range c.hosts {
		h := newHost(c.seed, fmt.Sprintf("h%d.example", i), time.Duration(c.days)*24*time.Hour)
		if c.living && (h.kind == dead || h.kind == dying || h.kind == oneway) {
			h.kind, h.phases = other, []phase{{0, well}}
		}
		h.told = queue.HostHealthy
		h.begun = map[*attempt]bool{}
		h.inFlight = map[*attempt]bool{}
		h.hand = map[*pair]bool{}
		w.list = append(w.list, h)
		w.check.hosts[h.name] = h
	}
	w.plan = plan(w)
	for _, p := range w.plan {
		w.posts[p.queueID(w.seed, w.start)] = p
	}
	w.feedLimits = queue.FeedLimits{Retention: pick(dice(c.seed, "feed"), 0, ttl), Delivered: c.seed%2 == 0}
	return w
}

func (w *world) since() time.Duration { return time.Since(w.start) }

func (w *world) at(t time.Time) time.Duration { return t.Sub(w.start) }

func (w *world) store() *queuetest.Faults {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.depot
}

// open opens the store again, and wakes the nodes that wait for work.
func (w *world) open(times int) {
	s, err := embedded.Open(filepath.Join(w.dir, "store"), embedded.Options{
		Limits: queue.Limits{Retention: 90 * 24 * time.Hour, Feed: w.feedLimits}, Idle: idle, Rand: dice(w.seed, "store", fmt.Sprint(times)),
		Prompt: true, Leases: w.leases, Wall: w.wall, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	w.check.mu.Lock()
	w.check.opened = time.Now()
	w.check.mu.Unlock()
	w.mu.Lock()
	w.depot = queuetest.Faulty(&observer{w.mutation.below(w, s), w.check})
	w.mu.Unlock()
	w.drives.Go(func() { w.broadcast(s.Wake()) })
	w.wakeAll()
}

// broadcast wakes every node when the store fires, until the world ends: once for all events of an instant.
func (w *world) broadcast(wake <-chan struct{}) {
	clock := newClock(w.seed)
	for {
		select {
		case <-wake:
			time.Sleep(clock.next("wake", ""))
			select {
			case <-wake:
			default:
			}
			w.wakeAll()
		case <-w.life.Done():
			return
		}
	}
}

func (w *world) wakeAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range w.nodes {
		if n == nil {
			continue
		}
		select {
		case n.wake <- struct{}{}:
		default:
		}
	}
}

// deliveries lists an activity's deliveries in the store.
func (w *world) deliveries(id string, state queue.DeliveryState) (all []queue.DeliveryStatus) {
	inner := w.store().Queue
	for page := (queue.Page{Limit: 500}); ; {
		l, err := inner.Deliveries(context.WithoutCancel(w.life), id, state, page)
		if errors.Is(err, queue.ErrClosed) {
			return nil
		} else if err != nil {
			panic(err)
		}
		all = append(all, l.Items...)
		if page.Cursor = l.Next; page.Cursor == "" {
			return all
		}
	}
}

// run lets the days pass.
func (w *world) run() {
	life, end := context.WithCancel(w.t.Context())
	w.life, w.abort = life, end
	w.open(0)
	if _, err := w.store().PutKey(life, queue.Key{ID: testKey, Sealed: []byte("sealed")}); err != nil {
		panic(err)
	}
	for i := range w.nodes {
		time.Sleep(time.Duration(137_911+i*77_773) * time.Nanosecond)
		w.boot(i)
	}
	var story sync.WaitGroup
	story.Go(w.post)
	if !w.calm {
		for i := range w.nodes {
			story.Go(func() { w.trouble(i) })
		}
		story.Go(w.stormy)
		story.Go(w.jumps)
		story.Go(func() { w.operate(story.Go) })
	}
	for _, h := range w.list {
		if h.seenEvery > 0 {
			w.drives.Go(func() { w.reportSeen(h) })
		}
		w.drives.Go(func() { w.recoveries(h) })
	}
	for _, r := range newReaders(w) {
		w.drives.Go(r.run)
	}
	w.drives.Go(w.watch)
	story.Wait()
	if w.wait(w.since() + ttl + 12*time.Hour) {
		w.finish()
	}
	end()
	for i := range w.nodes {
		w.halt(i)
	}
	w.drives.Wait()
	if err := w.store().Close(); err != nil {
		panic(err)
	}
}

// boot starts a node, unless it runs.
func (w *world) boot(i int) {
	w.mu.Lock()
	if w.nodes[i] != nil {
		w.mu.Unlock()
		return
	}
	w.lives[i]++
	n := newNode(w, i, w.lives[i])
	w.nodes[i] = n
	w.mu.Unlock()
	n.start()
}

// halt stops a node, as SIGTERM does.
func (w *world) halt(i int) {
	w.mu.Lock()
	n := w.nodes[i]
	w.mu.Unlock()
	if n == nil {
		return
	}
	n.stop()
	n.ended.Wait()
	w.mu.Lock()
	w.nodes[i] = nil
	w.mu.Unlock()
}

// wait sleeps until a time since the beginning, and reports whether the world goes on.
func (w *world) wait(until time.Duration) bool {
	t := time.NewTimer(until - w.since())
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-w.life.Done():
		return false
	}
}

// byTime sorts times since the beginning.
func byTime(ds []time.Duration) []time.Duration {
	slices.SortFunc(ds, func(a, b time.Duration) int { return cmp.Compare(a, b) })
	return ds
}

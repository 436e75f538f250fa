package simulation

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/postrider/postrider/breaker"
	"github.com/postrider/postrider/delivery"
	"github.com/postrider/postrider/internal/netguard"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/signer"
)

// node is one run of one node: a pool, and the network between it and the world.
type node struct {
	w     *world
	id    int // the place in the fleet; who takes it over after a death is another node
	clock *clock
	wake  chan struct{}
	stop  context.CancelFunc
	ended sync.WaitGroup

	killed chan struct{}

	mu      sync.Mutex
	stalled time.Time // until then nothing that it does gets out, and nothing gets in; guarded by mu

	// The checker's state about it, guarded by the checker's mutex.
	begun, suspects int // attempts whose slots are held
	taken           map[*pair]uint64
	attempts        map[*pair]*attempt // the latest
	turns           map[lockmgr.Lease]view
	faults          []span
}

var errKilled = fmt.Errorf("this node is dead: %w", queue.ErrClosed)

func newNode(w *world, id, life int) *node {
	return &node{
		w: w, id: id, clock: newClock(mix(w.seed, "node", fmt.Sprint(id), fmt.Sprint(life))),
		wake: make(chan struct{}, 1), killed: make(chan struct{}), taken: map[*pair]uint64{}, attempts: map[*pair]*attempt{},
		turns: map[lockmgr.Lease]view{},
	}
}

// start lets the node work until it is stopped or killed.
func (n *node) start() {
	w := n.w
	random := jitter(dice(n.clock.seed, "jitter"))
	log := slog.New(slog.DiscardHandler)
	o := delivery.Options{
		Queue: w.mutation.pool(w, farStore{n}), Leases: lockmgr.NewKeeper(w.mutation.locks(w, leaseView{n}), w.lease, log),
		Signer: n, Client: w.mutation.poster(w, n),
		Breaker: breaker.Settings{
			Threshold: w.rules.threshold, CoolOff: w.rules.coolOff, CoolOffMax: w.rules.coolOffMax, Window: w.rules.window,
			UnavailableDays: w.rules.unavailableDays, Jitter: random,
		},
		Policy: netguard.NewPolicy([]netip.Prefix{}), Concurrency: w.rules.concurrency,
		Schedule:       delivery.Schedule{Base: w.rules.retryBase, MaxAttempts: w.rules.maxAttempts, Jitter: random},
		AttemptTimeout: 30 * time.Second, ShutdownTimeout: 25 * time.Second,
		UserAgent: "Postrider/simulation", Log: log, Metrics: delivery.NewMetrics(prometheus.NewRegistry(), "none"),
	}
	ctx, cancel := context.WithCancel(context.WithValue(w.life, nodeKey{}, n))
	n.stop = cancel
	pool := delivery.NewPool(o)
	n.ended.Go(func() { pool.Run(ctx) })
}

// kill ends the node as SIGKILL does: none of its calls has an effect from now on.
func (n *node) kill() {
	n.w.check.died(n)
	close(n.killed)
	n.stop()
}

func (n *node) dead() bool {
	select {
	case <-n.killed:
		return true
	default:
		return false
	}
}

// stall stops the node for a while, as SIGSTOP does.
func (n *node) stall(d time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.stalled = time.Now().Add(d)
}

// hold waits until the node isn't stalled. Calls that waited continue at different instants.
func (n *node) hold(what, whom string) error {
	for {
		n.mu.Lock()
		d := time.Until(n.stalled)
		n.mu.Unlock()
		if n.dead() {
			return errKilled
		}
		if d <= 0 {
			return nil
		}
		if err := n.sleep(d + n.clock.next(what, whom)); err != nil {
			return err
		}
	}
}

// sleep waits for a time or until the node dies.
func (n *node) sleep(d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-n.killed:
		return errKilled
	}
}

// call delays a call on its way out of the node.
func (n *node) call(ctx context.Context, what, whom string) (context.Context, error) {
	if err := n.hold("before "+what, whom); err != nil {
		return ctx, err
	}
	if err := n.sleep(n.clock.next(what, whom)); err != nil {
		return ctx, err
	}
	if err := n.hold("behind "+what, whom); err != nil {
		return ctx, err
	}
	// A packet that is on its way is not stopped by its sender's second thoughts: every other one arrives.
	if err := ctx.Err(); err != nil && (what != "Settle" || n.clock.next("late", whom)%2 == 0) {
		return ctx, err
	}
	return context.WithValue(ctx, nodeKey{}, n), nil
}

// back is the way back in: an answer that comes while the node is stalled waits, and the dead get none.
func (n *node) back(err error, what, whom string) error {
	if held := n.hold("back "+what, whom); held != nil {
		return held
	}
	if errors.Is(err, queue.ErrClosed) {
		return errAway // it is the store that restarts, not this node
	}
	return err
}

// faulty reports whether anything happened to the node, or to what all nodes share, in a time. c.mu is held.
func (n *node) faulty(from, to time.Time) bool {
	for _, f := range append(n.faults, n.w.outages...) {
		if f.from.Before(to) && f.to.After(from) {
			return true
		}
	}
	return false
}

// farStore is the store as a node reaches it, over a network that may be slow or fail.
type farStore struct{ n *node }

func (s farStore) Due(ctx context.Context, want queue.Want) (queue.Offer, error) {
	ctx, err := s.n.call(ctx, "Due", "")
	if err != nil {
		return queue.Offer{}, err
	}
	o, err := s.n.w.store().Due(ctx, want)
	o.Next += s.n.clock.next("idle", "")
	return o, s.n.back(err, "Due", "")
}

func (s farStore) Take(ctx context.Context, leases []lockmgr.Lease, n int) ([]queue.Turn, error) {
	if len(leases) == 0 {
		return nil, nil
	}
	ctx, err := s.n.call(ctx, "Take", leases[0].Host)
	if err != nil {
		return nil, err
	}
	turns, err := s.n.w.store().Take(ctx, leases, n)
	err = s.n.back(err, "Take", leases[0].Host)
	s.n.w.check.recordView(s.n, turns)
	for i := range turns {
		named(turns[i].Deliveries)
	}
	return turns, err
}

// deliveryHeader names the delivery of a request, as several deliveries may have one body and one inbox.
const deliveryHeader = "Test-Delivery"

// named adds a header with its ID to each delivery.
func named(deliveries []queue.Delivery) {
	for i := range deliveries {
		d := &deliveries[i]
		d.Headers = append(slices.Clone(d.Headers), queue.Header{Name: deliveryHeader, Value: d.ID})
	}
}

func (s farStore) Settle(ctx context.Context, l lockmgr.Lease, st queue.Settlement, n int) ([]queue.Delivery, error) {
	if st.Release {
		s.n.w.check.turnEnded(s.n, l)
	}
	ctx, err := s.n.call(ctx, "Settle", l.Host)
	if err != nil {
		return nil, err
	}
	next, err := s.n.w.store().Settle(ctx, l, st, n)
	if err = s.n.back(err, "Settle", l.Host); err != nil {
		return nil, err
	}
	named(next)
	return next, nil
}

func (s farStore) Wake() <-chan struct{} { return s.n.wake }

// Sweep lets time pass, so that a month is not made of seconds.
func (s farStore) Sweep(ctx context.Context) (time.Duration, error) {
	ctx, err := s.n.call(ctx, "Sweep", "")
	if err != nil {
		return 0, err
	}
	next, err := s.n.w.store().Sweep(ctx)
	if err = s.n.back(err, "Sweep", ""); err != nil || next == 0 {
		return next, err
	}
	t := time.NewTimer(sweepEvery)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
	return next, nil
}

func (s farStore) Publish(...queue.Event) {}

const sweepEvery = 30 * time.Minute

// Sign implements the pool's signer: it looks the key up, which may fail, and marks the request.
func (n *node) Sign(ctx context.Context, req *http.Request, p signer.Params) (signer.Scheme, error) {
	body, err := bodyOf(req)
	if err != nil {
		return "", err
	}
	id := req.Header.Get(deliveryHeader)
	a := n.w.check.begin(n, id, body, req.URL.String())
	if a == nil {
		return "", errors.New("unknown delivery")
	}
	ctx, err = n.call(ctx, "Key", id)
	if err == nil {
		_, err = n.w.store().Key(ctx, p.KeyID, p.Pin)
		err = n.back(err, "Key", id)
	}
	if err != nil {
		n.w.check.fault(a)
		if errors.Is(err, queue.ErrNotFound) {
			return "", fmt.Errorf("sign: %w", signer.ErrKeyMissing)
		}
		return "", err
	}
	req.Header.Set("Test-Scheme", string(p.Scheme))
	return p.Scheme, nil
}

func (c *checker) fault(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	a.fault = true
}

// attempt returns the attempt that a request belongs to.
func (c *checker) attempt(n *node, req *http.Request) *attempt {
	c.mu.Lock()
	defer c.mu.Unlock()
	return n.attempts[c.byID[req.Header.Get(deliveryHeader)]]
}

func bodyOf(req *http.Request) (string, error) {
	body, err := req.GetBody()
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(body)
	return string(b), err
}

// Post implements the pool's client: the host may accept a request as soon as it arrives, or only when it answers.
func (n *node) Post(req *http.Request) delivery.Answer {
	c := n.w.check
	a := c.attempt(n, req)
	if a == nil {
		return delivery.Answer{Err: errCut}
	}
	arrived, key := time.Now(), a.pair.String()
	if n.hold("post", key) != nil {
		return delivery.Answer{Err: errKilled}
	}
	if err := context.Cause(req.Context()); err != nil { // nothing is sent
		r := reply{Answer: delivery.Answer{Err: errHung, TimedOut: true}}
		if errors.Is(err, context.DeadlineExceeded) && time.Now().After(arrived) {
			r.means = failed // a node that was stopped can't know that it was not the host
		}
		c.answered(a, r)
		return r.Answer
	}
	r := c.sent(a, signer.Scheme(req.Header.Get("Test-Scheme")))
	early := r.means == delivered && r.takes%2 == 0
	if early {
		c.received(a)
	}
	r = n.await(req.Context(), r, key)
	if n.dead() {
		return delivery.Answer{Err: errKilled}
	}
	if r.means == delivered && !early {
		c.received(a)
	}
	if n.hold("answer", key) != nil {
		return delivery.Answer{Err: errKilled}
	}
	c.answered(a, r)
	return r.Answer
}

// await waits for an answer as long as the attempt may. A stalled node can't hang up.
func (n *node) await(ctx context.Context, r reply, key string) reply {
	var answer <-chan time.Time
	if !r.hangs {
		t := time.NewTimer(r.takes)
		defer t.Stop()
		answer = t.C
	}
	select {
	case <-answer:
		return r
	case <-n.killed:
	case <-ctx.Done():
		if n.hold("cut", key) != nil || n.sleep(n.clock.next("hang up", key)) != nil {
			break
		}
		if errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
			return reply{Answer: delivery.Answer{Err: errHung, TimedOut: true}, means: failed}
		}
	}
	return reply{Answer: delivery.Answer{Err: errCut}}
}

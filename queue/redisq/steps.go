package redisq

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

const (
	claimTTL   = 30 * time.Second      // how long a submission under way may take
	claimPause = 20 * time.Millisecond // between looks at a claim that another holds
	stageTTL   = 5 * time.Second       // when a Sweep sees to what is staged, as its node may have died

	// How long at least a committed claim lasts unless all is released: what the whole fleet left of it must not be taken
	// for given up, however long it is away.
	committedTTL = 30 * 24 * time.Hour
)

// A submission to more than large recipients is released while its caller goes on, so many of them of one store at a time.
const (
	large        = 500
	maxReleasing = 4
)

var errLapsed = errors.New("the submission took too long")

// inSteps stores a submission for several partitions, or one too large for one script. See stage.lua.
func (in *intake) inSteps(ctx context.Context) (queue.Receipt, error) {
	r, known, err := in.takeClaim(ctx)
	if known {
		in.s.sweepIn(stageTTL) // it is asked again if its node died
	}
	if known || err != nil {
		return r, err
	}
	batches, err := in.batches()
	if err == nil {
		r, err = in.stageAll(ctx, batches)
	}
	if err == nil {
		r, err = in.commit(ctx, r)
	}
	if err == nil && r.ID != "" {
		in.release(ctx, batches)
		return r, nil
	}
	return r, errors.Join(err, in.giveUp(ctx, batches))
}

// batches are the recipients in each partition, as many as one script takes in at a time. The home has one at least.
type batches map[*partition][][]lane

// batches sorts the lanes by host: so one is touched once, and names that are new get into few pages.
func (in *intake) batches() (batches, error) {
	to, err := lanes(in.sub.Recipients)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(to, func(a, b lane) int { return strings.Compare(a.host, b.host) })
	all, room := batches{in.home: {nil}}, map[*partition]int{in.home: laneChunk}
	for _, l := range to {
		p := in.s.partitionOf(l.host)
		for some := range slices.Chunk(l.args, 2*laneChunk) {
			if room[p] -= len(some) / 2; room[p] < 0 {
				room[p] = laneChunk - len(some)/2
				all[p] = append(all[p], nil)
			}
			last := &all[p][len(all[p])-1]
			*last = append(*last, lane{l.host, some})
		}
	}
	return all, nil
}

// How many scripts of a submission are under way in a partition: while one runs, others are on their way, and one fsync
// does for several. What stages takes a fifth of what releases.
const (
	staging   = 8
	releasing = 3
)

// each calls a function for each batch, with its number in its partition: in each partition the first, and then so many
// at a time. After an error it begins no other there.
func (all batches) each(atOnce int, call func(p *partition, n int, to []lane) error) error {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for p, some := range all {
		var last atomic.Int64
		do := func(n int) {
			if err := call(p, n, some[n]); err != nil {
				last.Store(int64(len(some)))
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		}
		others := func() {
			for n := int(last.Add(1)); n < len(some); n = int(last.Add(1)) {
				do(n)
			}
		}
		wg.Go(func() {
			do(0)
			for range min(atOnce, len(some)-1) {
				wg.Go(others)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// takeClaim claims the idempotency key, or returns the receipt of the submission that had it. It waits for one that is
// under way.
func (in *intake) takeClaim(ctx context.Context) (r queue.Receipt, known bool, err error) {
	args := []string{string(in.sub.Idempotency.Fingerprint[:]), in.nonce, string(in.id[:]), millis(claimTTL)}
	for start := time.Now(); ; {
		a, err := in.s.array(ctx, claimScript, in.claims, []string{in.claims.Of("claim", in.claim)}, args)
		if err != nil {
			return r, false, err
		}
		switch kind, err := a[0].ToString(); {
		case err != nil:
			return r, false, err
		case kind == "go":
			in.claimed, err = asText(a[1])
			return r, false, err
		case kind != "wait":
			r, err = receipt(a)
			return r, true, err
		case time.Since(start) > callTimeout:
			return r, false, fmt.Errorf("%w: the same submission is under way", queue.ErrBusy)
		}
		select {
		case <-ctx.Done():
			return r, false, ctx.Err()
		case <-time.After(claimPause):
		}
	}
}

// stageAll stages a submission and returns the receipt so far.
func (in *intake) stageAll(ctx context.Context, all batches) (sum queue.Receipt, err error) {
	var mu sync.Mutex
	parts := joinParts(slices.Collect(maps.Keys(all)))
	err = all.each(staging, func(p *partition, n int, to []lane) error {
		about := []string{in.claim, "", strconv.Itoa(n), in.claimed}
		if p == in.home {
			about[1] = parts
		}
		r, err := in.stage(ctx, p, to, about)
		mu.Lock()
		defer mu.Unlock()
		sum.Accepted += r.Accepted
		sum.Duplicates += r.Duplicates
		sum.Refused = append(sum.Refused, r.Refused...)
		return err
	})
	return sum, err
}

// stage stages the deliveries of a batch. about is what the script wants besides what it wants of all.
func (in *intake) stage(ctx context.Context, p *partition, to []lane, about []string) (queue.Receipt, error) {
	a, err := in.knowingOthers(ctx, p, func(o others) ([]rueidis.RedisMessage, error) {
		keys := slices.Grow(append(p.staging(in.text), o.keys(p)...), len(to))
		for _, l := range to {
			keys = append(keys, p.Of("h", l.host))
		}
		args := append(append(slices.Clone(in.shared), about...), o.same, o.passed, packed(to))
		if about[2] != "0" {
			args[len(in.shared)-1] = "" // the body is there
		}
		return in.s.array(ctx, stageScript, p, keys, args)
	})
	if err != nil {
		return queue.Receipt{}, err
	}
	return receipt(a)
}

// staging is the keys of an activity with what is staged of it.
func (p *partition) staging(id string) []string {
	return append(p.activity(nil, id), p.Of("s", id))
}

// commit decides that a submission is stored, if there is anything to store.
func (in *intake) commit(ctx context.Context, r queue.Receipt) (queue.Receipt, error) {
	pairs := in.sortRefused(r.Refused)
	if r.Accepted+r.Duplicates == 0 {
		return r, nil
	}
	refused, err := encode(pairs, len(pairs) == 0)
	if err != nil {
		return r, err
	}
	ok, err := in.s.number(ctx, commitScript, in.claims, []string{in.claims.Of("claim", in.claim)},
		[]string{string(in.id[:]), in.head, strconv.Itoa(r.Accepted), strconv.Itoa(r.Duplicates), refused, millis(committedTTL + in.sub.TTL)})
	if err == nil && ok == 0 {
		err = errLapsed
	}
	r.ID, r.URI, r.Note = in.sub.ID, in.sub.URI, in.sub.Note
	return r, err
}

// sortRefused puts refusals in the order of the recipients, and returns them as they are stored.
func (in *intake) sortRefused(refused []queue.Refusal) (pairs [][2]string) {
	if len(refused) == 0 {
		return nil
	}
	order := make(map[string]int, len(in.sub.Recipients))
	for i, to := range in.sub.Recipients {
		order[to.Inbox] = i
	}
	slices.SortFunc(refused, func(a, b queue.Refusal) int { return order[a.Inbox] - order[b.Inbox] })
	for _, refusal := range refused {
		to := in.sub.Recipients[order[refusal.Inbox]]
		pairs = append(pairs, [2]string{to.Host + target(to), string(refusal.Reason)})
	}
	return pairs
}

// release moves a committed submission into the lanes. Who has sent a large one needn't wait for that: it is stored, and
// whoever it is of concern to, an activity that has to stand behind it above all, first sees to it that it is done.
func (in *intake) release(ctx context.Context, all batches) {
	if len(in.sub.Recipients) > large {
		select {
		case in.s.releasing <- struct{}{}:
			in.s.tellNodes(context.WithoutCancel(ctx), stagedMessage)
			in.s.releases.Go(func() {
				defer func() { <-in.s.releasing }()
				in.releaseAll(ctx, all)
				in.s.sweepLanes(in.sub)
			})
			return
		default: // who sends more than can be released waits
		}
	}
	in.releaseAll(ctx, all)
}

// releaseAll moves a committed submission into the lanes. What it can't, Sweep does as soon as it can or, if this node is
// gone by then, that of another.
func (in *intake) releaseAll(ctx context.Context, all batches) {
	ctx = context.WithoutCancel(ctx) // it is accepted whatever the caller does now
	var mu sync.Mutex
	owes := map[*partition]bool{}
	err := all.each(releasing, func(p *partition, n int, to []lane) error {
		_, err := in.s.releaseSome(ctx, p, in.id, strconv.Itoa(n), hostsOf(to))
		if err != nil {
			mu.Lock()
			defer mu.Unlock()
			owes[p] = true
		}
		return err
	})
	for p := range owes {
		in.s.owed.add(debt{p, in.id})
	}
	if err == nil {
		_ = in.s.shortenClaim(ctx, in.claim) // else it lasts for longer than it must
	}
}

// releaseRest releases a committed activity in a partition and, if that was the last, lets its claim last as long as that
// of any other.
func (s *Store) releaseRest(ctx context.Context, p *partition, id uuid.UUID) error {
	claim, err := s.claimOf(ctx, p, id)
	if err != nil {
		return err
	}
	if err := s.release(ctx, p, id); err != nil || claim == "" {
		return err
	}
	parts, err := s.readParts(ctx, id.String())
	if err != nil {
		return ignoreNotFound(err)
	}
	for _, part := range parts {
		if rest, err := s.claimOf(ctx, part.partition, id); err != nil || rest != "" {
			return err
		}
	}
	return s.shortenClaim(ctx, claim)
}

func ignoreNotFound(err error) error {
	if errors.Is(err, queue.ErrNotFound) {
		return nil
	}
	return err
}

// shortenClaim lets the claim of what is all released last as long as that of any other.
func (s *Store) shortenClaim(ctx context.Context, claim string) error {
	key := s.partitionOf(claim).Of("claim", claim)
	_, err := s.do(ctx, s.client.B().Pexpire().Key(key).Milliseconds(queue.IdempotencyTTL.Milliseconds()).Lt().Build())
	return err
}

// debt is what is committed of an activity in a partition and could not be released.
type debt struct {
	p  *partition
	id uuid.UUID
}

// debts is a list of them. It is safe for concurrent use.
type debts struct {
	mu   sync.Mutex
	list []debt // guarded by mu
}

func (d *debts) add(some ...debt) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, some...)
}

// take empties the list.
func (d *debts) take() []debt {
	d.mu.Lock()
	defer d.mu.Unlock()
	list := d.list
	d.list = nil
	return list
}

// payDebts releases what is owed, until that fails; then the others come first the next time.
func (s *Store) payDebts(ctx context.Context) {
	list := s.owed.take()
	for i, d := range list {
		if err := s.releaseRest(ctx, d.p, d.id); err != nil {
			s.tell("release", fmt.Errorf("release %s: %w", d.id, err))
			s.owed.add(append(list[i+1:], d)...)
			return
		}
	}
}

// release moves what is staged of an activity into the lanes of a partition.
func (s *Store) release(ctx context.Context, p *partition, id uuid.UUID) error {
	for left := true; left; {
		a, err := s.texts(ctx, stagedScript, p, p.staging(id.String()), nil)
		if err != nil {
			return err
		}
		if len(a) == 0 {
			a = []string{""}
		}
		hosts := slices.Compact(slices.Sorted(slices.Values(a[1:])))
		if left, err = s.releaseSome(ctx, p, id, a[0], hosts); err != nil {
			return err
		}
	}
	return nil
}

// releaseSome moves what a call staged, deliveries to these hosts at most, and tells whether more is staged.
func (s *Store) releaseSome(ctx context.Context, p *partition, id uuid.UUID, call string, hosts []string) (left bool, err error) {
	args := append([]string{string(id[:]), call}, hosts...)
	n, err := s.number(ctx, releaseScript, p, p.lanes(p.staging(id.String()), hosts), args)
	return n > 0, err
}

// unstage takes back what is staged of an activity in a partition.
func (s *Store) unstage(ctx context.Context, p *partition, id uuid.UUID) error {
	_, err := s.number(ctx, unstageScript, p, p.staging(id.String()), []string{string(id[:])})
	return err
}

// giveUp takes back what was staged. An error of the first call means that it may have been committed after all: then
// what is staged is left to Sweep, as it is where this fails.
func (in *intake) giveUp(ctx context.Context, all batches) error {
	ctx = context.WithoutCancel(ctx)
	ok, err := in.s.number(ctx, commitScript, in.claims, []string{in.claims.Of("claim", in.claim)}, []string{string(in.id[:]), ""})
	if err != nil || ok == 0 {
		return err
	}
	for p := range all {
		err = errors.Join(err, in.s.unstage(ctx, p, in.id))
	}
	return err
}

package redisq

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
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
	stageTTL   = 2 * claimTTL          // when Sweep takes care of what is staged: then the claim is decided

	// How long at least a committed claim lasts unless all is released: what the whole fleet left of it must not be taken
	// for given up, however long it is away.
	committedTTL = 30 * 24 * time.Hour
)

var errLapsed = errors.New("the submission took too long")

// inSteps stores a submission for several partitions, or one too large for one script. See stage.lua.
func (in *intake) inSteps(ctx context.Context) (queue.Receipt, error) {
	r, known, err := in.takeClaim(ctx)
	if known || err != nil {
		return r, err
	}
	byPartition := map[*partition][]queue.Recipient{in.home: nil}
	for _, r := range in.sub.Recipients {
		p := in.s.partitionOf(r.Host)
		byPartition[p] = append(byPartition[p], r)
	}
	if r, err = in.stageAll(ctx, byPartition); err == nil {
		r, err = in.commit(ctx, r)
	}
	if err == nil && r.ID != "" {
		in.releaseAll(ctx, byPartition)
		return r, nil
	}
	return r, errors.Join(err, in.giveUp(ctx, byPartition))
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
func (in *intake) stageAll(ctx context.Context, byPartition map[*partition][]queue.Recipient) (queue.Receipt, error) {
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		sum  queue.Receipt
		errs []error
		all  []*partition
	)
	for p := range byPartition {
		all = append(all, p)
	}
	for p, recipients := range byPartition {
		wg.Go(func() {
			r, err := in.stage(ctx, p, recipients, joinParts(all))
			mu.Lock()
			defer mu.Unlock()
			sum.Accepted += r.Accepted
			sum.Duplicates += r.Duplicates
			sum.Refused = append(sum.Refused, r.Refused...)
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return sum, errors.Join(errs...)
}

// stage stages the deliveries of one partition.
func (in *intake) stage(ctx context.Context, p *partition, recipients []queue.Recipient, parts string) (sum queue.Receipt, err error) {
	if p != in.home {
		parts = ""
	}
	for n := 0; n == 0 || n*chunk < len(recipients); n++ {
		r, err := in.stageChunk(ctx, p, recipients[n*chunk:min(len(recipients), (n+1)*chunk)], []string{in.claim, parts, strconv.Itoa(n), in.claimed})
		if err != nil {
			return sum, err
		}
		sum.Accepted += r.Accepted
		sum.Duplicates += r.Duplicates
		sum.Refused = append(sum.Refused, r.Refused...)
	}
	return sum, nil
}

func (in *intake) stageChunk(ctx context.Context, p *partition, recipients []queue.Recipient, about []string) (queue.Receipt, error) {
	to, err := lanes(recipients)
	if err != nil {
		return queue.Receipt{}, err
	}
	a, err := in.knowingOthers(ctx, p, func(others string) ([]rueidis.RedisMessage, error) {
		keys := append(p.staging(in.text), othersKeys(p, others)...)
		for _, l := range to {
			keys = append(keys, p.Of("h", l.host))
		}
		args := append(append(slices.Clone(in.shared), about...), others)
		return in.s.array(ctx, stageScript, p, keys, laneArgs(args, to))
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
	order := map[string]int{}
	for i, to := range in.sub.Recipients {
		order[to.Inbox] = i
	}
	slices.SortFunc(r.Refused, func(a, b queue.Refusal) int { return order[a.Inbox] - order[b.Inbox] })
	if r.Accepted+r.Duplicates == 0 {
		return r, nil
	}
	pairs := make([][2]string, len(r.Refused))
	for i, refusal := range r.Refused {
		to := in.sub.Recipients[order[refusal.Inbox]]
		pairs[i] = [2]string{to.Host + target(to), string(refusal.Reason)}
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

// releaseAll moves a committed submission into the lanes. What it can't, Sweep does as soon as it can or, if this node is
// gone by then, that of another some time later.
func (in *intake) releaseAll(ctx context.Context, byPartition map[*partition][]queue.Recipient) {
	ctx = context.WithoutCancel(ctx) // it is accepted whatever the caller does now
	var wg sync.WaitGroup
	var owes atomic.Bool
	for p := range byPartition {
		wg.Go(func() {
			if err := in.s.release(ctx, p, in.id); err != nil {
				in.s.owed.add(debt{p, in.id})
				owes.Store(true)
			}
		})
	}
	wg.Wait()
	if !owes.Load() {
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
	staging := p.staging(id.String())
	for left := int64(1); left > 0; {
		a, err := s.array(ctx, stagedScript, p, staging, []string{strconv.Itoa(chunk)})
		if err != nil {
			return err
		}
		first, err := a[0].AsInt64()
		if err != nil {
			return err
		}
		var hosts []string
		seen := map[string]bool{}
		for _, m := range a[1:] {
			host, err := m.ToString()
			if err != nil {
				return err
			}
			if !seen[host] {
				seen[host] = true
				hosts = append(hosts, host)
			}
		}
		args := append([]string{string(id[:]), strconv.FormatInt(first, 10), strconv.Itoa(len(a) - 1)}, hosts...)
		if left, err = s.number(ctx, releaseScript, p, p.lanes(slices.Clone(staging), hosts), args); err != nil {
			return err
		}
	}
	return nil
}

// unstage takes back what is staged of an activity in a partition.
func (s *Store) unstage(ctx context.Context, p *partition, id uuid.UUID) error {
	_, err := s.number(ctx, unstageScript, p, p.staging(id.String()), []string{string(id[:])})
	return err
}

// giveUp takes back what was staged. An error of the first call means that it may have been committed after all: then
// what is staged is left to Sweep, as it is where this fails.
func (in *intake) giveUp(ctx context.Context, byPartition map[*partition][]queue.Recipient) error {
	ctx = context.WithoutCancel(ctx)
	ok, err := in.s.number(ctx, commitScript, in.claims, []string{in.claims.Of("claim", in.claim)}, []string{string(in.id[:]), ""})
	if err != nil || ok == 0 {
		return err
	}
	for p := range byPartition {
		err = errors.Join(err, in.s.unstage(ctx, p, in.id))
	}
	return err
}

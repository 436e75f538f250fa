package redisq

import (
	"cmp"
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

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
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

var errLapsed = fmt.Errorf("%w: it took too long", queue.ErrUnderWay)

// inSteps stores a submission for several partitions, or one too large for one script. See stage.lua. If another of the same
// bytes has given it up, it begins again: it is the younger, and waits then for what becomes of the older.
func (in *intake) inSteps(ctx context.Context) (queue.Receipt, error) {
	for start := time.Now(); ; {
		r, err := in.tryInSteps(ctx)
		if !errors.Is(err, errLapsed) || time.Since(start) > callTimeout {
			return r, err
		}
		if err := pause(ctx, claimPause); err != nil {
			return queue.Receipt{}, err
		}
	}
}

func (in *intake) tryInSteps(ctx context.Context) (queue.Receipt, error) {
	batches := in.batches()
	if in.past != nil {
		if known, err := in.finishEarlier(ctx, batches); known || err != nil {
			return queue.Receipt{Replayed: known}, err
		}
	}
	r, known, err := in.takeClaim(ctx)
	if known {
		in.s.sweepIn(stageTTL) // it is asked again if its node died
	}
	if known || err != nil {
		return r, err
	}
	if r, err = in.stageAll(ctx, batches); err == nil {
		r, err = in.commit(ctx, r)
	}
	if err == nil && r.ID != "" {
		return r, in.finish(ctx, batches)
	}
	if errors.Is(err, errLapsed) { // surely it isn't committed
		return queue.Receipt{}, errors.Join(err, in.unstageAll(ctx, batches))
	}
	return r, errors.Join(err, in.abort(ctx, batches))
}

// finish does what is left to do of a committed submission. It fails only for one with a past, which is not moved until it is in
// its lanes.
func (in *intake) finish(ctx context.Context, all batches) error {
	if in.past != nil {
		return in.releaseAll(ctx, all)
	}
	in.noteObject(ctx)
	in.release(ctx, all)
	return nil
}

// batches are the recipients in each partition, as many as one script takes in at a time. The home has one at least.
type batches map[*partition][][]lane

// batches sorts the lanes by host: so one is touched once, and names that are new get into few pages.
func (in *intake) batches() batches {
	to := in.lanes()
	slices.SortFunc(to, func(a, b lane) int { return strings.Compare(a.host, b.host) })
	all := batches{in.home: {nil}}
	room := map[*partition]int{in.home: laneChunk}
	for _, l := range to {
		p := in.s.partitionOf(l.host)
		for some := range slices.Chunk(l.to, laneChunk) {
			if room[p] -= len(some); room[p] < 0 {
				room[p] = laneChunk - len(some)
				all[p] = append(all[p], nil)
			}
			last := &all[p][len(all[p])-1]
			*last = append(*last, lane{l.host, some})
		}
	}
	return all
}

// How many scripts of a submission are under way in a partition: while one runs, others are on their way, and one fsync
// does for several. Staging takes a fifth of the time of releasing.
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
	args := []string{cmp.Or(in.print, noKey), in.nonce, string(in.id[:]), millis(claimTTL)}
	for start := time.Now(); ; {
		m, err := in.claims.call(ctx, script.Claim, []string{in.claims.Of(rediskeys.Claim, in.claim)}, args)
		var kind, claimed string
		if err == nil {
			err = scan(m, &kind, &claimed)
		}
		switch {
		case err != nil:
			return r, false, err
		case kind == "go":
			if in.past == nil {
				in.claimed = claimed
			}
			return r, false, nil
		case kind != "wait":
			r, err = receipt(m)
			return r, true, err
		case time.Since(start) > callTimeout:
			return r, false, queue.ErrUnderWay
		}
		if err := pause(ctx, claimPause); err != nil {
			return r, false, err
		}
	}
}

// attemptMark stands in what is staged between the claim and when that was taken: what is taken back of an attempt must not
// be of a later one.
const attemptMark = "@"

// noKey is the fingerprint in the claim of a submission without an idempotency key.
const noKey = "-"

// stageAll stages a submission and returns the receipt so far.
func (in *intake) stageAll(ctx context.Context, all batches) (sum queue.Receipt, err error) {
	var mu sync.Mutex
	err = all.each(staging, func(p *partition, n int, to []lane) error {
		r, err := in.stage(ctx, p, to, in.aboutBatch(p, n, all))
		mu.Lock()
		defer mu.Unlock()
		sum.Accepted += r.Accepted
		sum.Duplicates += r.Duplicates
		sum.Refused = append(sum.Refused, r.Refused...)
		return err
	})
	return sum, err
}

// aboutBatch returns what stage.lua wants of a batch besides what it wants of all: its number in its partition is n.
func (in *intake) aboutBatch(p *partition, n int, all batches) []string {
	parts := ""
	if p == in.home {
		parts = joinParts(slices.Collect(maps.Keys(all)))
	}
	several := len(all) > 2 || len(all) == 2 && all[in.home][0] != nil // else one has all deliveries
	return []string{in.claim + attemptMark + in.claimed, parts, flag(several), strconv.Itoa(n), in.claimed}
}

// stage stages the deliveries of a batch. about is what the script wants besides what it wants of all.
func (in *intake) stage(ctx context.Context, p *partition, to []lane, about []string) (queue.Receipt, error) {
	return in.knowingOthers(ctx, p, func(passed string) (rueidis.RedisMessage, error) {
		body := ""
		if about[3] == "0" { // else it is there
			body = string(in.sub.Body)
		}
		args := append(append(append(slices.Clone(in.shared), body), about...), passed, in.packed(p, to))
		m, err := p.call(ctx, script.Stage, p.heads(in.staging(p), hostsOf(to)), args)
		var kind, others string
		if err == nil {
			err = scan(m, &kind, &others)
		}
		if err != nil || kind != "lanes" {
			return m, err
		}
		return p.call(ctx, script.Stage, p.lanes(in.staging(p), hostsOf(to)), args)
	})
}

// staging is the keys of the activity, of its marks, and of what is staged of it.
func (in *intake) staging(p *partition) []string {
	return append(p.fiveMarked(p.activity(nil, in.text), in.marks), p.Of(rediskeys.Staging, in.text))
}

// commit decides that a submission is stored, if there is anything to store.
func (in *intake) commit(ctx context.Context, r queue.Receipt) (queue.Receipt, error) {
	pairs := in.sortRefused(r.Refused)
	if r.Accepted+r.Duplicates == 0 {
		return r, nil
	}
	ok, err := in.s.commitClaim(ctx, in.claim, string(in.id[:]), in.head, strconv.Itoa(r.Accepted), strconv.Itoa(r.Duplicates),
		encode(pairs), millis(committedTTL+in.sub.TTL))
	if err == nil && !ok {
		err = errLapsed
	}
	r.ID = in.sub.ID
	r.URI = in.sub.URI
	r.Note = in.sub.Note
	return r, err
}

// commitClaim runs commit.lua on a claim, and reports whether it was in time.
func (s *conn) commitClaim(ctx context.Context, claim string, args ...string) (ok bool, err error) {
	p := s.partitionOf(claim)
	err = p.run(ctx, script.Commit, []string{p.Of(rediskeys.Claim, claim)}, args, &ok)
	return ok, err
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

// unstage takes back what is staged of an activity in a partition: under a claim as it is stored with that or, if it is "",
// whatever is.
func (p *partition) unstage(ctx context.Context, id uuid.UUID, claim string) error {
	a, _, err := p.readPart(ctx, id.String())
	if err != nil {
		return err
	}
	keys := append(p.fiveMarked(p.activity(nil, id.String()), a.marks()), p.Of(rediskeys.Staging, id.String()))
	return p.run(ctx, script.Unstage, keys, []string{string(id[:]), claim, a.marks()})
}

// abort takes back what was staged. An error of the first call means that it may have been committed after all: then
// what is staged is left to Sweep, as it is where this fails.
func (in *intake) abort(ctx context.Context, all batches) error {
	ctx = context.WithoutCancel(ctx)
	ok, err := in.s.commitClaim(ctx, in.claim, string(in.id[:]), "")
	if err != nil || !ok {
		return err
	}
	return in.unstageAll(ctx, all)
}

func (in *intake) unstageAll(ctx context.Context, all batches) (err error) {
	ctx = context.WithoutCancel(ctx)
	for p := range all {
		err = errors.Join(err, p.unstage(ctx, in.id, ""))
	}
	return err
}

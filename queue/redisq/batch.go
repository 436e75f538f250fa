package redisq

import (
	"cmp"
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue/redisq/script"
)

// One script does at most so much: that takes some milliseconds.
const (
	batchCalls = 64
	postCalls  = 24 // so that a node reads some calls of its callers while Redis works on others, as there are some dozens
	batchKeys  = 1000
	batchBytes = 256 << 10

	batchScripts = 2 // calls under way at a time: while one runs, the other is on its way
)

// batcher has one call of Redis do what several callers want of it: what comes while calls are under way waits, and goes
// together. It is safe for concurrent use.
type batcher struct {
	work    *errands
	script  script.Name                                          // if it is one
	several bool                                                 // whether it answers several calls of a partition
	do      func(ctx context.Context, bundles []bundle) []result // of each, in their order
	most    int                                                  // calls that go together, if not batchCalls
	mu      sync.Mutex
	waiting []*batchedCall // guarded by mu
	running int            // goroutines that run scripts, guarded by mu
}

// batchedCall is what one caller wants of a partition.
type batchedCall struct {
	p          *partition
	apart      string // two of the same never go together, as one is to find what the other has left; "" if it does not matter
	keys, args []string
	answer     rueidis.RedisMessage
	err        error
	done       chan struct{} // closed when answer or err are there
}

// bundle is calls that are made together in one partition.
type bundle []*batchedCall

func (c bundle) partition() *partition { return c[0].p }

func (c bundle) keys() (all []string) {
	for _, one := range c {
		all = append(all, one.keys...)
	}
	return all
}

func (c bundle) args() (all []string) {
	for _, one := range c {
		all = append(all, one.args...)
	}
	return all
}

// result is what came of a bundle: an answer to each call, or an error.
type result struct {
	answers []rueidis.RedisMessage
	err     error
}

// batcherOf returns a batcher of a script, which answers several calls of a partition, or one at a time.
func (s *conn) batcherOf(name script.Name, several bool) *batcher {
	return &batcher{work: &s.work, script: name, several: several, do: func(ctx context.Context, bundles []bundle) []result {
		results := s.callEach(ctx, name, bundles)
		for i, r := range results {
			if several && r.err == nil {
				results[i].err = scan(r.answers[0], &results[i].answers)
			}
		}
		return results
	}}
}

// call has something done, with others, and returns what is answered to that. If the context ends first, it may
// be done or not.
func (g *batcher) call(ctx context.Context, c *batchedCall) (rueidis.RedisMessage, error) {
	g.begin(c)
	return g.wait(ctx, c)
}

// begin has several things done, together if they can be. Each has to be waited for.
func (g *batcher) begin(calls ...*batchedCall) {
	for _, c := range calls {
		c.done = make(chan struct{})
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.waiting = append(g.waiting, calls...)
	if g.running < batchScripts {
		g.running++
		g.work.Go(g.run)
	}
}

func (g *batcher) wait(ctx context.Context, c *batchedCall) (rueidis.RedisMessage, error) {
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		g.forget(c)
		return rueidis.RedisMessage{}, translate(ctx, ctx.Err())
	}
}

// forget takes out a call whose caller has given it up, unless it is under way: while Redis is away, calls would pile up.
func (g *batcher) forget(c *batchedCall) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting, c); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
}

// run makes calls until nobody waits. Those that are about to come at the same time are let in first.
func (g *batcher) run() {
	runtime.Gosched()
	for group := g.next(); len(group) > 0; group = g.next() {
		g.together(group)
	}
}

// next takes from those that wait as many as go together. When it returns none, its caller has ended.
func (g *batcher) next() (group []*batchedCall) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var later []*batchedCall
	apart := map[string]bool{}
	keys := 0
	bytes := 0
	for i, c := range g.waiting {
		if len(group) == cmp.Or(g.most, batchCalls) || keys > batchKeys || bytes > batchBytes {
			later = append(later, g.waiting[i:]...)
			break
		}
		if apart[c.apart] {
			later = append(later, c)
			continue
		}
		apart[c.apart] = c.apart != ""
		keys += len(c.keys)
		for _, arg := range c.args {
			bytes += len(arg)
		}
		group = append(group, c)
	}
	if g.waiting = later; len(group) == 0 {
		g.running--
	}
	return group
}

// together makes the calls of a group. Where a script fails in a partition, each call there is made by itself, so that one which
// fails at a key holds up no other.
func (g *batcher) together(group []*batchedCall) {
	ctx := context.Background() // each script has a deadline, and each caller waits for as long as it wants
	bundles := slices.Collect(slices.Chunk(bundle(group), 1))
	if g.several {
		bundles = byPartition(group)
	}
	var alone []bundle
	for i, r := range g.do(ctx, bundles) {
		if scriptFailed(r.err) && len(bundles[i]) > 1 {
			alone = slices.AppendSeq(alone, slices.Chunk(bundles[i], 1))
			continue
		}
		g.end(ctx, bundles[i], r)
	}
	if len(alone) == 0 {
		return
	}
	for i, r := range g.do(ctx, alone) {
		g.end(ctx, alone[i], r)
	}
}

// byPartition bundles calls by their partitions, in their order.
func byPartition(calls []*batchedCall) (bundles []bundle) {
	places := map[*partition]int{}
	for _, c := range calls {
		i, known := places[c.p]
		if !known {
			i = len(bundles)
			places[c.p] = i
			bundles = append(bundles, nil)
		}
		bundles[i] = append(bundles[i], c)
	}
	return bundles
}

// end tells the callers what came of their calls.
func (g *batcher) end(ctx context.Context, calls bundle, r result) {
	for i, c := range calls {
		if c.err = r.err; r.err == nil {
			c.answer = r.answers[i]
			c.err = c.answer.Error()
		}
		if rueidis.IsRedisNil(c.err) {
			c.err = nil
		}
		if r.err == nil && c.err != nil {
			c.err = translate(ctx, c.p.diagnose(ctx, c.err, c.p.keysOf(script.All()[g.script], c.keys)))
		}
		close(c.done)
	}
}

// scriptFailed reports whether a script ran and failed.
func scriptFailed(err error) bool {
	re, ok := errors.AsType[*rueidis.RedisError](err)
	return ok && strings.Contains(re.Error(), "user_script")
}

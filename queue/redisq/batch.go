package redisq

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue/redisq/script"
)

// One script does at most so much: that takes some milliseconds.
const (
	batchCalls = 64
	batchKeys  = 1000
	batchBytes = 256 << 10

	batchScripts = 2 // calls under way at a time: while one runs, the other is on its way
)

// batcher has one call of Redis do what several callers want of it: what comes while calls are under way waits, and goes
// together. It is safe for concurrent use.
type batcher struct {
	p       *partition
	script  script.Name                                                                    // if it is one
	do      func(ctx context.Context, keys, args []string) ([]rueidis.RedisMessage, error) // an answer for each
	mu      sync.Mutex
	waiting []*batchedCall // guarded by mu
	running int            // goroutines that run scripts, guarded by mu
}

// batchedCall is what one caller wants.
type batchedCall struct {
	apart      string // two of the same never go together, as one is to find what the other has left; "" if it does not matter
	keys, args []string
	answer     rueidis.RedisMessage
	err        error
	done       chan struct{} // closed when answer or err are there
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
		g.p.work.Go(g.run)
	}
}

func (g *batcher) wait(ctx context.Context, c *batchedCall) (rueidis.RedisMessage, error) {
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		g.forget(c)
		return rueidis.RedisMessage{}, ctx.Err()
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

// run makes calls until nobody waits.
func (g *batcher) run() {
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
		if len(group) == batchCalls || keys > batchKeys || bytes > batchBytes {
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

// together makes the call for a group. Where a script fails for all of it, it runs for each by itself, so that one which
// fails at a key holds up no other.
func (g *batcher) together(group []*batchedCall) {
	var keys, args []string
	for _, c := range group {
		keys = append(keys, c.keys...)
		args = append(args, c.args...)
	}
	ctx := context.Background() // the script has a deadline, and each caller waits for as long as it wants
	answers, err := g.do(ctx, keys, args)
	if scriptFailed(err) && len(group) > 1 {
		for i := range group {
			g.together(group[i : i+1])
		}
		return
	}
	for i, c := range group {
		if c.err = err; err == nil {
			c.answer = answers[i]
			c.err = c.answer.Error()
		}
		if rueidis.IsRedisNil(c.err) {
			c.err = nil
		}
		if err == nil && c.err != nil {
			c.err = translate(ctx, g.p.diagnose(ctx, c.err, g.p.keysOf(script.All()[g.script], c.keys)))
		}
		close(c.done)
	}
}

// scripted returns a batcher of a script.
func (p *partition) scripted(name script.Name) *batcher {
	return &batcher{p: p, script: name, do: func(ctx context.Context, keys, args []string) (answers []rueidis.RedisMessage, err error) {
		err = p.run(ctx, name, keys, args, &answers)
		return answers, err
	}}
}

// scriptFailed reports whether a script ran and failed.
func scriptFailed(err error) bool {
	re, ok := errors.AsType[*rueidis.RedisError](err)
	return ok && strings.Contains(re.Error(), "user_script")
}

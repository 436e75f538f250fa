package redisq

import (
	"context"
	"slices"
	"sync"

	"github.com/redis/rueidis"
)

// What goes to Redis together at most: a script that stores this takes some milliseconds.
const (
	gatherCalls = 64
	gatherBytes = 256 << 10

	gatherScripts = 2 // under way at a time: while one runs, the other is on its way
)

// gatherer has one script store what several callers want stored: what comes while scripts are under way waits, and goes
// together. It is safe for concurrent use.
type gatherer struct {
	s       *Store
	p       *partition
	mu      sync.Mutex
	waiting []*gathered // guarded by mu
	running int         // goroutines that run scripts, guarded by mu
}

// gathered is what one caller wants of the script.
type gathered struct {
	claim      string // two of the same never go together, as one is to find what the other has left
	keys, args []string
	answer     []rueidis.RedisMessage
	err        error
	done       chan struct{} // closed when answer or err are there
}

// enqueue stores a submission, with others, and returns what the script answers to it. If the context ends first, the
// submission may be stored or not.
func (g *gatherer) enqueue(ctx context.Context, c *gathered) ([]rueidis.RedisMessage, error) {
	g.mu.Lock()
	g.waiting = append(g.waiting, c)
	if g.running < gatherScripts {
		g.running++
		g.s.work.Go(g.run)
	}
	g.mu.Unlock()
	select {
	case <-c.done:
		return c.answer, c.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// run runs scripts until nobody waits.
func (g *gatherer) run() {
	for group := g.next(); len(group) > 0; group = g.next() {
		g.store(group)
	}
}

// next takes from those that wait as many as go together. When it returns none, its caller has ended.
func (g *gatherer) next() (group []*gathered) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var later []*gathered
	claims, bytes := map[string]bool{}, 0
	for i, c := range g.waiting {
		if len(group) == gatherCalls || bytes > gatherBytes {
			later = append(later, g.waiting[i:]...)
			break
		}
		if claims[c.claim] {
			later = append(later, c)
			continue
		}
		claims[c.claim] = true
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

// store runs the script for a group.
func (g *gatherer) store(group []*gathered) {
	var keys, args []string
	for _, c := range group {
		keys, args = append(keys, c.keys...), append(args, c.args...)
	}
	ctx := context.Background() // the script has a deadline, and each caller waits for as long as it wants
	answers, err := g.s.array(ctx, enqueueScript, g.p, keys, args)
	for i, c := range group {
		if c.err = err; err == nil {
			c.answer, c.err = answers[i].ToArray()
		}
		if err == nil && c.err != nil {
			c.err = translate(ctx, g.s.diagnose(ctx, c.err, slices.Concat(g.p.common, c.keys)))
		}
		close(c.done)
	}
}

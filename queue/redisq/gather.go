package redisq

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/redis/rueidis"
)

// What goes to Redis together at most: a script that does this takes some milliseconds.
const (
	gatherCalls = 64
	gatherKeys  = 1000
	gatherBytes = 256 << 10

	gatherScripts = 2 // under way at a time: while one runs, the other is on its way
)

// gatherer has one script do what several callers want of it: what comes while scripts are under way waits, and goes
// together. It is safe for concurrent use.
type gatherer struct {
	s       *Store
	p       *partition
	script  script
	mu      sync.Mutex
	waiting []*gathered // guarded by mu
	running int         // goroutines that run scripts, guarded by mu
}

// gathered is what one caller wants of the script.
type gathered struct {
	apart      string // two of the same never go together, as one is to find what the other has left
	keys, args []string
	answer     []rueidis.RedisMessage
	err        error
	done       chan struct{} // closed when answer or err are there
}

// call has the script do something, with others, and returns what it answers to that. If the context ends first, it may
// be done or not.
func (g *gatherer) call(ctx context.Context, c *gathered) ([]rueidis.RedisMessage, error) {
	c.done = make(chan struct{})
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
		g.forget(c)
		return nil, ctx.Err()
	}
}

// forget takes out what nobody wants any more, unless it is under way: while Redis is away, it would pile up.
func (g *gatherer) forget(c *gathered) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i := slices.Index(g.waiting, c); i >= 0 {
		g.waiting = slices.Delete(g.waiting, i, i+1)
	}
}

// run runs scripts until nobody waits.
func (g *gatherer) run() {
	for group := g.next(); len(group) > 0; group = g.next() {
		g.do(group)
	}
}

// next takes from those that wait as many as go together. When it returns none, its caller has ended.
func (g *gatherer) next() (group []*gathered) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var later []*gathered
	apart, keys, bytes := map[string]bool{}, 0, 0
	for i, c := range g.waiting {
		if len(group) == gatherCalls || keys > gatherKeys || bytes > gatherBytes {
			later = append(later, g.waiting[i:]...)
			break
		}
		if apart[c.apart] {
			later = append(later, c)
			continue
		}
		apart[c.apart] = true
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

// do runs the script for a group. Where the script fails for all of it, it runs for each by itself, so that one which
// stumbles over a key holds up no other.
func (g *gatherer) do(group []*gathered) {
	var keys, args []string
	for _, c := range group {
		keys, args = append(keys, c.keys...), append(args, c.args...)
	}
	ctx := context.Background() // the script has a deadline, and each caller waits for as long as it wants
	answers, err := g.s.array(ctx, g.script, g.p, keys, args)
	if stumbled(err) && len(group) > 1 {
		for i := range group {
			g.do(group[i : i+1])
		}
		return
	}
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

// stumbled tells whether a script ran and failed.
func stumbled(err error) bool {
	re, ok := errors.AsType[*rueidis.RedisError](err)
	return ok && strings.Contains(re.Error(), "user_script")
}

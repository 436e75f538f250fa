package handlers

import (
	"context"
	"sync"

	"golang.org/x/sync/semaphore"
)

// shares is room that all callers share. Where there are several tokens, each gets at most a part of it, so that one
// caller can't take it all. It is safe for concurrent use.
type shares struct {
	all  *semaphore.Weighted
	last sync.Mutex // held by a claim that gives up, so that of claims that wait for one another only one does at a time

	mu   sync.Mutex
	part int64                          // the most that one token gets; guarded by mu
	own  map[string]*semaphore.Weighted // by the name of the token; guarded by mu
}

func newShares(total int64) *shares {
	s := &shares{all: semaphore.NewWeighted(total)}
	s.divide(total)
	return s
}

// divide sets the most that one token gets from now on. Claims made before count against what was there before.
func (s *shares) divide(part int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.part, s.own = part, map[string]*semaphore.Weighted{}
}

// claim returns a claim of a token to room, which is empty.
func (s *shares) claim(token string) *claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	own := s.own[token]
	if own == nil {
		own = semaphore.NewWeighted(s.part)
		s.own[token] = own
	}
	return &claim{all: s.all, own: own, last: &s.last}
}

// claim is what one request holds of the room. Only one goroutine at a time uses it.
type claim struct {
	all, own *semaphore.Weighted
	last     *sync.Mutex
	held     int64
}

// tryGrow takes more room, and reports whether there is some at once.
func (c *claim) tryGrow(more int64) bool {
	if !c.own.TryAcquire(more) {
		return false
	}
	if !c.all.TryAcquire(more) {
		c.own.Release(more)
		return false
	}
	c.held += more
	return true
}

// grow takes more room, for which it waits until ctx ends. Then it gives back what it holds and returns ctx's error, unless
// another that gave up at the same time has left it enough.
func (c *claim) grow(ctx context.Context, more int64) error {
	err := c.await(ctx, more)
	if err == nil {
		return nil
	}
	c.last.Lock()
	defer c.last.Unlock()
	if c.tryGrow(more) {
		return nil
	}
	c.release()
	return err
}

func (c *claim) await(ctx context.Context, more int64) error {
	if err := c.own.Acquire(ctx, more); err != nil {
		return err
	}
	if err := c.all.Acquire(ctx, more); err != nil {
		c.own.Release(more)
		return err
	}
	c.held += more
	return nil
}

// release gives all room back. It may be called several times.
func (c *claim) release() {
	c.all.Release(c.held)
	c.own.Release(c.held)
	c.held = 0
}

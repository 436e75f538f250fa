package redisq

import (
	"container/list"
	"sync"
)

const (
	activityBytes = 32 << 20 // what is kept of activities: those of a large fan-out are taken many times within seconds
	keyBytes      = 4 << 20  // and of keys
)

// cache keeps what was used last of things that never change, by their name. It is safe for concurrent use.
type cache[T any] struct {
	limit int

	mu       sync.Mutex
	size     int                      // guarded by mu
	order    *list.List               // guarded by mu: of entry[T], the one used last in front
	elements map[string]*list.Element // guarded by mu
}

type entry[T any] struct {
	name  string
	size  int
	thing T
}

func newCache[T any](limit int) *cache[T] {
	return &cache[T]{limit: limit, order: list.New(), elements: map[string]*list.Element{}}
}

func (c *cache[T]) get(name string) (thing T, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element := c.elements[name]
	if element == nil {
		return thing, false
	}
	c.order.MoveToFront(element)
	return element.Value.(entry[T]).thing, true
}

// put keeps a thing of so many bytes.
func (c *cache[T]) put(name string, size int, thing T) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.elements[name] != nil {
		return
	}
	c.elements[name] = c.order.PushFront(entry[T]{name, size, thing})
	for c.size += size; c.size > c.limit && c.order.Len() > 1; {
		last := c.order.Remove(c.order.Back()).(entry[T])
		delete(c.elements, last.name)
		c.size -= last.size
	}
}

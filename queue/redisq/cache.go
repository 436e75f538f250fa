package redisq

import (
	"container/list"
	"sync"

	"github.com/postrider/postrider/queue"
)

// cacheBytes bounds what is kept of activities: those of a large fan-out are taken many times within seconds.
const cacheBytes = 32 << 20

// cache keeps the activities used last, by ID. Activities never change. It is safe for concurrent use.
type cache struct {
	limit int

	mu     sync.Mutex
	size   int                      // guarded by mu: of the bodies
	order  *list.List               // guarded by mu: of *queue.Activity, the one used last in front
	places map[string]*list.Element // guarded by mu
}

func newCache(limit int) *cache {
	return &cache{limit: limit, order: list.New(), places: map[string]*list.Element{}}
}

func (c *cache) get(id string) *queue.Activity {
	c.mu.Lock()
	defer c.mu.Unlock()
	place := c.places[id]
	if place == nil {
		return nil
	}
	c.order.MoveToFront(place)
	return place.Value.(*queue.Activity)
}

func (c *cache) put(a *queue.Activity) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.places[a.ID] != nil {
		return
	}
	c.places[a.ID] = c.order.PushFront(a)
	for c.size += len(a.Body); c.size > c.limit && c.order.Len() > 1; {
		last := c.order.Remove(c.order.Back()).(*queue.Activity)
		delete(c.places, last.ID)
		c.size -= len(last.Body)
	}
}

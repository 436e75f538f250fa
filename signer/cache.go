package signer

import (
	"bytes"
	"container/list"
	"sync"
)

// keyCache keeps the most recently used keys parsed, since parsing one costs a quarter of a signature. A key is used only
// while its sealed bytes are those it was parsed from. Concurrent callers that miss the same key share one parse.
type keyCache struct {
	size int
	open openFunc

	mu      sync.Mutex
	entries map[cacheKey]*list.Element // guarded by mu; values are *cacheEntry
	recent  *list.List                 // guarded by mu; the most recently used in front
}

// openFunc parses a sealed key.
type openFunc = func(keyID string, sealed []byte) (*signingKey, error)

// cacheKey is a key ID and a pin.
type cacheKey struct{ keyID, pin string }

type cacheEntry struct {
	cacheKey
	sealed []byte
	key    func() (*signingKey, error) // parses at the first call
}

func newKeyCache(size int, open openFunc) *keyCache {
	return &keyCache{size: size, open: open, entries: make(map[cacheKey]*list.Element), recent: list.New()}
}

// get returns the key that sealed holds. Failures are not cached.
func (c *keyCache) get(keyID, pin string, sealed []byte) (*signingKey, error) {
	e := c.entry(cacheKey{keyID, pin}, sealed)
	key, err := e.key()
	if err != nil {
		c.drop(e)
	}
	return key, err
}

func (c *keyCache) entry(id cacheKey, sealed []byte) *cacheEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[id]; ok {
		e := el.Value.(*cacheEntry)
		if bytes.Equal(e.sealed, sealed) {
			c.recent.MoveToFront(el)
			return e
		}
		c.remove(el)
	} else if c.recent.Len() >= c.size {
		c.remove(c.recent.Back())
	}
	e := &cacheEntry{cacheKey: id, sealed: sealed}
	e.key = sync.OnceValues(func() (*signingKey, error) { return c.open(id.keyID, sealed) })
	c.entries[id] = c.recent.PushFront(e)
	return e
}

// forget drops all keys under an ID.
func (c *keyCache) forget(keyID string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, el := range c.entries {
		if id.keyID == keyID {
			c.remove(el)
		}
	}
}

// missing drops the key under an ID and pin, which the store no longer has.
func (c *keyCache) missing(keyID, pin string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[cacheKey{keyID, pin}]; ok {
		c.remove(el)
	}
}

// drop forgets e, unless another entry has replaced it.
func (c *keyCache) drop(e *cacheEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[e.cacheKey]; ok && el.Value == e {
		c.remove(el)
	}
}

// remove takes an element out. c.mu is held.
func (c *keyCache) remove(el *list.Element) {
	delete(c.entries, el.Value.(*cacheEntry).cacheKey)
	c.recent.Remove(el)
}

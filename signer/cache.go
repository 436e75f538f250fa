package signer

import (
	"bytes"
	"container/list"
	"sync"
)

// keyCache keeps the keys used last parsed, since parsing one costs a quarter of a signature. A key is used only while
// its sealed bytes are those it was parsed from. Callers that miss the same key at once share one parse.
type keyCache struct {
	size int
	open openFunc

	mu      sync.Mutex
	entries map[string]*list.Element // guarded by mu; by key ID, values are *cacheEntry
	recent  *list.List               // guarded by mu; the one used last in front
}

// openFunc makes a key of what is sealed. Last is the key that was kept under the ID until now, or nil.
type openFunc = func(keyID string, sealed []byte, last *signingKey) (*signingKey, error)

type cacheEntry struct {
	keyID  string
	sealed []byte
	key    func() (*signingKey, error) // parses at the first call
}

func newKeyCache(size int, open openFunc) *keyCache {
	return &keyCache{size: size, open: open, entries: make(map[string]*list.Element), recent: list.New()}
}

// get returns the key that sealed holds. Failures are not kept.
func (c *keyCache) get(keyID string, sealed []byte) (*signingKey, error) {
	e := c.entry(keyID, sealed)
	key, err := e.key()
	if err != nil {
		c.drop(e)
	}
	return key, err
}

func (c *keyCache) entry(keyID string, sealed []byte) *cacheEntry {
	c.mu.Lock()
	defer c.mu.Unlock()
	last := func() (*signingKey, error) { return nil, nil }
	if el, ok := c.entries[keyID]; ok {
		e := el.Value.(*cacheEntry)
		if bytes.Equal(e.sealed, sealed) {
			c.recent.MoveToFront(el)
			return e
		}
		c.remove(el)
		last = e.key
	} else if c.recent.Len() >= c.size {
		c.remove(c.recent.Back())
	}
	e := &cacheEntry{keyID: keyID, sealed: sealed}
	e.key = sync.OnceValues(func() (*signingKey, error) { // drops last once it is called
		was, _ := last() // whoever made that entry hears of its error
		return c.open(keyID, sealed, was)
	})
	c.entries[keyID] = c.recent.PushFront(e)
	return e
}

// drop forgets e, unless another has its place already.
func (c *keyCache) drop(e *cacheEntry) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if el, ok := c.entries[e.keyID]; ok && el.Value == e {
		c.remove(el)
	}
}

// remove takes an element out. c.mu is held.
func (c *keyCache) remove(el *list.Element) {
	delete(c.entries, el.Value.(*cacheEntry).keyID)
	c.recent.Remove(el)
}

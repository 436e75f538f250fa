package redisq

import (
	"context"
	"sync"

	"github.com/postrider/postrider/queue"
)

// keyReader reads the keys of a partition. Who asks while a read is under way waits for the next one, for that one may have
// been served before; but all who do so share it, as one command. It is safe for concurrent use.
type keyReader struct {
	s       *Store
	p       *partition
	mu      sync.Mutex
	next    *keyRead // the read that has not been sent yet, nil if nobody waits for one; guarded by mu
	running bool     // a goroutine reads; guarded by mu
}

// keyRead is a read of some keys.
type keyRead struct {
	places map[string]int // of their hashes
	hashes []string
	keys   []foundKey // in the same places
	err    error
	done   chan struct{} // closed when keys or err are there
}

type foundKey struct {
	key queue.Key
	err error // ErrNotFound if there is none
}

// read returns a key as it is stored at some time during the call.
func (r *keyReader) read(ctx context.Context, hash string) (queue.Key, error) {
	read, place := r.join(hash)
	select {
	case <-read.done:
	case <-ctx.Done():
		return queue.Key{}, ctx.Err()
	}
	if read.err != nil {
		return queue.Key{}, read.err
	}
	found := read.keys[place]
	return found.key, found.err
}

// join has the next read bring a key, and returns where.
func (r *keyReader) join(hash string) (read *keyRead, place int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.next == nil {
		r.next = &keyRead{places: map[string]int{}, done: make(chan struct{})}
	}
	place, known := r.next.places[hash]
	if !known {
		place = len(r.next.hashes)
		r.next.places[hash] = place
		r.next.hashes = append(r.next.hashes, hash)
	}
	if !r.running {
		r.running = true
		r.s.work.Go(r.run)
	}
	return r.next, place
}

// run reads until nobody waits.
func (r *keyReader) run() {
	for read := r.begin(); read != nil; read = r.begin() {
		read.keys, read.err = r.s.readKeys(context.Background(), r.p, read.hashes) // each caller waits for as long as it wants
		close(read.done)
	}
}

// begin returns the next read, which nobody joins any more. When it returns none, its caller has ended.
func (r *keyReader) begin() *keyRead {
	r.mu.Lock()
	defer r.mu.Unlock()
	read := r.next
	r.next, r.running = nil, read != nil
	return read
}

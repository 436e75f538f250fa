package embedded

import (
	"context"
	"fmt"
	"sync"
	"time"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// keyring holds the keys. It has a lock of its own, so that who only looks for a key, as every call does, never waits for
// what the writer does to the index.
type keyring struct {
	mu   sync.RWMutex
	byID map[string]queue.Key
}

func newKeyring() *keyring { return &keyring{byID: map[string]queue.Key{}} }

func (r *keyring) get(id string) (k queue.Key, ok bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	k, ok = r.byID[id]
	return k, ok
}

// put adds or replaces a key, and tells whether it was there.
func (r *keyring) put(k queue.Key) (known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, known = r.byID[k.ID]
	r.byID[k.ID] = k
	return known
}

func (r *keyring) remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.byID, id)
}

func (s *Store) loadKeys(c *sqlite.Conn) error {
	return each(c, "SELECT id, algorithm, public_pem, fingerprint, sealed, created FROM keys", nil, func(row *sqlite.Stmt) error {
		s.keys.put(queue.Key{
			ID: row.ColumnText(0), Algorithm: row.ColumnText(1), PublicPEM: row.ColumnText(2), Fingerprint: row.ColumnText(3),
			Sealed: blob(row, 4), CreatedAt: fromMillis(row.ColumnInt64(5)),
		})
		return nil
	})
}

// PutKey implements queue.Keys.
func (s *Store) PutKey(ctx context.Context, k queue.Key) (created bool, err error) {
	err = s.writer.do(ctx, func(t *tx) error {
		k.CreatedAt = fromMillis(millis(t.now))
		return t.exec("INSERT OR REPLACE INTO keys (id, algorithm, public_pem, fingerprint, sealed, created) VALUES (?,?,?,?,?,?)",
			k.ID, k.Algorithm, k.PublicPEM, k.Fingerprint, k.Sealed, millis(k.CreatedAt))
	}, func() {
		created = !s.keys.put(k)
		s.index.keyCame(k.ID, millis(time.Now()))
	})
	if err != nil {
		return false, fmt.Errorf("put key: %w", err)
	}
	return created, nil
}

// keyCame makes due what waits for a key.
func (x *index) keyCame(id string, now int64) {
	for _, e := range x.parked[id] {
		x.unpark(e)
		if e.flags&taken == 0 {
			x.reschedule(e, now, now)
			x.place(e.lane, now)
		}
	}
}

// Key implements queue.Keys.
func (s *Store) Key(_ context.Context, id string) (queue.Key, error) {
	k, ok := s.keys.get(id)
	if !ok {
		return k, queue.ErrNotFound
	}
	return k, nil
}

// Keys implements queue.Keys.
func (s *Store) Keys(ctx context.Context, p queue.Page) (queue.List[queue.Key], error) {
	var list queue.List[queue.Key]
	after, err := nameAfter(p.Cursor)
	if err != nil {
		return list, err
	}
	err = s.read(ctx, func(c *sqlite.Conn) error {
		return each(c, "SELECT id, algorithm, public_pem, fingerprint, sealed, created FROM keys WHERE id > ? ORDER BY id LIMIT ?",
			[]any{after, p.Limit + 1}, func(row *sqlite.Stmt) error {
				if len(list.Items) == p.Limit {
					list.Next = cursorAfter(list.Items[p.Limit-1].ID)
					return nil
				}
				list.Items = append(list.Items, queue.Key{
					ID: row.ColumnText(0), Algorithm: row.ColumnText(1), PublicPEM: row.ColumnText(2),
					Fingerprint: row.ColumnText(3), Sealed: blob(row, 4), CreatedAt: fromMillis(row.ColumnInt64(5)),
				})
				return nil
			})
	})
	if err != nil {
		return queue.List[queue.Key]{}, fmt.Errorf("keys: %w", err)
	}
	return list, nil
}

// DeleteKey implements queue.Keys.
func (s *Store) DeleteKey(ctx context.Context, id string) error {
	var found bool
	err := s.writer.do(ctx, func(t *tx) error {
		err := t.exec("DELETE FROM keys WHERE id = ?", id)
		found = t.conn.Changes() > 0
		return err
	}, func() { s.keys.remove(id) })
	if err != nil {
		return fmt.Errorf("delete key: %w", err)
	}
	if !found {
		return queue.ErrNotFound
	}
	return nil
}

// ResealKeys implements queue.Keys. All are replaced in one operation of the writer.
func (s *Store) ResealKeys(ctx context.Context, keys []queue.Reseal) (int, error) {
	var replaced []queue.Reseal
	err := s.writer.do(ctx, func(t *tx) error {
		replaced = replaced[:0] // the writer may run this again
		for _, k := range keys {
			if err := t.exec("UPDATE keys SET sealed = ? WHERE id = ? AND sealed = ?", k.New, k.ID, k.Old); err != nil {
				return err
			}
			if t.conn.Changes() > 0 {
				replaced = append(replaced, k)
			}
		}
		return nil
	}, func() {
		for _, r := range replaced {
			k, _ := s.keys.get(r.ID)
			k.Sealed = r.New
			s.keys.put(k)
		}
	})
	if err != nil {
		return 0, fmt.Errorf("reseal keys: %w", err)
	}
	return len(replaced), nil
}

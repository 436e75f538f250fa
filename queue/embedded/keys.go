package embedded

import (
	"context"
	"strings"
	"sync"

	"zombiezen.com/go/sqlite"

	"github.com/postrider/postrider/queue"
)

// keyring holds the keys. Looking a key up, as every call does, never waits for changes of the index.
type keyring struct{ byName sync.Map } // of queue.Key

func (r *keyring) get(name string) (k queue.Key, ok bool) {
	v, ok := r.byName.Load(name)
	if ok {
		k = v.(queue.Key)
	}
	return k, ok
}

// put adds or replaces a key, and reports whether it was there.
func (r *keyring) put(k queue.Key) (known bool) {
	_, known = r.byName.Swap(k.Name(), k)
	return known
}

func (r *keyring) remove(name string) { r.byName.Delete(name) }

const keyColumns = "id, algorithm, public_pem, fingerprint, sealed, created, when_idle"

// readKey reads the keyColumns of a row. Its time is by the store's clock, as in the keyring; shownKey converts it.
func readKey(row *sqlite.Stmt) queue.Key {
	k := queue.Key{
		Algorithm: row.ColumnText(1), PublicPEM: row.ColumnText(2), Fingerprint: row.ColumnText(3),
		Sealed: blob(row, 4), CreatedAt: fromMillis(row.ColumnInt64(5)), WhenIdle: row.ColumnBool(6),
	}
	k.ID, k.Pin, _ = strings.Cut(row.ColumnText(0), "\n")
	return k
}

// PutKey implements queue.Keys.
func (s *Store) PutKey(ctx context.Context, k queue.Key) (created bool, err error) {
	defer wrap(&err, "put key")
	k.WhenIdle = k.WhenIdle || k.Pin != ""
	err = s.writer.do(ctx, func(t *tx) error {
		k.CreatedAt = fromMillis(t.now)
		if err := t.feedKey(ctx, &k); err != nil {
			return err
		}
		return t.exec("INSERT OR REPLACE INTO keys ("+keyColumns+") VALUES (?,?,?,?,?,?,?)",
			k.Name(), k.Algorithm, k.PublicPEM, k.Fingerprint, k.Sealed, millis(k.CreatedAt), k.WhenIdle)
	}, func() {
		created = !s.keys.put(k)
		s.index.keyCame(k.Name(), s.clock.now())
		s.index.retiresAt(&k)
	})
	return created, err
}

// feedKey adds the entry of a key that is about to be put, unless it is there already, or pinned.
func (t *tx) feedKey(ctx context.Context, k *queue.Key) error {
	if k.Pin != "" {
		return nil
	}
	same, err := exists(t.conn, "SELECT 1 FROM keys WHERE id = ? AND fingerprint = ? AND when_idle = ?", k.ID, k.Fingerprint, k.WhenIdle)
	if err != nil || same {
		return err
	}
	return t.feed(queue.KeyActed(ctx, queue.ActionPutKey, k.ID))
}

// keyCame makes due the deliveries that wait for a key.
func (x *index) keyCame(name string, now int64) {
	for _, e := range x.awaiting[name] {
		x.endAwait(e)
		if e.flags&taken == 0 {
			x.reschedule(e, now, now)
			x.place(e.lane, now)
		}
	}
}

// Key implements queue.Keys.
func (s *Store) Key(_ context.Context, id, pin string) (queue.Key, error) {
	k, ok := s.keys.get(queue.KeyName(id, pin))
	if !ok {
		return k, queue.ErrNotFound
	}
	return s.clock.shownKey(k), nil
}

// Keys implements queue.Keys.
func (s *Store) Keys(ctx context.Context, f queue.KeyFilter, p queue.Page) (list queue.List[queue.Key], err error) {
	defer wrap(&err, "keys")
	after, err := queue.ParseNameCursor(p.Cursor)
	if err != nil {
		return list, err
	}
	list, err = read(ctx, s.db, func(c *sqlite.Conn) (queue.List[queue.Key], error) {
		return page(c, p.Limit, "SELECT "+keyColumns+" FROM keys WHERE id > ?1 AND (?2 OR instr(id, char(10)) = 0) AND "+
			"(?3 = '' OR id = ?3 OR id > ?3 || char(10) AND id < ?3 || char(11)) ORDER BY id", []any{after, f.Pinned, f.ID},
			func(row *sqlite.Stmt) (queue.Key, string) {
				k := s.clock.shownKey(readKey(row))
				return k, queue.NameCursor(k.Name())
			})
	})
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range list.Items {
		list.Items[i].Pending = s.index.signing[list.Items[i].Name()]
	}
	return list, err
}

// DeleteKey implements queue.Keys.
func (s *Store) DeleteKey(ctx context.Context, id string) error {
	return s.changeKey(ctx, id, queue.ActionDeleteKey, "DELETE FROM keys WHERE id = ?", func() { s.keys.remove(id) })
}

// RetireKey implements queue.Keys.
func (s *Store) RetireKey(ctx context.Context, id string) error {
	return s.changeKey(ctx, id, queue.ActionRetireKey, "UPDATE keys SET when_idle = 1 WHERE id = ?", func() {
		k, _ := s.keys.get(id)
		k.WhenIdle = true
		s.keys.put(k)
		s.index.retiresAt(&k)
	})
}

// changeKey changes a key by a query with its ID, and then in memory, or returns ErrNotFound.
func (s *Store) changeKey(ctx context.Context, id string, action queue.Action, query string, apply func()) (err error) {
	defer wrap(&err, "change key")
	var found bool
	err = s.writer.do(ctx, func(t *tx) error {
		wentWhenIdle, err := exists(t.conn, "SELECT 1 FROM keys WHERE id = ? AND when_idle", id)
		if err == nil {
			err = t.exec(query, id)
		}
		found = t.conn.Changes() > 0
		if err != nil || !found || wentWhenIdle && action == queue.ActionRetireKey {
			return err
		}
		return t.feed(queue.KeyActed(ctx, action, id))
	}, func() {
		if found {
			apply()
		}
	})
	if err == nil && !found {
		err = queue.ErrNotFound
	}
	return err
}

// retiresAt has a sweep check a key that is to be removed when idle.
func (x *index) retiresAt(k *queue.Key) {
	if !k.WhenIdle {
		return
	}
	x.retiring[k.Name()] = struct{}{}
	if x.signing[k.Name()] == 0 {
		x.expiryAt(mayRetire(k))
	}
}

// mayRetire returns the earliest time at which a key that is to be removed when idle may be.
func mayRetire(k *queue.Key) int64 {
	if k.Pin == "" {
		return 0
	}
	return millis(k.CreatedAt) + queue.PinGrace.Milliseconds()
}

// retireKeys removes keys that are to be removed when idle and for which nothing pends. A submission of the same
// transaction waits for its key, as it does when it comes after.
func (o *sweep) retireKeys(t *tx) error {
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	for name := range o.s.index.retiring {
		k, there := o.s.keys.get(name)
		switch at := mayRetire(&k); {
		case there && k.WhenIdle && o.s.index.signing[name] > 0:
			continue // once that is 0 a sweep looks again
		case there && k.WhenIdle && at > o.now:
			o.next = min(o.next, at)
			continue
		case there && k.WhenIdle:
			if err := t.exec("DELETE FROM keys WHERE id = ?", name); err != nil {
				return err
			}
		}
		o.retired[name] = there && k.WhenIdle
	}
	return nil
}

// ResealKeys implements queue.Keys. All are replaced in one operation of the writer.
func (s *Store) ResealKeys(ctx context.Context, keys []queue.Reseal) (resealed int, err error) {
	defer wrap(&err, "reseal keys")
	var replaced []queue.Reseal
	err = s.writer.do(ctx, func(t *tx) error {
		replaced = replaced[:0] // the writer may run this again
		for _, k := range keys {
			if err := t.exec("UPDATE keys SET sealed = ? WHERE id = ? AND sealed = ?", k.New, k.Name, k.Old); err != nil {
				return err
			}
			if t.conn.Changes() > 0 {
				replaced = append(replaced, k)
			}
		}
		return nil
	}, func() {
		for _, r := range replaced {
			k, _ := s.keys.get(r.Name)
			k.Sealed = r.New
			s.keys.put(k)
		}
		resealed = len(replaced)
	})
	return resealed, err
}

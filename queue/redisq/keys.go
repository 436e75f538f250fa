package redisq

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// keyring keeps private keys, sealed.
type keyring struct {
	*conn
	*channels
}

// keyAt returns the partition that a key is in, and the hash that it is found by.
func (s *keyring) keyAt(name string) (p *partition, hash string) {
	hash = nameHash(name)
	return s.partitionOf(hash), hash
}

// PutKey implements queue.Keys.
func (s *keyring) PutKey(ctx context.Context, k queue.Key) (created bool, err error) {
	defer wrap(&err, "put key")
	p, hash := s.keyAt(k.Name())
	action := ""
	if k.Pin == "" {
		action = said(queue.KeyActed(ctx, queue.ActionPutKey, k.ID))
	}
	var n, fed int
	err = p.run(ctx, script.PutKey, nil, []string{hash, k.Name(), toJSON(&k), graceOf(&k), k.Fingerprint, action}, &n, &fed)
	if err == nil {
		s.fed(fed)
		err = s.forEach(func(p *partition) error { return p.keyCame(ctx, hash) })
	}
	return n == 1, err
}

// keyCame makes due what waits for a key in a partition.
func (p *partition) keyCame(ctx context.Context, hash string) error {
	for {
		var members []string
		err := p.read(ctx, p.client.B().Zrangebylex().Key(p.Key(rediskeys.Parked)).Min("["+hash).Max("["+hash+"\xff").Limit(0, laneChunk).Build(), &members)
		if err != nil || len(members) == 0 {
			return err
		}
		hosts := make([]string, len(members))
		for i, m := range members {
			hosts[i] = strings.TrimPrefix(m, hash)
		}
		if err := p.run(ctx, script.Unpark, p.lanes(nil, hosts), append([]string{hash}, hosts...)); err != nil {
			return err
		}
	}
}

// Key implements queue.Keys. It asks Redis each time, in a command that those who ask at the same time share: a key kept
// here could be an old one. A key that has not changed is not parsed again.
func (s *keyring) Key(ctx context.Context, id, pin string) (queue.Key, error) {
	p, hash := s.keyAt(queue.KeyName(id, pin))
	m, err := p.keyReads.call(ctx, &batchedCall{p: p, args: []string{hash}})
	if err != nil {
		return queue.Key{}, fmt.Errorf("key: %w", err)
	}
	text := ""
	if err := scan(m, &text); err != nil || text == "" {
		return queue.Key{}, cmp.Or(err, queue.ErrNotFound)
	}
	k, same := s.parsed.get(text)
	if same {
		return k, nil
	}
	if k, err = parseKey(text); err != nil {
		return k, fmt.Errorf("key: %w", err)
	}
	s.parsed.put(text, 2*len(text), k)
	return k, nil
}

// readKeys reads keys of a partition by their hashes, each once.
func (p *partition) readKeys(ctx context.Context, bundles []bundle) []result {
	hashes := bundles[0].args()
	unique := slices.Compact(slices.Sorted(slices.Values(hashes)))
	var texts []rueidis.RedisMessage
	err := p.read(ctx, p.client.B().Hmget().Key(p.Key(rediskeys.Keys)).Field(unique...).Build(), &texts)
	if err != nil {
		return []result{{err: err}}
	}
	all := make([]rueidis.RedisMessage, len(hashes))
	for i, hash := range hashes {
		place, _ := slices.BinarySearch(unique, hash)
		all[i] = texts[place]
	}
	return []result{{answers: all}}
}

// A stored key begins with its time, one of these, and the rest.
const (
	stays        = "|"
	goesWhenIdle = "!"
)

var errKey = errors.New("a stored key has no time")

// parseKey reads what putkey.lua wrote.
func parseKey(text string) (k queue.Key, err error) {
	end := strings.IndexAny(text, stays+goesWhenIdle)
	if end < 0 {
		return k, errKey
	}
	ms, err := strconv.ParseInt(text[:end], 10, 64)
	if err != nil {
		return k, errKey // not what it holds
	}
	err = decode(text[end+1:], &k)
	k.CreatedAt = timeOf(ms)
	k.WhenIdle = text[end:end+1] == goesWhenIdle
	return k, err
}

// Keys implements queue.Keys.
func (s *keyring) Keys(ctx context.Context, f queue.KeyFilter, p queue.Page) (list queue.List[queue.Key], err error) {
	defer wrap(&err, "keys")
	after, err := queue.ParseNameCursor(p.Cursor)
	if err != nil {
		return list, err
	}
	names, err := s.keyNames(ctx, f, after, p.Limit+1)
	if err != nil {
		return list, err
	}
	if len(names) > p.Limit {
		names = names[:p.Limit]
		list.Next = queue.NameCursor(names[p.Limit-1])
	}
	list.Items, err = s.listedKeys(ctx, names)
	return list, err
}

// storedKeys reads what is stored of keys, "" if nothing is.
func (s *keyring) storedKeys(ctx context.Context, names []string) ([]string, error) {
	commands := make([]rueidis.Completed, len(names))
	for i, name := range names {
		p, hash := s.keyAt(name)
		commands[i] = s.client.B().Hget().Key(p.Key(rediskeys.Keys)).Field(hash).Build()
	}
	return readAll[string](ctx, s.conn, commands)
}

// listedKeys reads keys, and how many deliveries wait to be signed by them. Those removed meanwhile are left out.
func (s *keyring) listedKeys(ctx context.Context, names []string) ([]queue.Key, error) {
	texts, err := s.storedKeys(ctx, names)
	if err != nil {
		return nil, err
	}
	pending, err := s.signing(ctx, names)
	if err != nil {
		return nil, err
	}
	var keys []queue.Key
	for i, text := range texts {
		if text == "" {
			continue
		}
		k, err := parseKey(text)
		if err != nil {
			return nil, err
		}
		p, _ := s.keyAt(names[i])
		k.CreatedAt = p.lag.shown(k.CreatedAt.UnixMilli())
		k.Pending = pending[i]
		keys = append(keys, k)
	}
	return keys, nil
}

// signing returns how many deliveries wait to be signed by keys, in all partitions.
func (s *keyring) signing(ctx context.Context, names []string) ([]int, error) {
	sums := make([]int, len(names))
	if len(names) == 0 {
		return sums, nil
	}
	hashes := make([]string, len(names))
	for i, name := range names {
		hashes[i] = nameHash(name)
	}
	all, err := ask[[]int64](ctx, s.conn, func(p *partition) rueidis.Completed {
		return s.client.B().Hmget().Key(p.Key(rediskeys.Signing)).Field(hashes...).Build()
	})
	for _, counts := range all {
		for i, n := range counts {
			sums[i] += int(n)
		}
	}
	return sums, err
}

// keyNames returns at most n names of keys after one, in order. Pinned keys that the filter leaves out cost a look each.
func (s *keyring) keyNames(ctx context.Context, f queue.KeyFilter, after string, n int) (names []string, err error) {
	for {
		some, err := s.someKeyNames(ctx, f.ID, after, n)
		if err != nil {
			return nil, err
		}
		for _, name := range some {
			after = name
			if id, pin, _ := strings.Cut(name, "\n"); (f.ID == "" || id == f.ID) && (f.Pinned || pin == "") {
				names = append(names, name)
			}
		}
		if len(names) >= n || len(some) < n {
			return names[:min(n, len(names))], nil
		}
	}
}

// someKeyNames returns at most n names of keys after one, in order: with an ID only those that begin with it and end
// there or go on with a pin.
func (s *keyring) someKeyNames(ctx context.Context, id, after string, n int) ([]string, error) {
	first := "-"
	last := "+"
	if id != "" {
		first = "[" + id
		last = "(" + id + "\v"
	}
	if after != "" {
		first = "(" + after
	}
	all, err := ask[[]string](ctx, s.conn, func(p *partition) rueidis.Completed {
		return s.client.B().Zrangebylex().Key(p.Key(rediskeys.KeyIDs)).Min(first).Max(last).Limit(0, int64(n)).Build()
	})
	names := slices.Sorted(slices.Values(slices.Concat(all...)))
	return names[:min(n, len(names))], err
}

// ResealKeys implements queue.Keys. A stored key is replaced as a whole, if it still is the one that was read.
func (s *keyring) ResealKeys(ctx context.Context, keys []queue.Reseal) (_ int, err error) {
	defer wrap(&err, "reseal keys")
	changes, err := s.reseals(ctx, keys)
	if err != nil {
		return 0, err
	}
	replaced, err := fromEach(s.conn, func(p *partition) (int, error) {
		if len(changes[p]) == 0 {
			return 0, nil
		}
		return p.number(ctx, script.ResealKeys, nil, changes[p])
	})
	return sum(replaced), err
}

// reseals returns the arguments of resealkeys.lua by partition, for those keys that are sealed as their Old says.
func (s *keyring) reseals(ctx context.Context, keys []queue.Reseal) (map[*partition][]string, error) {
	names := make([]string, len(keys))
	for i, k := range keys {
		names[i] = k.Name
	}
	texts, err := s.storedKeys(ctx, names)
	if err != nil {
		return nil, err
	}
	changes := map[*partition][]string{}
	for i, old := range texts {
		if old == "" {
			continue
		}
		replacement, err := resealed(old, &keys[i])
		if err != nil {
			return nil, err
		}
		if replacement != "" {
			p, hash := s.keyAt(keys[i].Name)
			changes[p] = append(changes[p], hash, old, replacement)
		}
	}
	return changes, nil
}

// resealed returns what is to be stored in place of what is, or nothing if the key is sealed otherwise.
func resealed(old string, r *queue.Reseal) (replacement string, err error) {
	k, err := parseKey(old)
	if err != nil || !bytes.Equal(k.Sealed, r.Old) {
		return "", err
	}
	k.Sealed = r.New
	return old[:strings.IndexAny(old, stays+goesWhenIdle)+1] + toJSON(&k), nil
}

// DeleteKey implements queue.Keys.
func (s *keyring) DeleteKey(ctx context.Context, id string) error {
	return s.changeKey(ctx, script.DropKey, queue.ActionDeleteKey, id)
}

// RetireKey implements queue.Keys.
func (s *keyring) RetireKey(ctx context.Context, id string) error {
	err := s.changeKey(ctx, script.RetireKey, queue.ActionRetireKey, id)
	s.sweepIn(0)
	return err
}

// changeKey runs a script on a key that returns whether the key was there.
func (s *keyring) changeKey(ctx context.Context, name script.Name, action queue.Action, id string) error {
	p, hash := s.keyAt(id)
	var n, fed int
	err := p.run(ctx, name, nil, []string{hash, id, said(queue.KeyActed(ctx, action, id))}, &n, &fed)
	s.fed(fed)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if n == 0 {
		return queue.ErrNotFound
	}
	return nil
}

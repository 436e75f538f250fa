package redisq

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

// storedKey is a signing key as it is stored.
type storedKey struct {
	ID          string `json:"id"`
	Algorithm   string `json:"algorithm"`
	PublicPEM   string `json:"public_pem"`
	Fingerprint string `json:"fingerprint"`
	Sealed      []byte `json:"sealed"`
}

func (p *partition) keyKeys() []string { return []string{p.Key("keys"), p.Key("keyids")} }

// PutKey implements queue.Keys.
func (s *Store) PutKey(ctx context.Context, k queue.Key) (created bool, err error) {
	text, err := encode(storedKey{k.ID, k.Algorithm, k.PublicPEM, k.Fingerprint, k.Sealed}, false)
	if err != nil {
		return false, fmt.Errorf("put key: %w", err)
	}
	hash := nameHash(k.ID)
	p := s.partitionOf(hash)
	n, err := s.number(ctx, putKeyScript, p, p.keyKeys(), []string{hash, k.ID, text})
	if err == nil {
		err = s.each(func(p *partition) error { return s.keyCame(ctx, p, hash) })
	}
	if err != nil {
		return false, fmt.Errorf("put key: %w", err)
	}
	return n == 1, nil
}

// keyCame makes due what waits for a key in a partition.
func (s *Store) keyCame(ctx context.Context, p *partition, hash string) error {
	for {
		answers, err := s.do(ctx, s.client.B().Zrangebylex().Key(p.Key("parked")).Min("["+hash).Max("["+hash+"\xff").Limit(0, laneChunk).Build())
		if err != nil {
			return err
		}
		members, err := answers[0].AsStrSlice()
		if err != nil || len(members) == 0 {
			return err
		}
		hosts := make([]string, len(members))
		for i, m := range members {
			hosts[i] = strings.TrimPrefix(m, hash)
		}
		if _, err := s.number(ctx, unparkScript, p, p.lanes(nil, hosts), append([]string{hash}, hosts...)); err != nil {
			return err
		}
	}
}

// Key implements queue.Keys. It asks Redis each time, in a command that those who ask at the same time share: a key kept
// here could be an old one. Only if it is as it was, it isn't parsed anew.
func (s *Store) Key(ctx context.Context, id string) (queue.Key, error) {
	hash := nameHash(id)
	k, err := s.partitionOf(hash).reader.read(ctx, hash)
	if err != nil && !errors.Is(err, queue.ErrNotFound) {
		err = fmt.Errorf("key: %w", err)
	}
	return k, err
}

// readKeys reads keys of a partition.
func (s *Store) readKeys(ctx context.Context, p *partition, hashes []string) ([]foundKey, error) {
	answers, err := s.do(ctx, s.client.B().Hmget().Key(p.Key("keys")).Field(hashes...).Build())
	if err != nil {
		return nil, err
	}
	texts, err := answers[0].ToArray()
	if err != nil {
		return nil, err
	}
	keys := make([]foundKey, len(texts))
	for i, m := range texts {
		keys[i].key, keys[i].err = s.foundKey(m)
	}
	return keys, nil
}

func (s *Store) foundKey(m rueidis.RedisMessage) (queue.Key, error) {
	if m.IsNil() {
		return queue.Key{}, queue.ErrNotFound
	}
	text, err := m.ToString()
	if err != nil {
		return queue.Key{}, err
	}
	if k, same := s.parsed.get(text); same {
		return k, nil
	}
	k, err := parseKey(m)
	if err == nil {
		s.parsed.put(text, 2*len(text), k)
	}
	return k, err
}

var errKey = errors.New("a stored key has no time")

// parseKey reads what putkey.lua wrote.
func parseKey(m rueidis.RedisMessage) (queue.Key, error) {
	text, err := m.ToString()
	if err != nil {
		return queue.Key{}, err
	}
	created, text, _ := strings.Cut(text, "|")
	ms, err := strconv.ParseInt(created, 10, 64)
	if err != nil {
		return queue.Key{}, errKey // not what it holds
	}
	var k storedKey
	if err := decode(text, &k); err != nil {
		return queue.Key{}, err
	}
	return queue.Key{
		ID: k.ID, Algorithm: k.Algorithm, PublicPEM: k.PublicPEM, Fingerprint: k.Fingerprint, Sealed: k.Sealed,
		CreatedAt: timeOf(ms),
	}, nil
}

// Keys implements queue.Keys.
func (s *Store) Keys(ctx context.Context, p queue.Page) (queue.List[queue.Key], error) {
	var list queue.List[queue.Key]
	after, err := parseNameCursor(p.Cursor)
	if err != nil {
		return list, fmt.Errorf("keys: %w", err)
	}
	ids, err := s.keyIDs(ctx, after, p.Limit+1)
	if err != nil {
		return list, fmt.Errorf("keys: %w", err)
	}
	if len(ids) > p.Limit {
		ids = ids[:p.Limit]
		list.Next = nameCursor(ids[p.Limit-1])
	}
	commands := make([]rueidis.Completed, len(ids))
	for i, id := range ids {
		hash := nameHash(id)
		commands[i] = s.client.B().Hget().Key(s.partitionOf(hash).Key("keys")).Field(hash).Build()
	}
	answers, err := s.do(ctx, commands...)
	if err != nil {
		return queue.List[queue.Key]{}, fmt.Errorf("keys: %w", err)
	}
	for _, m := range answers {
		if m.IsNil() {
			continue // it was removed just now
		}
		k, err := parseKey(m)
		if err != nil {
			return queue.List[queue.Key]{}, fmt.Errorf("keys: %w", err)
		}
		list.Items = append(list.Items, k)
	}
	return list, nil
}

// keyIDs returns at most n IDs of keys after one, in order.
func (s *Store) keyIDs(ctx context.Context, after string, n int) ([]string, error) {
	first := "-"
	if after != "" {
		first = "(" + after
	}
	commands := make([]rueidis.Completed, len(s.parts))
	for i, p := range s.parts {
		commands[i] = s.client.B().Zrangebylex().Key(p.Key("keyids")).Min(first).Max("+").Limit(0, int64(n)).Build()
	}
	answers, err := s.do(ctx, commands...)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, m := range answers {
		some, err := m.AsStrSlice()
		if err != nil {
			return nil, err
		}
		ids = append(ids, some...)
	}
	slices.Sort(ids)
	return ids[:min(n, len(ids))], nil
}

// ResealKeys implements queue.Keys. What is stored is exchanged as a whole, if it still is what was read.
func (s *Store) ResealKeys(ctx context.Context, keys []queue.Reseal) (int, error) {
	changes, err := s.reseals(ctx, keys)
	if err != nil {
		return 0, fmt.Errorf("reseal keys: %w", err)
	}
	var replaced atomic.Int64
	err = s.each(func(p *partition) error {
		if len(changes[p]) == 0 {
			return nil
		}
		n, err := s.number(ctx, resealScript, p, p.keyKeys(), changes[p])
		replaced.Add(n)
		return err
	})
	if err != nil {
		return int(replaced.Load()), fmt.Errorf("reseal keys: %w", err)
	}
	return int(replaced.Load()), nil
}

// reseals returns the arguments of resealkeys.lua by partition, for those keys that are sealed as their Old says.
func (s *Store) reseals(ctx context.Context, keys []queue.Reseal) (map[*partition][]string, error) {
	commands := make([]rueidis.Completed, len(keys))
	for i, k := range keys {
		hash := nameHash(k.ID)
		commands[i] = s.client.B().Hget().Key(s.partitionOf(hash).Key("keys")).Field(hash).Build()
	}
	answers, err := s.do(ctx, commands...)
	if err != nil {
		return nil, err
	}
	changes := map[*partition][]string{}
	for i, m := range answers {
		if m.IsNil() {
			continue
		}
		old, anew, err := resealed(m, &keys[i])
		if err != nil {
			return nil, err
		}
		if anew != "" {
			hash := nameHash(keys[i].ID)
			p := s.partitionOf(hash)
			changes[p] = append(changes[p], hash, old, anew)
		}
	}
	return changes, nil
}

// resealed returns what is stored of a key, and what is to be stored, or nothing if it is sealed otherwise.
func resealed(m rueidis.RedisMessage, r *queue.Reseal) (old, anew string, err error) {
	k, err := parseKey(m)
	if err != nil || !bytes.Equal(k.Sealed, r.Old) {
		return "", "", err
	}
	if old, err = m.ToString(); err != nil {
		return "", "", err
	}
	text, err := encode(storedKey{k.ID, k.Algorithm, k.PublicPEM, k.Fingerprint, r.New}, false)
	created, _, _ := strings.Cut(old, "|")
	return old, created + "|" + text, err
}

// DeleteKey implements queue.Keys.
func (s *Store) DeleteKey(ctx context.Context, id string) error {
	hash := nameHash(id)
	p := s.partitionOf(hash)
	n, err := s.number(ctx, dropKeyScript, p, p.keyKeys(), []string{hash, id})
	if err != nil {
		return fmt.Errorf("delete key: %w", err)
	}
	if n == 0 {
		return queue.ErrNotFound
	}
	return nil
}

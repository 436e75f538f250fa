package redisq

import (
	"context"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

// receipts hands over the claims of idempotency keys.
func (x *export) receipts(ctx context.Context) error {
	return x.s.scan(ctx, "claim", func(keys []string) error {
		commands := make([]rueidis.Completed, 0, 2*len(keys))
		for _, key := range keys {
			commands = append(commands, x.s.client.B().Hmget().Key(key).Field("f", "h", "n", "d", "x", "s", "c").Build(),
				x.s.client.B().Pttl().Key(key).Build())
		}
		answers, err := x.s.do(ctx, commands...)
		if err != nil {
			return err
		}
		for i, key := range keys {
			m, err := movedReceipt(key[strings.LastIndex(key, ":")+1:], answers[2*i], answers[2*i+1])
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			if m == nil {
				continue
			}
			if err := x.next(queue.Record{Receipt: m}); err != nil {
				return err
			}
		}
		return nil
	})
}

// movedReceipt reads a claim, or returns nil if it is over or not committed.
func movedReceipt(name string, claim, left rueidis.RedisMessage) (*queue.MovedReceipt, error) {
	f, err := fields(claim, 7)
	if err != nil {
		return nil, err
	}
	ms, err := left.AsInt64()
	if err != nil || f[1].text == "" || f[1].text == movedHead || f[5].text != "" || ms <= 0 {
		return nil, err
	}
	m := &queue.MovedReceipt{TTL: time.Duration(ms) * time.Millisecond}
	if _, err := hex.Decode(m.Key[:], []byte(name)); err != nil {
		return nil, err
	}
	copy(m.Fingerprint[:], f[0].text)
	var h head
	if err := decode(f[1].text, &h); err != nil {
		return nil, err
	}
	m.Receipt = queue.Receipt{ID: h.ID, URI: h.URI, Note: h.Note}
	if m.Accepted, err = strconv.Atoi(f[2].text); err != nil {
		return nil, err
	}
	if m.Duplicates, err = strconv.Atoi(f[3].text); err != nil {
		return nil, err
	}
	if f[6].text != "" {
		if m.Superseded, err = strconv.Atoi(f[6].text); err != nil {
			return nil, err
		}
	}
	m.Refused, err = refusals(f[4].text)
	return m, err
}

// scan calls next with all keys of a kind that there is one of for each name, some at a time, from every master.
func (s *Store) scan(ctx context.Context, kind string, next func(keys []string) error) error {
	for _, node := range s.client.Nodes() {
		about, err := info(ctx, node)
		if err != nil {
			return err
		}
		if about["role"] == "slave" {
			continue
		}
		for cursor, first := uint64(0), true; first || cursor != 0; first = false {
			page, err := s.scanPage(ctx, node, kind, cursor)
			if err != nil {
				return err
			}
			if cursor = page.Cursor; len(page.Elements) == 0 {
				continue
			}
			if err := next(page.Elements); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) scanPage(ctx context.Context, node rueidis.Client, kind string, cursor uint64) (rueidis.ScanEntry, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	page, err := node.Do(ctx, node.B().Scan().Cursor(cursor).Match(s.keys.Pattern(kind)).Count(2*chunk).Build()).AsScanEntry()
	return page, translate(ctx, err)
}

package redisq

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
)

var errFound = errors.New("found")

// InUse says which nodes work on the store, as far as can be known, or "": a node listens for wakes, and a node that died or
// was cut off has leases until they lapse. A store that was opened with NoWakes does not count.
func (s *conn) InUse(ctx context.Context) (string, error) {
	listening := int64(0)
	for addr, node := range s.client.Nodes() {
		n, err := s.listeners(ctx, node)
		if err != nil {
			return "", fmt.Errorf("redis at %s: %w", addr, err)
		}
		listening += n
	}
	if listening > 0 {
		return fmt.Sprintf("%d nodes listen on it", listening), nil
	}
	var lease string
	err := s.scanKeys(ctx, rediskeys.Lease, func(keys []string) error {
		lease = keys[0]
		return errFound
	})
	if err != nil && !errors.Is(err, errFound) {
		return "", err
	}
	if lease == "" {
		return "", nil
	}
	_, host, _ := strings.Cut(lease, "lease:")
	return fmt.Sprintf("a node has a lease of %s, which ends soon if that node is gone", host), nil
}

// listeners is how many nodes one server tells of wakes.
func (s *conn) listeners(ctx context.Context, node rueidis.Client) (int64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	answer, err := node.Do(ctx, node.B().PubsubNumsub().Channel(s.keys.Channel()).Build()).ToArray()
	if err != nil || len(answer) < 2 {
		return 0, translate(ctx, err)
	}
	return answer[1].AsInt64()
}

// scanKeys calls next with all keys of a kind that there is one of for each name, some at a time, from every master.
func (s *conn) scanKeys(ctx context.Context, kind rediskeys.Kind, next func(keys []string) error) error {
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

func (s *conn) scanPage(ctx context.Context, node rueidis.Client, kind rediskeys.Kind, cursor uint64) (rueidis.ScanEntry, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	page, err := node.Do(ctx, node.B().Scan().Cursor(cursor).Match(s.keys.Pattern(kind)).Count(2*chunk).Build()).AsScanEntry()
	return page, translate(ctx, err)
}

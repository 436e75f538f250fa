package redisq

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/rueidis"
)

var errFound = errors.New("found")

// InUse tells who works on the store, as far as can be known, or "": nodes listen for wakes, and one that is cut off or
// died just now has leases that last. A store that was opened to be Deaf does not count.
func (s *Store) InUse(ctx context.Context) (string, error) {
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
	err := s.scan(ctx, "lease", func(keys []string) error {
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
func (s *Store) listeners(ctx context.Context, node rueidis.Client) (int64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	answer, err := node.Do(ctx, node.B().PubsubNumsub().Channel(s.keys.Channel()).Build()).ToArray()
	if err != nil || len(answer) < 2 {
		return 0, translate(ctx, err)
	}
	return answer[1].AsInt64()
}

package redisq

import (
	"fmt"

	"github.com/redis/rueidis"
)

// Connect connects to the Redis of a store's URL as a store does, for who looks at the server itself.
func Connect(url string) (rueidis.Client, error) {
	o, err := parseURL(url)
	if err != nil {
		return nil, fmt.Errorf("URL of the store: %w", err)
	}
	return rueidis.NewClient(o)
}

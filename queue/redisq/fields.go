package redisq

import (
	"fmt"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

// value is one part of an answer: a text, a number or a list; the zero value for nil.
type value struct {
	text   string
	number int64
	list   []rueidis.RedisMessage
}

// fields takes an answer of n parts apart.
func fields(m rueidis.RedisMessage, n int) ([]value, error) {
	parts, err := m.ToArray()
	if err != nil {
		return nil, err
	}
	return values(parts, n)
}

// values reads the n parts of an answer.
func values(parts []rueidis.RedisMessage, n int) (_ []value, err error) {
	if len(parts) != n {
		return nil, fmt.Errorf("the answer has %d parts, not %d", len(parts), n)
	}
	values := make([]value, n)
	for i, part := range parts {
		switch {
		case part.IsNil():
		case part.IsInt64():
			values[i].number, err = part.ToInt64()
		case part.IsArray():
			values[i].list, err = part.ToArray()
		default:
			values[i].text, err = part.ToString()
		}
		if err != nil {
			return nil, err
		}
	}
	return values, nil
}

// What a record says, as scripts have it; see lane.lua, f.
const (
	isGood = 1 << iota
	isProbing
	isUnavailable
	isFailed
)

func recordFlags(r *queue.HostRecord) (f int) {
	for flag, is := range map[int]bool{
		isGood: !r.Breaker.Suspect(), isProbing: r.Probed(),
		isUnavailable: r.Unavailable, isFailed: r.Breaker.Failed,
	} {
		if is {
			f |= flag
		}
	}
	return f
}

package redisq

import (
	"fmt"
	"math"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

// scan reads an answer into variables: the whole into a single one, the parts of a list into several, as far as there are
// parts. A nil leaves its variable as it is.
func scan(m rueidis.RedisMessage, into ...any) error {
	switch len(into) {
	case 0:
		return nil
	case 1:
		return scanOne(m, into[0])
	}
	parts, err := m.ToArray()
	for i := 0; err == nil && i < min(len(parts), len(into)); i++ {
		err = scanOne(parts[i], into[i])
	}
	return err
}

func scanOne(m rueidis.RedisMessage, into any) (err error) {
	if m.IsNil() {
		return nil
	}
	switch v := into.(type) {
	case *string:
		*v, err = m.ToString()
	case *int:
		var n int64
		n, err = m.AsInt64()
		*v = int(n)
	case *int64:
		*v, err = m.AsInt64()
	case *queue.Priority:
		var n uint64
		n, err = m.AsUint64()
		*v = queue.Priority(min(n, math.MaxUint8))
	case *bool:
		var n int64
		n, err = m.AsInt64()
		*v = n != 0
	case *[]byte:
		*v, err = m.AsBytes()
	case *[]string:
		*v, err = m.AsStrSlice()
	case *[]int64:
		*v, err = m.AsIntSlice()
	case *[]rueidis.ZScore:
		*v, err = m.AsZScores()
	case *[]rueidis.RedisMessage:
		*v, err = m.ToArray()
	default:
		panic(fmt.Sprintf("no answer is a %T", into))
	}
	return err
}

// wrap adds to an error that a function returns what failed.
func wrap(err *error, what string) {
	if *err != nil {
		*err = fmt.Errorf("%s: %w", what, *err)
	}
}

package redisq

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// addedBy is what the name of a field begins with that says which call has added to a minute.
const addedBy = "by:"

// minuteKey returns the key of a minute. All of them are in one partition.
func (s *conn) minuteKey(at time.Time) string {
	return s.parts[0].Of(rediskeys.Minute, at.UTC().Format("2006-01-02T15:04Z"))
}

// AddMinute implements queue.Recent.
func (s *reader) AddMinute(ctx context.Context, c queue.Counted) (next time.Duration, err error) {
	defer wrap(&err, "add minute")
	now, err := s.wallTime(ctx)
	if err != nil {
		return 0, err
	}
	by := addedBy + uuid.NewString()[:8]
	args := []string{by, millis(queue.MinutesKept * time.Minute), strconv.Itoa(len(c.Sums))}
	for _, numbers := range []map[string]int64{c.Sums, c.Levels} {
		for _, name := range slices.Sorted(maps.Keys(numbers)) {
			args = append(args, name, strconv.FormatInt(numbers[name], 10))
		}
	}
	if err := s.parts[0].run(ctx, script.AddMinute, []string{s.minuteKey(c.Minute(now))}, args); err != nil {
		return 0, err
	}
	return queue.NextMinute(now), nil
}

// Minutes implements queue.Recent.
func (s *reader) Minutes(ctx context.Context, n int) (minutes []queue.Minute, err error) {
	defer wrap(&err, "minutes")
	now, err := s.wallTime(ctx)
	if err != nil {
		return nil, err
	}
	minutes = queue.NewMinutes(now, n)
	commands := make([]rueidis.Completed, n)
	for i := range minutes {
		commands[i] = s.client.B().Hgetall().Key(s.minuteKey(minutes[i].At)).Build()
	}
	answers, err := s.do(ctx, commands...)
	if err != nil {
		return nil, err
	}
	for i, answer := range answers {
		fields, err := answer.AsStrMap()
		if err != nil {
			return nil, err
		}
		minutes[i].Numbers = numbersOf(fields)
	}
	return minutes, nil
}

// numbersOf returns the numbers of a minute. It leaves out what is damaged.
func numbersOf(fields map[string]string) map[string]int64 {
	numbers := make(map[string]int64, len(fields))
	for name, text := range fields {
		n, err := strconv.ParseInt(text, 10, 64)
		if err == nil && !strings.HasPrefix(name, addedBy) {
			numbers[name] = n
		}
	}
	return numbers
}

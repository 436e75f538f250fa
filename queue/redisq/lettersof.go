package redisq

import (
	"context"
	"net/url"
	"slices"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
)

// letterFilter is a filter of dead letters, with the host of its inbox.
func letterFilter(f queue.DeadLetterFilter) queue.DeadLetterFilter {
	if u, err := url.Parse(f.Inbox); f.Inbox != "" && f.Host == "" && err == nil {
		f.Host = u.Host
	}
	return f
}

// leavesOut reports whether a filter leaves out a letter for what is written in that.
func leavesOut(f *queue.DeadLetterFilter, l *queue.DeadLetter) bool {
	return f.Host != "" && f.Host != l.Host || f.Reason != "" && f.Reason != l.Reason || f.Inbox != "" && f.Inbox != l.Inbox
}

// narrows reports whether a filter leaves out letters that are found by it.
func narrows(f *queue.DeadLetterFilter) bool {
	if f.URI != "" {
		return f.Host != "" || f.Reason != ""
	}
	return f.Host != "" && (f.Reason != "" || f.Inbox != "")
}

// lettersOf returns letters of the activities with a URI that come next, in their order. It looks at all recipients of these, some
// at a time.
func (s *reader) lettersOf(ctx context.Context, f queue.DeadLetterFilter, after *letterID, most int) (page []letterID, err error) {
	err = s.walk(ctx, searchFor(queue.ActivityFilter{URI: f.URI}), func(m match) (bool, error) {
		for _, part := range m.parts {
			if part.letters == 0 {
				continue
			}
			err := part.deadOf(ctx, m.id(), func(some []letterID) {
				since := part.lag.stored(f.Since)
				for _, l := range some {
					if (after == nil || after.before(l)) && (f.Since.IsZero() || l.died >= since) {
						page = append(page, l)
					}
				}
			})
			if err != nil {
				return false, err
			}
		}
		return true, nil
	})
	slices.SortFunc(page, letterID.compare)
	return page[:min(len(page), most)], err
}

// deadOf calls next for the letters of an activity in a partition, some at a time.
func (p *partition) deadOf(ctx context.Context, id uuid.UUID, next func([]letterID)) error {
	return p.pages(ctx, id.String(), 0, func(page []listed) (more bool, err error) {
		var some []letterID
		var commands []rueidis.Completed
		for _, d := range page {
			if d.dead {
				name := letterName(id, d.ordinal)
				some = append(some, letterID{partition: p, name: name})
				commands = append(commands, p.client.B().Zscore().Key(p.Key(rediskeys.Dead)).Member(name).Build())
			}
		}
		died, err := readAll[int64](ctx, p.conn, commands)
		for i, at := range died {
			some[i].died = at
		}
		next(slices.DeleteFunc(some, func(l letterID) bool { return l.died == 0 })) // those went just now
		return true, err
	})
}

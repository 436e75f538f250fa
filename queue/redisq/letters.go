package redisq

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

// letterID is a dead letter's place in the list of all: by when it died, then by name.
type letterID struct {
	*partition
	died int64
	name string
}

// compare orders letters as the list has them, the newest first.
func (l letterID) compare(other letterID) int {
	return cmp.Or(cmp.Compare(other.died, l.died), strings.Compare(other.name, l.name), cmp.Compare(other.N, l.N))
}

func (l letterID) before(other letterID) bool { return l.compare(other) < 0 }

func (l letterID) cursor() string {
	return fmt.Sprintf("%d-%x-%d", l.died, l.name, l.N)
}

func (s *Store) parseLetterCursor(cursor string) (*letterID, error) {
	if cursor == "" {
		return nil, nil //nolint:nilnil // no cursor is no letter
	}
	parts := strings.Split(cursor, "-")
	if len(parts) != 3 {
		return nil, queue.ErrBadCursor
	}
	died, err := strconv.ParseUint(parts[0], 10, 53)
	name, err2 := hex.DecodeString(parts[1])
	n, err3 := strconv.ParseUint(parts[2], 10, 16)
	if err != nil || err2 != nil || err3 != nil || int(n) >= len(s.parts) || len(name) != len(letterName(uuid.UUID{}, 0)) {
		return nil, queue.ErrBadCursor
	}
	return &letterID{s.parts[n], int64(died), string(name)}, nil //nolint:gosec // it has 53 bits
}

// DeadLetters implements queue.Watching. A filter by host or reason reads past what it leaves out.
func (s *Store) DeadLetters(ctx context.Context, f queue.DeadLetterFilter, p queue.Page) (queue.List[queue.DeadLetter], error) {
	list, err := s.deadLetters(ctx, f, p)
	if err != nil {
		return queue.List[queue.DeadLetter]{}, fmt.Errorf("dead letters: %w", err)
	}
	return list, nil
}

func (s *Store) deadLetters(ctx context.Context, f queue.DeadLetterFilter, p queue.Page) (list queue.List[queue.DeadLetter], err error) {
	after, err := s.parseLetterCursor(p.Cursor)
	for err == nil {
		var page []letterID
		var letters []*queue.DeadLetter
		if page, err = s.letterPage(ctx, f, after); err == nil {
			letters, err = s.lettersOf(ctx, page)
		}
		if err != nil || len(page) == 0 {
			break
		}
		for i, l := range letters {
			if l == nil || f.Host != "" && f.Host != l.Host || f.Reason != "" && f.Reason != l.Reason {
				continue
			}
			if len(list.Items) == p.Limit {
				return list, nil // there is one more, so Next holds
			}
			list.Items, list.Next = append(list.Items, *l), page[i].cursor()
		}
		after = &page[len(page)-1]
	}
	list.Next = ""
	return list, err
}

// letterPage returns letters that come next, in their order; none if there are no more.
func (s *Store) letterPage(ctx context.Context, f queue.DeadLetterFilter, after *letterID) ([]letterID, error) {
	var page []letterID
	var bound *letterID // of the partitions that have more, the first to end
	for _, p := range s.parts {
		some, more, err := s.lettersAfter(ctx, p, f, after)
		if err != nil {
			return nil, err
		}
		page = append(page, some...)
		if more && (bound == nil || some[len(some)-1].before(*bound)) {
			bound = &some[len(some)-1]
		}
	}
	slices.SortFunc(page, letterID.compare)
	if bound != nil {
		page = slices.DeleteFunc(page, bound.before)
	}
	return page, nil
}

// lettersAfter returns letters of a partition that come next, and whether there may be more.
func (s *Store) lettersAfter(ctx context.Context, p *partition, f queue.DeadLetterFilter, after *letterID) (page []letterID, more bool, err error) {
	newest, oldest := "+inf", "-inf"
	if after != nil {
		newest = strconv.FormatInt(after.died, 10)
	}
	if !f.Since.IsZero() {
		oldest = strconv.FormatInt(f.Since.UnixMilli(), 10)
	}
	for offset := int64(0); len(page) == 0; offset += chunk {
		some, err := s.letterIDs(ctx, p, newest, oldest, offset)
		if err != nil {
			return nil, false, err
		}
		for _, l := range some {
			if after == nil || after.before(l) {
				page = append(page, l)
			}
		}
		if more = len(some) == chunk; !more {
			break
		}
	}
	return page, more, nil
}

func (s *Store) letterIDs(ctx context.Context, p *partition, newest, oldest string, offset int64) ([]letterID, error) {
	answers, err := s.do(ctx, s.client.B().Zrevrangebyscore().Key(p.Key("dead")).Max(newest).Min(oldest).
		Withscores().Limit(offset, chunk).Build())
	if err != nil {
		return nil, err
	}
	scores, err := answers[0].AsZScores()
	if err != nil {
		return nil, err
	}
	ids := make([]letterID, len(scores))
	for i, z := range scores {
		ids[i] = letterID{p, int64(z.Score), z.Member}
	}
	return ids, nil
}

// lettersOf reads letters of several partitions, with the URIs of their activities. Those that are gone are nil.
func (s *Store) lettersOf(ctx context.Context, page []letterID) ([]*queue.DeadLetter, error) {
	all := make([]*queue.DeadLetter, len(page))
	for _, p := range s.parts {
		var names []string
		var places []int
		for i, l := range page {
			if l.partition == p {
				names, places = append(names, l.name), append(places, i)
			}
		}
		letters, err := s.letters(ctx, p, names)
		if err != nil {
			return nil, err
		}
		if err := s.addURIs(ctx, p, letters); err != nil {
			return nil, err
		}
		for i, l := range letters {
			all[places[i]] = l
		}
	}
	return all, nil
}

// letters reads dead letters of a partition by their names. Those that are gone are nil.
func (s *Store) letters(ctx context.Context, p *partition, names []string) ([]*queue.DeadLetter, error) {
	if len(names) == 0 {
		return nil, nil
	}
	answers, err := s.do(ctx, s.client.B().Hmget().Key(p.Key("letters")).Field(names...).Build())
	if err != nil {
		return nil, err
	}
	f, err := fields(answers[0], len(names))
	if err != nil {
		return nil, err
	}
	all := make([]*queue.DeadLetter, len(names))
	for i, v := range f {
		if v.text == "" {
			continue
		}
		if all[i], err = s.letter(p, names[i], v.text); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// letter reads what a script wrote of a dead letter: host, path, headers, reason, attempts, last attempt, when it died.
func (s *Store) letter(p *partition, name, text string) (*queue.DeadLetter, error) {
	var host, rest, headers, last string
	var died float64
	id, ordinal := uuid.UUID([]byte(name[:16])).String(), int64(binary.BigEndian.Uint32([]byte(name[16:])))
	l := &queue.DeadLetter{ID: s.deliveryID(p, id, ordinal), ActivityID: id}
	parts := []any{&host, &rest, &headers, &l.Reason, &l.Attempts, &last, &died}
	if err := json.Unmarshal([]byte(text), &parts); err != nil {
		return nil, err
	}
	l.Host, l.Inbox, l.DiedAt = host, inboxOf(host, rest), timeOf(int64(died))
	return l, decode(last, &l.LastAttempt)
}

func (s *Store) addURIs(ctx context.Context, p *partition, letters []*queue.DeadLetter) error {
	uris := map[string]string{}
	var ids []string
	var commands []rueidis.Completed
	for _, l := range letters {
		if l == nil {
			continue
		}
		if _, known := uris[l.ActivityID]; !known {
			uris[l.ActivityID] = ""
			ids = append(ids, l.ActivityID)
			commands = append(commands, s.client.B().Hget().Key(p.Of("a", l.ActivityID)).Field("m").Build())
		}
	}
	answers, err := s.do(ctx, commands...)
	if err != nil {
		return err
	}
	for i, m := range answers {
		text, err := m.ToString()
		if err != nil && !rueidis.IsRedisNil(err) {
			return err
		}
		var d description
		if err := decode(text, &d); err != nil {
			return errors.Join(errors.New(ids[i]), err)
		}
		uris[ids[i]] = d.URI
	}
	for _, l := range letters {
		if l != nil {
			l.URI = uris[l.ActivityID]
		}
	}
	return nil
}

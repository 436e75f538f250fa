package redisq

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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

// DeadLetters implements queue.Watching. Letters are filed by host and by reason; where both are asked for, those of the
// host are read past what the reason leaves out.
func (s *Store) DeadLetters(ctx context.Context, f queue.DeadLetterFilter, p queue.Page) (queue.List[queue.DeadLetter], error) {
	list, err := s.deadLetters(ctx, f, p)
	if err != nil {
		return queue.List[queue.DeadLetter]{}, fmt.Errorf("dead letters: %w", err)
	}
	return list, nil
}

func (s *Store) deadLetters(ctx context.Context, f queue.DeadLetterFilter, p queue.Page) (list queue.List[queue.DeadLetter], err error) {
	most := p.Limit + 1
	if f.Host != "" && f.Reason != "" {
		most = chunk
	}
	after, err := s.parseLetterCursor(p.Cursor)
	for err == nil {
		var page []letterID
		var letters []*queue.DeadLetter
		if page, err = s.letterPage(ctx, f, after, most); err == nil {
			letters, err = s.lettersOf(ctx, page)
		}
		if err != nil || len(page) == 0 {
			break
		}
		for i, l := range letters {
			if l == nil || f.Reason != "" && f.Reason != l.Reason {
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
func (s *Store) letterPage(ctx context.Context, f queue.DeadLetterFilter, after *letterID, most int) ([]letterID, error) {
	var page []letterID
	var bound *letterID // of the partitions that have more, the first to end
	for _, p := range s.parts {
		some, more, err := s.lettersAfter(ctx, p, f, after, most)
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
	return page[:min(len(page), most)], nil
}

// lettersAfter returns letters of a partition that come next, and whether there may be more.
func (s *Store) lettersAfter(ctx context.Context, p *partition, f queue.DeadLetterFilter, after *letterID, most int) (page []letterID, more bool, err error) {
	for offset := 0; len(page) == 0; offset += most {
		some, err := s.someLetters(ctx, p, f, after, offset, most)
		if err != nil {
			return nil, false, err
		}
		for _, l := range some {
			if after == nil || after.before(l) {
				page = append(page, l)
			}
		}
		if more = len(some) == most; !more {
			break
		}
	}
	return page, more, nil
}

// someLetters returns letters of a partition, newest first, from about those that come next, skipping some.
func (s *Store) someLetters(ctx context.Context, p *partition, f queue.DeadLetterFilter, after *letterID, skip, most int) ([]letterID, error) {
	if f.Host != "" {
		return s.filedLetters(ctx, p, "h"+f.Host, f.Since, after, skip, most)
	}
	if f.Reason != "" {
		return s.filedLetters(ctx, p, "r"+string(f.Reason), f.Since, after, skip, most)
	}
	newest, oldest := "+inf", "-inf"
	if after != nil {
		newest = strconv.FormatInt(after.died, 10)
	}
	if !f.Since.IsZero() {
		oldest = strconv.FormatInt(f.Since.UnixMilli(), 10)
	}
	return s.lettersByTime(ctx, p, s.client.B().Zrevrangebyscore().Key(p.Key("dead")).Max(newest).Min(oldest).
		Withscores().Limit(int64(skip), int64(most)).Build())
}

// lettersByTime reads letters from those of a partition by when they died.
func (s *Store) lettersByTime(ctx context.Context, p *partition, command rueidis.Completed) ([]letterID, error) {
	answers, err := s.do(ctx, command)
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

// filedLetters reads letters of a partition as they are filed; see activity.lua.
func (s *Store) filedLetters(ctx context.Context, p *partition, under string, since time.Time, after *letterID, skip, most int) ([]letterID, error) {
	newest, oldest := "("+under+"\x01", "["+under+"\x00"
	if after != nil {
		newest = "[" + under + "\x00" + bigEndian(after.died) + after.name
	}
	if !since.IsZero() {
		oldest += bigEndian(since.UnixMilli())
	}
	answers, err := s.do(ctx, s.client.B().Zrevrangebylex().Key(p.Key("filed")).Max(newest).Min(oldest).
		Limit(int64(skip), int64(most)).Build())
	if err != nil {
		return nil, err
	}
	texts, err := answers[0].AsStrSlice()
	if err != nil {
		return nil, err
	}
	ids := make([]letterID, len(texts))
	for i, text := range texts {
		text = text[len(under)+1:]
		ids[i] = letterID{p, int64(binary.BigEndian.Uint64([]byte(text))), text[8:]} //nolint:gosec // it has 53 bits
	}
	return ids, nil
}

func bigEndian(ms int64) string { return string(binary.BigEndian.AppendUint64(nil, uint64(ms))) } //nolint:gosec // no time before 1970

// lettersOf reads letters of several partitions, with the URIs of their activities. Those that are gone are nil.
func (s *Store) lettersOf(ctx context.Context, page []letterID) ([]*queue.DeadLetter, error) {
	all, err := s.read(ctx, page)
	if err != nil {
		return nil, err
	}
	for _, p := range s.parts {
		var letters []*queue.DeadLetter
		for i, l := range all {
			if page[i].partition == p {
				letters = append(letters, l)
			}
		}
		if err := s.addURIs(ctx, p, letters); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// read reads letters of several partitions. Those that are gone are nil.
func (s *Store) read(ctx context.Context, page []letterID) ([]*queue.DeadLetter, error) {
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

// letter reads what a script wrote of a dead letter: host, path, headers, reason, attempts, when it died; and its last
// attempt.
func (s *Store) letter(p *partition, name, text string) (l *queue.DeadLetter, err error) {
	var host, rest, headers string
	var died float64
	id, ordinal := uuid.UUID([]byte(name[:16])).String(), int64(binary.BigEndian.Uint32([]byte(name[16:])))
	l = &queue.DeadLetter{ID: s.deliveryID(p, id, ordinal), ActivityID: id}
	parts := []any{&host, &rest, &headers, &l.Reason, &l.Attempts, &died} // its number is for scripts
	about, last, _ := strings.Cut(text, "\n")
	if err := decode(about, &parts); err != nil {
		return nil, err
	}
	l.Host, l.Inbox, l.DiedAt = host, inboxOf(host, rest), timeOf(int64(died))
	l.LastAttempt, err = attemptOf(last)
	return l, err
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

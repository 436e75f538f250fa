package redisq

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
)

// letterLooks is how many letters a call that lists them reads at most, about.
const letterLooks = 10_000

// letterID is a dead letter's position in the list of all: by when it died, then by name.
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

// DeadLetters implements queue.Watching. Letters are filed by host and by reason, and found by their activities. Where more is
// asked for, those are read past what the rest of the filter leaves out: a bounded number in a call, so a page may be short.
func (s *reader) DeadLetters(ctx context.Context, f queue.DeadLetterFilter, p queue.Page) (list queue.List[queue.DeadLetter], err error) {
	defer wrap(&err, "dead letters")
	f = letterFilter(f)
	most := p.Limit + 1
	if narrows(&f) {
		most = chunk
	}
	after, err := s.parseLetterCursor(p.Cursor)
	for looked := 0; err == nil; {
		var page []letterID
		var letters []*queue.DeadLetter
		if page, err = s.letterPage(ctx, f, after, most); err == nil {
			letters, err = s.readLetters(ctx, page, true)
		}
		if err != nil || len(page) == 0 {
			break
		}
		for i, l := range letters {
			if l == nil || leavesOut(&f, l) {
				continue
			}
			if len(list.Items) == p.Limit {
				return list, nil // there is one more, so Next holds
			}
			list.Items = append(list.Items, *l)
			list.Next = page[i].cursor()
		}
		after = &page[len(page)-1]
		if looked += len(page); looked >= letterLooks {
			list.Next = after.cursor()
			return list, nil
		}
	}
	list.Next = ""
	return list, err
}

// letterPage returns letters that come next, in their order; none if there are no more.
func (s *reader) letterPage(ctx context.Context, f queue.DeadLetterFilter, after *letterID, most int) ([]letterID, error) {
	if f.URI != "" {
		return s.lettersOf(ctx, f, after, most)
	}
	var mu sync.Mutex
	var page []letterID
	var bound *letterID // of the partitions that have more, the first to end
	err := s.forEach(func(p *partition) error {
		some, more, err := p.lettersAfter(ctx, f, after, most)
		mu.Lock()
		defer mu.Unlock()
		page = append(page, some...)
		if more && (bound == nil || some[len(some)-1].before(*bound)) {
			bound = &some[len(some)-1]
		}
		return err
	})
	slices.SortFunc(page, letterID.compare)
	if bound != nil {
		page = slices.DeleteFunc(page, bound.before)
	}
	return page[:min(len(page), most)], err
}

// lettersAfter returns letters of a partition that come next, and whether there may be more.
func (p *partition) lettersAfter(ctx context.Context, f queue.DeadLetterFilter, after *letterID, most int) (page []letterID, more bool, err error) {
	for offset := 0; len(page) == 0; offset += most {
		some, err := p.someLetters(ctx, f, after, offset, most)
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
func (p *partition) someLetters(ctx context.Context, f queue.DeadLetterFilter, after *letterID, skip, most int) ([]letterID, error) {
	if f.Host != "" {
		return p.filedLetters(ctx, "h"+f.Host, f.Since, after, skip, most)
	}
	if f.Reason != "" {
		return p.filedLetters(ctx, "r"+string(f.Reason), f.Since, after, skip, most)
	}
	newest := "+inf"
	oldest := "-inf"
	if after != nil {
		newest = strconv.FormatInt(after.died, 10)
	}
	if !f.Since.IsZero() {
		oldest = strconv.FormatInt(p.lag.stored(f.Since), 10)
	}
	return p.lettersByTime(ctx, p.client.B().Zrevrangebyscore().Key(p.Key(rediskeys.Dead)).Max(newest).Min(oldest).
		Withscores().Limit(int64(skip), int64(most)).Build())
}

// lettersByTime reads letters from those of a partition by when they died.
func (p *partition) lettersByTime(ctx context.Context, command rueidis.Completed) ([]letterID, error) {
	var scores []rueidis.ZScore
	err := p.read(ctx, command, &scores)
	ids := make([]letterID, len(scores))
	for i, z := range scores {
		ids[i] = letterID{p, int64(z.Score), z.Member}
	}
	return ids, err
}

// filedLetters reads letters of a partition as they are filed; see activity.lua.
func (p *partition) filedLetters(ctx context.Context, under string, since time.Time, after *letterID, skip, most int) ([]letterID, error) {
	newest := "(" + under + "\x01"
	oldest := "[" + under + "\x00"
	if after != nil {
		newest = "[" + under + "\x00" + bigEndian(after.died) + after.name
	}
	if !since.IsZero() {
		oldest += bigEndian(p.lag.stored(since))
	}
	var texts []string
	err := p.read(ctx, p.client.B().Zrevrangebylex().Key(p.Key(rediskeys.Filed)).Max(newest).Min(oldest).
		Limit(int64(skip), int64(most)).Build(), &texts)
	ids := make([]letterID, len(texts))
	for i, text := range texts {
		text = text[len(under)+1:]
		ids[i] = letterID{p, int64(binary.BigEndian.Uint64([]byte(text))), text[8:]} // it has 53 bits
	}
	return ids, err
}

// readLetters reads letters of several partitions, with the URIs of their activities if these are wanted. Those that are gone
// are nil.
func (s *reader) readLetters(ctx context.Context, page []letterID, whole bool) ([]*queue.DeadLetter, error) {
	all := make([]*queue.DeadLetter, len(page))
	return all, s.forEach(func(p *partition) error {
		var names []string
		var places []int
		for i, l := range page {
			if l.partition == p {
				names = append(names, l.name)
				places = append(places, i)
			}
		}
		letters, err := p.letters(ctx, names)
		if err == nil && whole {
			err = p.complete(ctx, letters)
		}
		for i, l := range letters {
			all[places[i]] = l
		}
		return err
	})
}

// letters reads dead letters of a partition by their names. Those that are gone are nil.
func (p *partition) letters(ctx context.Context, names []string) ([]*queue.DeadLetter, error) {
	if len(names) == 0 {
		return nil, nil
	}
	var texts []string
	if err := p.read(ctx, p.client.B().Hmget().Key(p.Key(rediskeys.Letters)).Field(names...).Build(), &texts); err != nil {
		return nil, err
	}
	all := make([]*queue.DeadLetter, len(names))
	for i, text := range texts {
		if text == "" {
			continue
		}
		l, _, err := p.letter(names[i], text)
		if err != nil {
			p.logLimited("letters", &damage{p.Key(rediskeys.Letters), names[i], err.Error()})
			continue
		}
		all[i] = l
	}
	return all, nil
}

// letter reads what a script wrote of a dead letter: host, path, headers, reason, attempts, when it died; and its last
// attempt. It returns the headers too.
func (p *partition) letter(name, text string) (l *queue.DeadLetter, headers string, err error) {
	if len(name) != letterBytes || text == "" {
		return nil, "", errors.New("it is no dead letter")
	}
	var rest string
	var died float64
	id := uuid.UUID([]byte(name[:16])).String()
	ordinal := int64(binary.BigEndian.Uint32([]byte(name[16:])))
	l = &queue.DeadLetter{ID: p.deliveryID(id, ordinal), ActivityID: id}
	parts := []any{&l.Host, &rest, &headers, &l.Reason, &l.Attempts, &died} // its number is for scripts
	about, last, _ := strings.Cut(text, "\n")
	if err := decode(about, &parts); err != nil {
		return nil, "", err
	}
	l.Inbox = inboxOf(l.Host, rest)
	l.DiedAt = p.lag.shown(int64(died))
	attempt, err := attemptOf(last)
	l.History = queue.History{}.With(attempt)
	return l, headers, err
}

// complete adds to letters what is kept with their activities: URIs and metadata, IDs, and the attempts before the last one.
func (p *partition) complete(ctx context.Context, letters []*queue.DeadLetter) error {
	labels, err := p.labels(ctx, letters)
	if err != nil {
		return err
	}
	var commands []rueidis.Completed
	letters = slices.DeleteFunc(slices.Clone(letters), func(l *queue.DeadLetter) bool { return l == nil })
	for _, l := range letters {
		_, ordinal, _ := p.splitID(l.ID) // it was made of the name
		commands = append(commands, p.readListing(l.ActivityID, ordinal))
	}
	texts, err := readAll[string](ctx, p.conn, commands)
	if err != nil {
		return err
	}
	for i, l := range letters {
		listed := readListed(0, texts[i])
		l.URI = labels[l.ActivityID].URI
		l.Metadata = labels[l.ActivityID].Metadata
		l.IDs = unpackIDs(listed.host, listed.ids)
		if l.History, err = historyOf(l.History.Last(), listed.past); err != nil {
			p.logLimited("attempts", &damage{p.Of(rediskeys.Recipients, l.ActivityID), l.ID, err.Error()})
		}
	}
	return nil
}

// labels reads the descriptions of the letters' activities, by their IDs.
func (p *partition) labels(ctx context.Context, letters []*queue.DeadLetter) (map[string]description, error) {
	all := map[string]description{}
	var ids []string
	var commands []rueidis.Completed
	for _, l := range letters {
		if l == nil {
			continue
		}
		if _, known := all[l.ActivityID]; known {
			continue
		}
		all[l.ActivityID] = description{}
		ids = append(ids, l.ActivityID)
		commands = append(commands, p.client.B().Hget().Key(p.Of(rediskeys.Activity, l.ActivityID)).Field("m").Build())
	}
	texts, err := readAll[string](ctx, p.conn, commands)
	if err != nil {
		return nil, err
	}
	for i, text := range texts {
		d, err := readDescription(text)
		if err != nil {
			p.logLimited("description", &damage{p.Of(rediskeys.Activity, ids[i]), "m", err.Error()})
		}
		all[ids[i]] = d
	}
	return all, nil
}

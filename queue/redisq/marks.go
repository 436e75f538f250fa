package redisq

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strconv"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
)

// An activity is found by its marks (see marks.lua), which are short hashes: what else has the same ones is left out once it is
// read. An actor nearly always has one key, whose name is the usual one. Both have one mark then, in place of two.
const (
	usualKey     = "#main-key"
	uriMark      = "u"
	keyMark      = "k"
	actorMark    = "a"
	usualKeyMark = "b"

	markBytes = 4
	uriLists  = 1 << 13 // lists of URIs, in all partitions together
	leastURIs = 1 << 6  // and in each at least
)

func mark(kind, name string) string {
	return string(binary.BigEndian.AppendUint32(nil, uint32(xxhash.Sum64String(kind+name)))) // some of its bits
}

// marksOf returns an activity's marks, joined, that of its URI first.
func marksOf(a *queue.Activity) string {
	marks := mark(uriMark, a.URI)
	if a.KeyID == a.Actor+usualKey {
		return marks + mark(usualKeyMark, a.Actor)
	}
	if a.Actor != "" {
		marks += mark(actorMark, a.Actor)
	}
	return marks + mark(keyMark, a.KeyID)
}

// noMarks stands for those of what has none.
const noMarks = "\x00\x00\x00\x00\x00\x00\x00\x00"

// marks returns the marks of a part of an activity, as far as these are of use there.
func (a *part) marks() string {
	if a.parts == "" {
		return noMarks
	}
	whole := a.asActivity("")
	return marksOf(&whole)
}

func marksOfKey(id string) []string {
	if owner, ok := strings.CutSuffix(id, usualKey); ok {
		return []string{mark(keyMark, id), mark(usualKeyMark, owner)}
	}
	return []string{mark(keyMark, id)}
}

// marked appends the keys of an activity's marks.
func (p *partition) marked(keys []string, marks string) []string {
	keys = append(keys, p.uris(marks[:markBytes]))
	for mark := range slices.Chunk([]byte(marks[markBytes:]), markBytes) {
		name := hex.EncodeToString(mark)
		keys = append(keys, p.Of(rediskeys.Marked, name), p.Of(rediskeys.Stream, name))
	}
	return keys
}

// fiveMarked appends as many keys whether there is a third mark or not.
func (p *partition) fiveMarked(keys []string, marks string) []string {
	if len(marks) == 2*markBytes {
		marks += marks[markBytes:]
	}
	return p.marked(keys, marks)
}

// uris returns the key of the list that has the activities whose URIs have a mark.
func (p *partition) uris(mark string) string {
	n := binary.BigEndian.Uint32([]byte(mark)) % uint32(max(leastURIs, uriLists/len(p.parts))) // it is small
	return p.Of(rediskeys.URIs, strconv.FormatUint(uint64(n), 16))
}

// listPosition is an activity's position in lists: when it was marked, and its ID. The newest is the greatest.
type listPosition string

const (
	timeBytes     = 5
	positionBytes = timeBytes + idBytes
)

func positionOf(created int64, id string) listPosition {
	return listPosition(bigEndian(max(0, created-year2025))[3:] + id)
}

// time is that of the entry.
func (at listPosition) time() int64 {
	return int64(binary.BigEndian.Uint64([]byte("\x00\x00\x00"+at[:timeBytes]))) + year2025 // it has 40 bits
}

func (at listPosition) id() uuid.UUID { return uuid.UUID([]byte(at[timeBytes:])) }

// newest returns the last time before a position, or that of it.
func (at listPosition) newest() string {
	ms := at.time()
	if len(at) < positionBytes {
		ms-- // all of its time come after it
	}
	return strconv.FormatInt(ms, 10)
}

// since returns the first position of what was accepted at a time.
func (f *search) since(p *partition) listPosition {
	if f.Since.IsZero() {
		return ""
	}
	return positionOf(p.lag.stored(f.Since), "")
}

// some is some activities of a partition or of all: those after the position end, or all that there are if that is "".
type some struct {
	all []listPosition
	end listPosition
}

// add adds an activity that comes before a position, if that is given.
func (s *some) add(at, before listPosition) {
	if before == "" || at < before {
		s.all = append(s.all, at)
	}
}

// merge adds others.
func (s *some) merge(others some) {
	s.all = slices.Concat(s.all, others.all)
	s.end = max(s.end, others.end)
}

// find returns activities of a partition that come next and have what is looked for.
func (p *partition) find(ctx context.Context, f *search, before listPosition, most int) (found some, err error) {
	if len(f.uriMarks) > 0 {
		return p.withURIs(ctx, f.uriMarks, before)
	}
	if len(f.marks) == 0 {
		found, err := p.inStream(ctx, p.Key(rediskeys.Every), before, most)
		if err != nil {
			return found, err
		}
		older, err := p.inOlder(ctx, noMarks[:markBytes], before, most)
		found.merge(older)
		return found, err
	}
	for _, mark := range f.marks {
		name := hex.EncodeToString([]byte(mark))
		all, err := p.inList(ctx, p.Of(rediskeys.Marked, name), before) // first: it may become a stream
		if err != nil {
			return found, err
		}
		more, err := p.inStream(ctx, p.Of(rediskeys.Stream, name), before, most)
		if err != nil {
			return found, err
		}
		older, err := p.inOlder(ctx, mark, before, most)
		if err != nil {
			return found, err
		}
		found.merge(some{all: all})
		found.merge(more)
		found.merge(older)
	}
	return found, nil
}

// withURIs returns all activities of a partition whose URIs have one of some marks.
func (p *partition) withURIs(ctx context.Context, marks []string, before listPosition) (found some, err error) {
	lists := map[string]bool{}
	var commands []rueidis.Completed
	for _, mark := range marks {
		if key := p.uris(mark); !lists[key] {
			lists[key] = true
			commands = append(commands, p.client.B().Lrange().Key(key).Start(0).Stop(-1).Build())
		}
	}
	all, err := readAll[[]string](ctx, p.conn, commands)
	for _, entry := range slices.Concat(all...) {
		if len(entry) == markBytes+positionBytes && slices.Contains(marks, entry[:markBytes]) {
			found.add(listPosition(entry[markBytes:]), before)
		}
	}
	return found, err
}

// inList returns the activities in a list that come next.
func (p *partition) inList(ctx context.Context, key string, before listPosition) ([]listPosition, error) {
	var entries []string
	var found some
	err := p.read(ctx, p.client.B().Lrange().Key(key).Start(0).Stop(-1).Build(), &entries)
	for _, entry := range entries {
		if len(entry) == positionBytes {
			found.add(listPosition(entry), before)
		}
	}
	return found.all, err
}

// inStream returns activities in a stream that come next, about as many as wanted: none or all that were marked at the same time.
func (p *partition) inStream(ctx context.Context, key string, before listPosition, most int) (found some, err error) {
	newest := "+"
	if before != "" {
		newest = before.newest()
	}
	entries, err := p.entries(ctx, p.client.B().Xrevrange().Key(key).End(newest).Start("-").Count(int64(most)).Build())
	if err != nil {
		return found, err
	}
	if len(entries) == most {
		last := entries[most-1].ID
		ms, _, _ := strings.Cut(last, "-")
		rest, err := p.entries(ctx, p.client.B().Xrevrange().Key(key).End("("+last).Start(ms).Build())
		if err != nil {
			return found, err
		}
		entries = append(entries, rest...)
	}
	for _, e := range entries {
		ms, _, _ := strings.Cut(e.ID, "-")
		at, err := strconv.ParseInt(ms, 10, 64)
		if id := e.FieldValues["i"]; err == nil && len(id) == idBytes {
			found.add(positionOf(at, id), before)
			if len(entries) >= most {
				found.end = positionOf(at, "")
			}
		}
	}
	return found, nil
}

// inOlder returns activities with a mark that come next, of those that came from another store and are older than others that were
// there. They are so many at most.
func (p *partition) inOlder(ctx context.Context, mark string, before listPosition, most int) (found some, err error) {
	newest := "[" + mark + strings.Repeat("\xff", positionBytes)
	if before != "" {
		newest = "(" + mark + string(before)
	}
	var members []string
	err = p.read(ctx, p.client.B().Zrevrangebylex().Key(p.Key(rediskeys.Older)).Max(newest).Min("["+mark).Limit(0, int64(most)).Build(), &members)
	for _, m := range members {
		if len(m) == markBytes+positionBytes {
			found.add(listPosition(m[markBytes:]), before)
		}
	}
	if n := len(found.all); n > 0 && len(members) == most {
		found.end = found.all[n-1]
	}
	return found, err
}

func (p *partition) entries(ctx context.Context, command rueidis.Completed) ([]rueidis.XRangeEntry, error) {
	answers, err := p.do(ctx, command)
	if err != nil {
		return nil, err
	}
	return answers[0].AsXRange()
}

// pending returns activities of which something is pending in a partition and that come next.
func (p *partition) pending(ctx context.Context, before listPosition, most int) (found some, err error) {
	newest := "+inf"
	if before != "" {
		newest = before.newest()
	}
	for skip := 0; ; skip += most {
		var scores []rueidis.ZScore
		err := p.read(ctx, p.client.B().Zrevrangebyscore().Key(p.Key(rediskeys.Pending)).Max(newest).Min("-inf").
			Withscores().Limit(int64(skip), int64(most)).Build(), &scores)
		if err != nil {
			return found, err
		}
		for _, z := range scores {
			if len(z.Member) == idBytes {
				found.add(positionOf(int64(z.Score), z.Member), before)
			}
		}
		if len(scores) < most {
			return found, nil
		}
		if len(found.all) > 0 {
			found.end = found.all[len(found.all)-1]
			return found, nil
		}
	}
}

// next returns activities that come next, newest first, from all partitions.
func (s *conn) next(ctx context.Context, f *search, before listPosition, most int) (found some, err error) {
	all, err := fromEach(s, func(p *partition) (some, error) {
		if f.pending {
			return p.pending(ctx, before, most)
		}
		return p.find(ctx, f, before, most)
	})
	for i, here := range all {
		first := f.since(s.parts[i])
		for _, at := range here.all {
			if at >= first {
				found.all = append(found.all, at)
			}
		}
		if here.end >= first {
			found.end = max(found.end, here.end)
		}
	}
	slices.Sort(found.all)
	found.all = slices.Compact(found.all)
	slices.Reverse(found.all)
	found.all = slices.DeleteFunc(found.all, func(at listPosition) bool { return at < found.end })
	return found, err
}

package redisq

import (
	"encoding/base64"
	"encoding/binary"

	"github.com/postrider/postrider/queue"
)

// A cursor of the feed is the tag of the store, the latest time among the positions of all partitions, and of each partition
// how much earlier its own is, plus 1, and its number; or 0 if that is before all entries. All numbers are varints, so
// partitions cost some six characters each.
//
// tagSize is how long the tag of a store is: it tells a store from another one, also from itself before it was emptied.
const tagSize = 6

// feedCursor returns the cursor behind what was passed of all partitions.
func (s *conn) feedCursor(all []*feedPart) string {
	latest := int64(0)
	for _, f := range all {
		latest = max(latest, f.at.ms)
	}
	b := binary.AppendUvarint([]byte(*s.tag.Load()), uint64(latest)) // no time is negative
	for _, f := range all {
		if f.at == (position{}) {
			b = append(b, 0)
			continue
		}
		b = binary.AppendUvarint(b, uint64(latest-f.at.ms+1)) // it is the latest
		b = binary.AppendUvarint(b, uint64(f.at.n))           // it counts
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// parseFeedCursor returns the positions that a cursor stands for, by partition.
func (s *conn) parseFeedCursor(cursor string) ([]position, error) {
	all := make([]position, len(s.parts))
	if cursor == "" || cursor == queue.FeedEnd {
		return all, nil
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(cursor)
	if err != nil || len(b) < tagSize || string(b[:tagSize]) != *s.tag.Load() {
		return nil, queue.ErrBadCursor
	}
	b = b[tagSize:]
	ok := true
	number := func() int64 {
		n, size := binary.Uvarint(b)
		ok = ok && size > 0 && n < 1<<53
		b = b[max(0, size):]
		return int64(n) // it has 53 bits
	}
	latest := number()
	for i := range all {
		if before := number(); before > 0 {
			all[i] = position{latest - before + 1, number()}
		}
		ok = ok && all[i].ms >= 0
	}
	if !ok || len(b) > 0 {
		return nil, queue.ErrBadCursor
	}
	return all, nil
}

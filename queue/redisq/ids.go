package redisq

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/cespare/xxhash/v2"
	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// A delivery's ID is its activity's, a point, and ordinal × partitions + partition: so it tells the partition, and the
// IDs of one activity have an order across partitions.

func (s *Store) deliveryID(p *partition, activity string, ordinal int64) string {
	return activity + "." + strconv.FormatInt(s.place(p, ordinal), 10)
}

// place is the number in a delivery's ID.
func (s *Store) place(p *partition, ordinal int64) int64 {
	return ordinal*int64(len(s.parts)) + int64(p.N)
}

// splitID returns what a delivery's ID tells, if it is one in this partition.
func (s *Store) splitID(p *partition, id string) (activity uuid.UUID, ordinal int64, ok bool) {
	text, number, _ := strings.Cut(id, ".")
	activity, err := uuid.Parse(text)
	if err != nil {
		return activity, 0, false
	}
	n, err := strconv.ParseUint(number, 10, 32)
	if err != nil || int64(n)%int64(len(s.parts)) != int64(p.N) {
		return activity, 0, false
	}
	return activity, int64(n) / int64(len(s.parts)), true
}

// orderingHash shortens an ordering key to six bytes. That two keys of a lane may share a hash only means that one may
// wait for the other.
func orderingHash(key string) string {
	return string(binary.BigEndian.AppendUint64(nil, xxhash.Sum64String(key))[2:])
}

// nameHash shortens the ID of a key or of an activity, which have no bound, so that no two share one.
func nameHash(name string) string {
	sum := sha256.Sum256([]byte(name))
	return string(sum[:16])
}

// target is an inbox as it is stored: what follows the host; with a line break before it where that is http://HOST/…; or a
// line break and the whole inbox where that is neither.
func target(r queue.Recipient) string {
	if rest, ok := strings.CutPrefix(r.Inbox, "https://"+r.Host); ok && strings.HasPrefix(rest, "/") {
		return rest
	}
	if rest, ok := strings.CutPrefix(r.Inbox, "http://"+r.Host); ok && strings.HasPrefix(rest, "/") {
		return "\n" + rest
	}
	return "\n" + r.Inbox
}

// inboxOf undoes target.
func inboxOf(host, rest string) string {
	if strings.HasPrefix(rest, "\n/") {
		return "http://" + host + rest[1:]
	}
	if whole, ok := strings.CutPrefix(rest, "\n"); ok {
		return whole
	}
	return "https://" + host + rest
}

// splitInbox takes apart what an activity's list has of a delivery.
func splitInbox(text string) (host, inbox string) {
	i := strings.IndexAny(text, "/\n")
	if i < 0 {
		return text, ""
	}
	return text[:i], inboxOf(text[:i], text[i:])
}

// encode returns v as JSON, "" if it is empty.
func encode(v any, empty bool) (string, error) {
	if empty {
		return "", nil
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return strings.TrimSuffix(b.String(), "\n"), err
}

// decode undoes encode.
func decode(text string, v any) error {
	if text == "" {
		return nil
	}
	return json.Unmarshal([]byte(text), v)
}

func millis(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }

// upMillis rounds up, so that a short wait does not become none.
func upMillis(d time.Duration) string {
	return strconv.FormatInt((d + time.Millisecond - 1).Milliseconds(), 10)
}

func timeOf(ms int64) time.Time {
	if ms <= 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

package redisq

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"strconv"
	"strings"
	"time"

	"github.com/postrider/postrider/queue"
)

// encode returns a list as JSON, "" if it is empty.
func encode[T any](list []T) string {
	if len(list) == 0 {
		return ""
	}
	return toJSON(list)
}

// toJSON returns v as JSON, which only lacks what stores don't hold.
func toJSON(v any) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err)
	}
	return strings.TrimSuffix(b.String(), "\n")
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

func sum(all []int) (n int) {
	for _, m := range all {
		n += m
	}
	return n
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

// The marks before a number of eight bytes, and before the size of a text and of an array in four bytes: int 64, str 32 and
// array 32 of the MessagePack specification.
const packInt, packString, packArray = 0xd3, 0xdb, 0xdd

// Those where the number of values or the length is in the mark itself, up to 15 and 31, or in one and two bytes behind it.
const packSmallArray, packShort, packString8, packString16 = 0x90, 0xa0, 0xd9, 0xda

const usualInbox = "/inbox"

func packSize(b []byte, kind byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(b, kind), uint32(n))
}

func packText(b []byte, s string) []byte { return append(packSize(b, packString, len(s)), s...) }

func packNumber(b []byte, n int64) []byte {
	return binary.BigEndian.AppendUint64(append(b, packInt), uint64(n))
}

// packNew makes what scripts store of a delivery that was never tried and is its activity's first; see pack in lane.lua.
func packNew(p queue.Priority, names, path string) string {
	to, _, _ := splitListing(path)
	if before, usual := strings.CutSuffix(to, usualInbox); usual && strings.TrimPrefix(before, "\n") == "" {
		to = before
	}
	to = names + to
	b := []byte{packSmallArray + 3, byte(p), 0}
	switch n := len(to); {
	case n < 1<<5:
		b = append(b, packShort|byte(n))
	case n < 1<<8:
		b = append(b, packString8, byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, packString16), uint16(n))
	default:
		b = packSize(b, packString, n)
	}
	return string(append(b, to...))
}

func bigEndian(ms int64) string { return string(binary.BigEndian.AppendUint64(nil, uint64(ms))) } // no time before 1970

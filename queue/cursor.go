package queue

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// These cursors are the same in every back-end. "" is before the first item of a list.

// ParseCursor parses n numbers that are not negative, joined by "-"; those of "" are 0.
func ParseCursor(cursor string, n int) ([]int64, error) {
	numbers := make([]int64, n)
	if cursor == "" {
		return numbers, nil
	}
	parts := strings.Split(cursor, "-")
	if len(parts) != n {
		return nil, ErrBadCursor
	}
	for i, part := range parts {
		v, err := strconv.ParseUint(part, 10, 62)
		if err != nil {
			return nil, ErrBadCursor
		}
		numbers[i] = int64(v)
	}
	return numbers, nil
}

// backward begins cursors of a feed that is read newest first.
const backward = "."

// Cursor is the cursor of the feed in the filter's order that a store makes of its own text.
func (f *FeedFilter) Cursor(text string) string {
	if f.NewestFirst {
		return backward + text
	}
	return text
}

// ParseCursor undoes Cursor. Newest first, "" is where the list begins.
func (f *FeedFilter) ParseCursor(cursor string) (text string, err error) {
	text, isBackward := strings.CutPrefix(cursor, backward)
	switch {
	case f.NewestFirst && (cursor == "" || cursor == FeedEnd):
		return "", nil
	case isBackward != f.NewestFirst || isBackward && (text == "" || text == FeedEnd):
		return "", ErrBadCursor
	}
	return text, nil
}

// NameCursor is the cursor after a name.
func NameCursor(name string) string { return "n" + base64.RawURLEncoding.EncodeToString([]byte(name)) }

// ParseNameCursor undoes NameCursor.
func ParseNameCursor(cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	text, ok := strings.CutPrefix(cursor, "n")
	name, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil || len(name) == 0 {
		return "", ErrBadCursor
	}
	return string(name), nil
}

// HostRank is the position of a host in a list that is not by name: the lowest number comes first, and of equal ones the name.
type HostRank struct {
	Number int64 // by ByPending, how many are pending, negative
	Host   string
}

// Compare compares positions.
func (r HostRank) Compare(other HostRank) int {
	return cmp.Or(cmp.Compare(r.Number, other.Number), strings.Compare(r.Host, other.Host))
}

// Cursor is the cursor after a host in a list of this order.
func (r HostRank) Cursor(by HostSort) string {
	return fmt.Sprintf("%s%d-%s", by, max(r.Number, -r.Number), NameCursor(r.Host))
}

// ParseHostRank undoes Cursor.
func ParseHostRank(cursor string, by HostSort) (r HostRank, err error) {
	if cursor == "" {
		return HostRank{Number: math.MinInt64}, nil
	}
	text, isOurs := strings.CutPrefix(cursor, string(by))
	number, name, _ := strings.Cut(text, "-")
	r.Number, err = strconv.ParseInt(number, 10, 64)
	if !isOurs || err != nil || r.Number < 0 || name == "" {
		return HostRank{}, ErrBadCursor
	}
	if by == ByPending {
		r.Number = -r.Number
	}
	r.Host, err = ParseNameCursor(name)
	return r, err
}

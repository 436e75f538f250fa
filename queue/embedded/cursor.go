package embedded

import (
	"encoding/base64"
	"strconv"
	"strings"

	"github.com/postrider/postrider/queue"
)

// cursor parses n numbers that are not negative, joined by "-"; an empty cursor is all zeros.
func cursor(text string, n int) ([]int64, error) {
	numbers := make([]int64, n)
	if text == "" {
		return numbers, nil
	}
	parts := strings.Split(text, "-")
	if len(parts) != n {
		return nil, queue.ErrBadCursor
	}
	for i, part := range parts {
		v, err := strconv.ParseUint(part, 10, 62)
		if err != nil {
			return nil, queue.ErrBadCursor
		}
		numbers[i] = int64(v)
	}
	return numbers, nil
}

// cursorAfter is the cursor of what comes after a name, and nameAfter the reverse.
func cursorAfter(name string) string { return "n" + base64.RawURLEncoding.EncodeToString([]byte(name)) }

func nameAfter(cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	text, ok := strings.CutPrefix(cursor, "n")
	name, err := base64.RawURLEncoding.DecodeString(text)
	if !ok || err != nil || len(name) == 0 {
		return "", queue.ErrBadCursor
	}
	return string(name), nil
}

package redisq

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

func parseCursor(cursor string) (int64, error) {
	if cursor == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(cursor, 10, 62)
	if err != nil {
		return 0, queue.ErrBadCursor
	}
	return int64(n), nil //nolint:gosec // it has 62 bits
}

// nameCursor is the cursor after a name.
func nameCursor(name string) string { return "n" + base64.RawURLEncoding.EncodeToString([]byte(name)) }

func parseNameCursor(cursor string) (string, error) {
	if cursor == "" {
		return "", nil
	}
	text, ok := strings.CutPrefix(cursor, "n")
	name, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || !ok {
		return "", queue.ErrBadCursor
	}
	return string(name), nil
}

func (l letterID) cursor() string {
	return fmt.Sprintf("%d-%x-%d", l.died, l.name, l.N)
}

func (s *reader) parseLetterCursor(cursor string) (*letterID, error) {
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

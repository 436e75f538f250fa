package redisq

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

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
	return &letterID{s.parts[n], int64(died), string(name)}, nil // it has 53 bits
}

package redisq

import (
	"encoding/binary"
	"errors"
	"math"
)

var errPacked = errors.New("it is not packed as a script would")

// unpacker reads what a script packed as MessagePack, of which it knows what scripts use. After an error all is zero.
type unpacker struct {
	text string // what is left
	err  error
}

// take returns the next n bytes.
func (u *unpacker) take(n int) string {
	if u.err != nil || n > len(u.text) {
		u.err = errPacked
		return string(make([]byte, min(n, 8)))
	}
	text := u.text[:n]
	u.text = u.text[n:]
	return text
}

// unsigned returns the next number, of n bytes.
func (u *unpacker) unsigned(n int) uint64 {
	b := append(make([]byte, 8-n), u.take(n)...)
	return binary.BigEndian.Uint64(b)
}

// kind returns the byte that says what comes.
func (u *unpacker) kind() byte { return u.take(1)[0] }

// number reads a whole number.
func (u *unpacker) number() int64 {
	switch k := u.kind(); {
	case u.err != nil:
		return 0
	case k < 0x80: // the number itself
		return int64(k)
	case k >= 0xe0: // likewise, negative
		return int64(int8(k)) // that is what it means
	case k >= 0xcc && k <= 0xcf: // unsigned, of 1 to 8 bytes
		return int64(u.unsigned(1 << (k - 0xcc))) // scripts count up to 2^53
	case k >= 0xd0 && k <= 0xd3: // signed
		shift := 64 - 8<<(k-0xd0)
		return int64(u.unsigned(1<<(k-0xd0))<<shift) >> shift // so the sign is the first bit
	case k == 0xcb:
		return int64(math.Float64frombits(u.unsigned(8)))
	}
	u.err = errPacked
	return 0
}

// string reads a text.
func (u *unpacker) string() string {
	switch k := u.kind(); {
	case u.err != nil:
		return ""
	case k >= 0xa0 && k < 0xc0:
		return u.take(int(k & 0x1f))
	case k >= 0xd9 && k <= 0xdb: // its length has 1, 2 or 4 bytes
		return u.take(int(u.unsigned(1 << (k - 0xd9)))) // take looks at it
	}
	u.err = errPacked
	return ""
}

// array reads how many values come next as an array.
func (u *unpacker) array() int {
	switch k := u.kind(); {
	case u.err != nil:
		return 0
	case k >= 0x90 && k < 0xa0:
		return int(k & 0x0f)
	case k == 0xdc || k == 0xdd:
		return int(u.unsigned(2 << (k - 0xdc))) // what is behind it is looked at
	}
	u.err = errPacked
	return 0
}

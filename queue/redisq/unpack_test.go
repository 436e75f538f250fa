package redisq

import (
	"fmt"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/testredis"
)

// TestUnpacks checks that what scripts pack is read, whatever its size.
func TestUnpacks(t *testing.T) {
	server := testredis.Start(t)
	numbers := []int64{0, 1, 127, 128, 255, 256, 65535, 65536, 1<<32 - 1, 1 << 32, 1 << 52, -1, -32, -33, -129, -40_000, -1 << 40}
	sizes := []int{0, 1, 31, 32, 255, 256, 70_000}
	text := server.Must("EVAL", fmt.Sprintf("local all = {%s} for _, n in ipairs({%s}) do all[#all + 1] = string.rep('x', n) end return cmsgpack.pack(all)",
		joined(numbers), joined(sizes)), "0")
	u := &unpacker{text: text}
	if n := u.array(); n != len(numbers)+len(sizes) {
		t.Fatalf("it has %d parts", n)
	}
	for _, want := range numbers {
		if got := u.number(); got != want {
			t.Errorf("%d is read as %d", want, got)
		}
	}
	for _, want := range sizes {
		if got := u.string(); got != strings.Repeat("x", want) {
			t.Errorf("a text of %d bytes is read as one of %d", want, len(got))
		}
	}
	if u.err != nil || u.text != "" {
		t.Errorf("%v, %d bytes are left", u.err, len(u.text))
	}
	for _, text := range []string{"", "\xa5ab", "\xdb\xff\xff\xff\xff", "\xcd\x01", "\xc0"} {
		u := &unpacker{text: text}
		if u.string(); u.err == nil {
			t.Errorf("%q is read as a text", text)
		}
		u = &unpacker{text: text}
		if u.number(); u.err == nil {
			t.Errorf("%q is read as a number", text)
		}
	}
}

func joined[T any](all []T) string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(all), " ", ","), "[]")
}

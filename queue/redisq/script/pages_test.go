package script

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/postrider/postrider/internal/testredis"
)

// pagesDriver includes or excludes texts, and returns how many it excluded. Texts that follow one another are included at once.
const pagesDriver = `
local set, n, new = {index = KEYS[1], pages = KEYS[2]}, 0, {}
for i = 1, #ARGV, 2 do
  if ARGV[i] == '+' then
    new[#new + 1] = ARGV[i + 1]
  else
    include(set, new)
    new = {}
    if exclude(set, ARGV[i + 1]) then n = n + 1 end
  end
end
include(set, new)
return n`

// TestPages checks that pages keep a set, in order and in small pages.
func TestPages(t *testing.T) {
	t.Parallel()
	server := testredis.Start(t)
	random := rand.New(rand.NewPCG(1, 2))
	want := map[string]bool{}
	for round := range 30 {
		args, excluded := []string{"EVAL", source("pages") + pagesDriver, "2", "index", "pages"}, 0
		for range 400 {
			text := fmt.Sprintf("host-%d.example", random.IntN(3000))
			switch {
			case want[text]:
				args = append(args, "-", text)
				excluded++
			case round < 25:
				args = append(args, "+", text)
			default:
				args = append(args, "-", text) // it isn't there
				continue
			}
			want[text] = !want[text]
		}
		if n := server.Must(args...); n != fmt.Sprint(excluded) {
			t.Fatalf("%s texts were excluded, want %d", n, excluded)
		}
		checkPages(t, server, want)
	}
	for text, there := range want {
		if there {
			server.Must("EVAL", source("pages")+pagesDriver, "2", "index", "pages", "-", text)
		}
	}
	if left := server.Must("DBSIZE"); left != "0" {
		t.Errorf("%s keys are left of an empty set", left)
	}
}

// checkPages checks that the pages hold what is wanted, each what belongs to it.
func checkPages(t *testing.T, server *testredis.Server, want map[string]bool) {
	t.Helper()
	var got, wanted []string
	least := strings.Split(server.Must("EVAL", `return table.concat(redis.call('ZRANGE', 'index', 0, -1), '\n')`, "0"), "\n")
	for i, first := range least {
		page := server.Must("HGET", "pages", first)
		if len(page) > 2048 {
			t.Errorf("a page has %d bytes", len(page))
		}
		for text := range strings.FieldsSeq(page) {
			if text < first || i+1 < len(least) && text >= least[i+1] {
				t.Errorf("%s is in the page of %q", text, first)
			}
			got = append(got, text)
		}
	}
	for text, there := range want {
		if there {
			wanted = append(wanted, text)
		}
	}
	slices.Sort(got)
	slices.Sort(wanted)
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Fatalf("the pages hold other texts (-want +got):\n%s", diff)
	}
}

package redisq

import (
	"regexp"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/testredis"
)

// TestShared checks that what scripts share can be taken apart: every block of it defines something.
func TestShared(t *testing.T) {
	for name := range strings.FieldsSeq(shared) {
		for block := range strings.SplitSeq(strings.TrimSpace(source(name)), "\n\n") {
			if len(defined(block)) == 0 {
				t.Errorf("%s.lua has a block that defines nothing, or a blank line within one:\n%s", name, block)
			}
		}
	}
}

func TestAssembleLeavesOut(t *testing.T) {
	if text := assemble("due", sharedBlocks()); strings.Contains(text, "function pack") || !strings.Contains(text, "function replace") {
		t.Errorf("due.lua has what it does not need, or lacks what it does:\n%s", text)
	}
	if text := assemble("due", sharedBlocks()); strings.Contains(text, "OFFERED") || !strings.Contains(text, "'ZADD', KEYS[9], ") {
		t.Errorf("due.lua has constants that are not put where they are used:\n%s", text)
	}
}

// TestRehearsesAll checks that each command of the scripts is tried when a store is opened, and that nothing stays of it.
func TestRehearsesAll(t *testing.T) {
	files, err := sources.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	tried := source("rehearse")
	for _, f := range files {
		for _, m := range regexp.MustCompile(`redis\.call\('(\w+)'`).FindAllStringSubmatch(source(strings.TrimSuffix(f.Name(), ".lua")), -1) {
			if m[1] != "TIME" && !strings.Contains(tried, "'"+m[1]+" KEY") && !strings.Contains(tried, "'"+m[1]+"', ") {
				t.Errorf("%s uses %s, which is not tried", f.Name(), m[1])
			}
		}
	}
	server := testredis.Start(t)
	openStore(t, Options{URL: server.URL(), Prefix: "p"})
	if n := server.Must("DBSIZE"); n != "1" {
		t.Errorf("an empty store has %s keys, want one", n)
	}
	server.Must("ACL", "SETUSER", "some", "on", ">secret", "~*", "&*", "+@all", "-linsert")
	url := strings.Replace(server.URL(), "://", "://some:secret@", 1)
	if _, err := Open(t.Context(), Options{URL: url, Prefix: "q"}); err == nil || !strings.Contains(err.Error(), "LINSERT: ") {
		t.Errorf("a user that may not LINSERT was let in: %v", err)
	}
}

package script

import (
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/postrider/postrider/internal/rediskeys"
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

func TestLinkLeavesOut(t *testing.T) {
	due, _ := link("due", sharedBlocks())
	if text := due.one(); strings.Contains(text, "function pack") || !strings.Contains(text, "function replace") {
		t.Errorf("due.lua has what it does not need, or lacks what it does:\n%s", text)
	}
	if text := due.one(); strings.Contains(text, "OFFERED") || !strings.Contains(text, "'ZADD', KEYS[") {
		t.Errorf("due.lua has constants that are not put where they are used:\n%s", text)
	}
}

// TestJoint checks what a script for several partitions does once for all, and what in each.
func TestJoint(t *testing.T) {
	l := &linked{text: `local now, parts = redis.call('TIME'), {now = 1, 'now'}
local wake
local function add(n)
  return {wake = now + n.wake}
end
local function none() end
if now[1] == 0 then wake = none() end
local own = add(now.now)
`, shared: map[string]bool{"now": true, "parts": true, "wake": true, "add": true, "none": true}}
	once, each, _ := strings.Cut(l.joint(), "local function work()\n")
	if want := "S.add = function(n)\n  return {wake = S.now + n.wake}\nend\nS.none = function() end\n"; !strings.Contains(once, want) {
		t.Errorf("made once are\n%swant\n%s", once, want)
	}
	want := `S.now, S.parts = redis.call('TIME'), {now = 1, 'now'}
S.wake = nil
if S.now[1] == 0 then S.wake = S.none() end
local own = S.add(S.now.now)
end
`
	if !strings.HasPrefix(each, want) {
		t.Errorf("done in each partition is\n%swant\n%s", each, want)
	}
}

// TestNoShadows checks that no variable is called as what several scripts share is: joint would take it for that.
func TestNoShadows(t *testing.T) {
	variables := regexp.MustCompile(`^\s+local (?:function )?(\w+(?:, \w+)*)|\bfor (\w+(?:, \w+)*) (?:=|in)|\bfunction *\w*\(([^)]*)\)`)
	shares := map[string]bool{}
	for file := range strings.FieldsSeq(shared) {
		for _, name := range defined(constants.ReplaceAllString(source(file), "")) {
			shares[name] = true
		}
	}
	for name, file := range paths() {
		for line := range strings.Lines(source(name)) {
			var own []string
			for _, m := range variables.FindAllStringSubmatch(line, -1) {
				own = append(own, strings.Split(m[1]+m[2]+m[3], ", ")...)
			}
			if path.Dir(file) != "lua/lib" {
				own = append(own, defined(constants.ReplaceAllString(line, ""))...)
			}
			for _, variable := range own {
				if shares[variable] {
					t.Errorf("%s: %s shadows what scripts share:\n%s", file, variable, line)
				}
			}
		}
	}
}

// TestNumber checks that keys of the partition come first, and then a script's own in the order declared.
func TestNumber(t *testing.T) {
	head := `#!lua
-- Says something of KEYS.nobody.
--
-- KEYS.activity×3 its a, b and r
-- KEYS.claim      a claim
-- KEYS.lanes…     six keys for each lane
-- ARGV.id         an ID
-- ARGV.hosts…     hosts
`
	text, keys := number("f(KEYS.activity, KEYS.claim, KEYS.lanes, KEYS.stats, KEYS.dead, KEYS.stats, ARGV.id, ARGV[ARGV.hosts + 1])", head)
	if want := "f(3, KEYS[6], 7, KEYS[2], KEYS[1], KEYS[2], ARGV[2], ARGV[3 + 1])"; text != want || !slices.Equal(keys, []string{"dead", "stats"}) {
		t.Errorf("number = %s, %q, want %s", text, keys, want)
	}
	defer func() {
		if recover() == nil {
			t.Error("a script may use an argument that it does not declare")
		}
	}()
	number("f(ARGV.name)", head)
}

// TestRules checks that scripts go by the rules of package queue: each is in one, in place of its name.
func TestRules(t *testing.T) {
	var texts strings.Builder
	for _, lua := range All() {
		texts.WriteString(lua.Text)
	}
	for name, value := range rules() {
		if !strings.Contains(texts.String(), " "+value) || strings.Contains(texts.String(), name) {
			t.Errorf("%s is not put where it is used, or nowhere used", name)
		}
	}
}

// TestKeys checks that scripts name kinds of keys that there are, and that each has a key: in a cluster that decides where
// it runs.
func TestKeys(t *testing.T) {
	for name, lua := range All() {
		for _, kind := range lua.Keys {
			if rediskeys.Types[rediskeys.Kind(kind)] == "" {
				t.Errorf("%s.lua names the key %s, which there is not", name, kind)
			}
		}
		if len(lua.Keys) == 0 && !strings.Contains(read(string(name)), "KEYS") {
			t.Errorf("%s.lua has no key", name)
		}
	}
	if due := All()["due"]; slices.Contains(due.Keys, "dead") || !slices.Contains(due.Keys, "due5") {
		t.Errorf("due.lua gets the keys %q", due.Keys)
	}
}

// TestRehearsesAll checks that each command of the scripts is tried when a store is opened.
func TestRehearsesAll(t *testing.T) {
	tried := source("trycommands")
	for name := range paths() {
		for _, m := range regexp.MustCompile(`redis\.call\('(\w+)'`).FindAllStringSubmatch(source(name), -1) {
			if m[1] != "TIME" && !strings.Contains(tried, "'"+m[1]+" KEY") && !strings.Contains(tried, "'"+m[1]+"', ") {
				t.Errorf("%s.lua uses %s, which is not tried", name, m[1])
			}
		}
	}
}

// TestUses checks that each script says what it gets from which file of lua/lib.
func TestUses(t *testing.T) {
	line := regexp.MustCompile(`(?m)^-- USES (.*)$`)
	for name, file := range paths() {
		if path.Dir(file) == "lua/lib" {
			continue
		}
		var said []string
		for _, m := range line.FindAllStringSubmatch(read(name), -1) {
			said = append(said, m[1])
		}
		if got, want := strings.Join(said, ", "), strings.Join(uses(name), ", "); got != want {
			t.Errorf("%s says that it uses %s, but it uses\n-- USES %s", file, got, want)
		}
	}
}

// uses returns what a script names of the files of lua/lib: "lane(read, now)". Constants are none of it: they are put in place.
func uses(name string) (all []string) {
	own := words(source(name))
	for file := range strings.FieldsSeq(shared) {
		used := slices.DeleteFunc(defined(constants.ReplaceAllString(source(file), "")), func(name string) bool { return !own[name] })
		if len(used) > 0 {
			all = append(all, file+"("+strings.Join(used, ", ")+")")
		}
	}
	return all
}

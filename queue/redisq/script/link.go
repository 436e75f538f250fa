package script

import (
	"embed"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/postrider/postrider/queue"
)

//go:embed lua
var files embed.FS

// shared are the files in lua/lib: every script gets what it needs of them.
const shared = "pages lane feed backlog bodies tombstones covers place marks activity give intake moved search"

// paths returns where the files are, by their names.
var paths = sync.OnceValue(func() map[string]string {
	found, err := fs.Glob(files, "lua/*/*.lua")
	if err != nil {
		panic(err) // the pattern is wrong
	}
	all := map[string]string{}
	for _, file := range found {
		all[strings.TrimSuffix(path.Base(file), ".lua")] = file
	}
	return all
})

// block is a part of a shared file.
type block struct {
	text    string
	defined []string        // names
	words   map[string]bool // in it
}

func sharedBlocks() (all []block) {
	for _, name := range strings.Fields(shared) {
		for text := range strings.SplitSeq(source(name), "\n\n") {
			all = append(all, block{text, defined(text), words(text)})
		}
	}
	return all
}

// linked is a script with what it needs of the shared files.
type linked struct {
	kind   string          // its first line
	text   string          // all else
	shared map[string]bool // names that are defined in shared files
}

// one is the script as it works in one partition.
func (l *linked) one() string { return l.kind + "\n" + l.text }

// joint is the script as it works in several partitions. What it has of the shared files are fields of a table there, so that
// the functions can be made once for all: to make them is most of what a small script costs.
func (l *linked) joint() string {
	functions, rest := partFunctions(replaceWords(l.text, func(word string) string {
		if l.shared[word] {
			return "S." + word
		}
		return word
	}))
	text := withoutComments(load("lua/joint.lua"))
	return l.kind + "\n" + strings.NewReplacer("FUNCTIONS\n", functions, "REST\n", rest).Replace(text)
}

// link makes a script of a file and what that needs of the shared ones: Redis keeps each whole in memory, and makes all its
// functions again at each call.
func link(name string, blocks []block) (_ *linked, keys []string) {
	kind, own, _ := strings.Cut(source(name), "\n")
	l := &linked{kind: kind, shared: map[string]bool{}}
	used := words(own)
	parts := []string{own}
	for _, b := range slices.Backward(blocks) { // what one needs stands before it
		if slices.ContainsFunc(b.defined, func(name string) bool { return used[name] }) {
			maps.Copy(used, b.words)
			parts = append(parts, b.text)
			for _, name := range b.defined {
				l.shared[name] = true
			}
		}
	}
	slices.Reverse(parts)
	l.text, keys = number(inline(strings.Join(parts, "\n")), read(name))
	return l, keys
}

// partFunctions assigns to fields of S what a script defines as local variables of such names, and parts the functions among
// them from all else.
func partFunctions(text string) (functions, rest string) {
	var made, others strings.Builder
	inFunction := false
	for line := range strings.Lines(text) {
		function, isFunction := strings.CutPrefix(line, "local function S.")
		field, isField := strings.CutPrefix(line, "local S.")
		switch {
		case isFunction:
			name, after, _ := strings.Cut(function, "(")
			made.WriteString("S." + name + " = function(" + after)
			inFunction = !strings.HasSuffix(line, " end\n")
		case inFunction:
			made.WriteString(line)
			inFunction = line != "end\n"
		case isField && !strings.Contains(field, " = "):
			others.WriteString("S." + strings.TrimSuffix(field, "\n") + " = nil\n")
		case isField:
			others.WriteString("S." + field)
		default:
			others.WriteString(line)
		}
	}
	return made.String(), others.String()
}

// number puts numbers where a script names keys and arguments: those of its own, which its head declares, and keys of which a
// partition has one, which come first. It returns the kinds of these.
func number(text, head string) (_ string, keys []string) {
	own := declarations(head)
	for name := range words(text) {
		kind, isKey := strings.CutPrefix(name, "KEYS.")
		if isKey && !slices.ContainsFunc(own, func(d []string) bool { return d[1] == name }) {
			keys = append(keys, kind)
		}
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	places := map[string]string{}
	next := map[string]int{"KEYS": 1, "ARGV": 2} // all have the same ARGV[1]
	place := func(name, several string) {
		list, _, _ := strings.Cut(name, ".")
		places[name] = strconv.Itoa(next[list])
		if several == "" {
			places[name] = list + "[" + places[name] + "]"
		}
		count, err := strconv.Atoi(strings.TrimPrefix(several, "×"))
		if err != nil {
			count = 1 // or all that follow
		}
		next[list] += count
	}
	for _, kind := range keys {
		place("KEYS."+kind, "")
	}
	for _, d := range own {
		place(d[1], d[2])
	}
	return replaceWords(text, func(name string) string {
		place, known := places[name]
		switch {
		case known:
			return place
		case strings.Contains(name, "."):
			panic(name + " is not declared")
		}
		return name
	}), keys
}

// inline puts constants where they are used: each that a function of a script shares with others costs time in each call.
func inline(text string) string {
	values := rules()
	var b strings.Builder
	for line := range strings.Lines(text) {
		m := constantsIn(line)
		if m == nil {
			b.WriteString(line)
			continue
		}
		of := strings.Split(m[2], ", ")
		for i, name := range strings.Split(m[1], ", ") {
			values[name] = of[i]
		}
	}
	return replaceWords(b.String(), func(name string) string {
		if value, known := values[name]; known {
			return value
		}
		return name
	})
}

// rules returns what both stores have from package queue, by how scripts call it.
func rules() map[string]string {
	pauses := []int64{queue.SeenPause(0).Milliseconds()}
	for last := queue.SeenPause(math.MaxInt).Milliseconds(); pauses[len(pauses)-1] < last; {
		pauses = append(pauses, queue.SeenPause(len(pauses)).Milliseconds())
	}
	values := map[string]string{}
	inLua := strings.NewReplacer("[", "{", " ", ", ", "]", "}")
	for name, value := range map[string]any{
		"TAKE_SHARES": queue.TakeShares, "DUE_SHARES": queue.DueShares,
		"SEEN_PAUSES": pauses, "SUPERSEDED_AFTER": queue.SupersededAfter.Milliseconds(),
		"MAKES": queue.Makes, "DELETES": queue.Deletes, "RESTORES": queue.Restores,
		"HOST_FAILED": queue.FlagHostFailed, "WAITS_KEY": queue.FlagWaitsKey, "TAKEN": queue.FlagTaken, "REVIVED": queue.FlagRevived,
	} {
		values[name] = inLua.Replace(fmt.Sprintf("%d", value))
	}
	return values
}

// source returns a file without its comments. A blank line stands between its blocks. No text in a script has "--" in it.
func source(name string) string { return withoutComments(read(name)) }

func withoutComments(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		code, _, commented := strings.Cut(line, "--")
		if commented {
			code = strings.TrimRight(code, " ")
			if code == "" {
				continue
			}
			code += "\n"
		}
		b.WriteString(code)
	}
	return b.String()
}

func read(name string) string { return load(paths()[name]) }

func load(path string) string {
	text, err := files.ReadFile(path)
	if err != nil {
		panic(err) // it is embedded
	}
	return string(text)
}

// The lines that all scripts are searched for are found by how they begin, as regular expressions are slow and all scripts are
// linked at each start.
var (
	declared   = regexp.MustCompile(`^-- ((?:KEYS|ARGV)\.\w+)(×\d+|…)?`)
	constants  = regexp.MustCompile(`(?m)^local ([A-Z_]+(?:, [A-Z_]+)*) = ((?:\d+|KEYS\.\w+)(?:, (?:\d+|KEYS\.\w+))*)\n`)
	definition = regexp.MustCompile(`^local (?:function )?(\w+(?:, \w+)*)`) // what is indented is of no concern outside
)

// declarations returns the keys and arguments that a script says are its own, each with how many it stands for.
func declarations(head string) (all [][]string) {
	for line := range strings.Lines(head) {
		if strings.HasPrefix(line, "-- KEYS.") || strings.HasPrefix(line, "-- ARGV.") {
			all = append(all, declared.FindStringSubmatch(line))
		}
	}
	return all
}

// constantsIn returns the names and the values of the constants that a line defines, or nil if it defines none.
func constantsIn(line string) []string {
	if after, local := strings.CutPrefix(line, "local "); !local || after[0] < 'A' || after[0] > 'Z' {
		return nil
	}
	return constants.FindStringSubmatch(line)
}

// words returns the words of a text but for what is quoted and the names of fields. KEYS.name and ARGV.name are words.
func words(text string) map[string]bool {
	all := map[string]bool{}
	replaceWords(text, func(word string) string {
		all[word] = true
		return word
	})
	return all
}

// replaceWords replaces the words of a text but for what is quoted and the names of fields. It is no regular expression, as
// that took most of the time.
func replaceWords(text string, replace func(word string) string) string {
	var b strings.Builder
	done := 0       // of the text, in b
	var open []byte // brackets
	for at := 0; at < len(text); {
		rest, n := text[at:], 1
		switch {
		case rest[0] == '(' || rest[0] == '[' || rest[0] == '{':
			open = append(open, rest[0])
		case rest[0] == ')' || rest[0] == ']' || rest[0] == '}':
			open = open[:len(open)-1]
		case rest[0] == '\'':
			n = quotedLen(rest)
		case strings.HasPrefix(rest, ".."):
			n = 2
		case rest[0] == '.':
			n += wordLen(rest[1:])
		case wordLen(rest) > 0:
			n = wordLen(rest)
			if list := rest[:n]; (list == "KEYS" || list == "ARGV") && strings.HasPrefix(rest[n:], ".") {
				n += 1 + wordLen(rest[n+1:])
			}
			if len(open) > 0 && open[len(open)-1] == '{' && strings.HasPrefix(rest[n:], " = ") {
				break // it names a field
			}
			if word := replace(rest[:n]); word != rest[:n] {
				b.WriteString(text[done:at])
				b.WriteString(word)
				done = at + n
			}
		}
		at += n
	}
	return b.String() + text[done:]
}

// quotedLen returns the length of the quoted string that a text begins with.
func quotedLen(text string) int {
	n := 1
	for text[n] != '\'' {
		if text[n] == '\\' {
			n++
		}
		n++
	}
	return n + 1
}

// wordLen returns the length of the word that a text begins with, or 0.
func wordLen(text string) (n int) {
	for n < len(text) && (text[n] == '_' || text[n]|0x20 >= 'a' && text[n]|0x20 <= 'z' || n > 0 && text[n] >= '0' && text[n] <= '9') {
		n++
	}
	return n
}

// defined returns the names that a block defines.
func defined(block string) (names []string) {
	for line := range strings.Lines(block) {
		if strings.HasPrefix(line, "local ") {
			names = append(names, strings.Split(definition.FindStringSubmatch(line)[1], ", ")...)
		}
	}
	return names
}

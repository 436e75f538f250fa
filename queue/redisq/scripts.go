package redisq

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

//go:embed *.lua
var sources embed.FS

// A script is a file whose first line tells of what kind it is: one that stores, one that looks, or one that only takes
// out or moves things and must still run when Redis has no room left, or a full store could never be emptied.
const (
	rehearseScript script = "rehearse"

	enqueueScript script = "enqueue"
	claimScript   script = "claim"
	stageScript   script = "stage"
	commitScript  script = "commit"
	stagedScript  script = "staged"
	releaseScript script = "release"
	unstageScript script = "unstage"

	dueScript     script = "due"
	takeScript    script = "take"
	settleScript  script = "settle"
	sweepScript   script = "sweep"
	removeScript  script = "remove"
	chooseScript  script = "choose"
	buryScript    script = "bury"
	discardScript script = "discard"
	forgetScript  script = "forget"

	actScript        script = "act"
	resetScript      script = "reset"
	reviveScript     script = "revive"
	makersScript     script = "makers"
	supersededScript script = "superseded"

	namesScript script = "names"
	hostsScript script = "hosts"
	findScript  script = "find"

	exportScript        script = "export"
	importScript        script = "import"
	importHostScript    script = "importhost"
	importReceiptScript script = "importreceipt"

	putKeyScript  script = "putkey"
	dropKeyScript script = "dropkey"
	resealScript  script = "resealkeys"
	unparkScript  script = "unpark"

	tellScript script = "tell"
)

// shared are the files of which every script gets what it needs.
const shared = "pages lane place activity intake search moved"

// script is the name of a script. It may be sent again when a connection broke before its answer: each is written so that
// running twice does as running once.
type script string

// assembled is a script as it is sent.
type assembled struct {
	*rueidis.Lua
	text string
}

// scripts returns all scripts. They are made when the first store is opened.
var scripts = sync.OnceValue(func() map[script]assembled {
	files, err := sources.ReadDir(".")
	if err != nil {
		panic(err) // they are embedded
	}
	all, blocks := map[script]assembled{}, sharedBlocks()
	for _, f := range files {
		if name := strings.TrimSuffix(f.Name(), ".lua"); !slices.Contains(strings.Fields(shared), name) {
			text := assemble(name, blocks)
			all[script(name)] = assembled{rueidis.NewLuaScriptRetryable(text), text}
		}
	}
	return all
})

// loadTimeout bounds what is done once, also on a machine that has much else to do.
const loadTimeout = 30 * time.Second

// loadScripts has a server compile all scripts, before they are needed.
func loadScripts(ctx context.Context, node rueidis.Client) error {
	ctx, cancel := context.WithTimeoutCause(ctx, loadTimeout, errSlow)
	defer cancel()
	var loads rueidis.Commands
	for _, lua := range scripts() {
		loads = append(loads, node.B().ScriptLoad().Script(lua.text).Build())
	}
	for _, result := range node.DoMulti(ctx, loads...) {
		if err := result.Error(); err != nil {
			return fmt.Errorf("load a script: %w", err)
		}
	}
	return nil
}

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

// assemble makes a script of a file and what that needs of the shared ones: Redis keeps each whole in memory, and makes
// all functions of it anew at each call.
func assemble(name string, blocks []block) string {
	kind, own, _ := strings.Cut(source(name), "\n")
	used, parts := words(own), []string{own}
	for _, b := range slices.Backward(blocks) { // what one needs stands before it
		if slices.ContainsFunc(b.defined, func(name string) bool { return used[name] }) {
			maps.Copy(used, b.words)
			parts = append(parts, b.text)
		}
	}
	slices.Reverse(parts)
	return kind + "\n" + inline(bare(strings.Join(parts, "\n")))
}

// inline puts constants where they are used: each that a function of a script shares with others costs time in each call.
func inline(text string) string {
	values := map[string]string{}
	text = constants.ReplaceAllStringFunc(text, func(line string) string {
		m := constants.FindStringSubmatch(line)
		of := strings.Split(m[2], ", ")
		for i, name := range strings.Split(m[1], ", ") {
			values[name] = of[i]
		}
		return ""
	})
	return word.ReplaceAllStringFunc(text, func(name string) string {
		if value, known := values[name]; known {
			return value
		}
		return name
	})
}

// source returns a file without its comments. A blank line stands between its blocks. No text in a script has "--" in it.
func source(name string) string {
	text, err := sources.ReadFile(name + ".lua")
	if err != nil {
		panic(err) // it is embedded
	}
	return comment.ReplaceAllString(string(text), "")
}

// bare leaves out indentation and blank lines.
func bare(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

var (
	comment    = regexp.MustCompile(`(?m)^ *--.*\n| *--.*`)
	word       = regexp.MustCompile(`[A-Za-z_]\w*`)
	constants  = regexp.MustCompile(`(?m)^local ([A-Z_]+(?:, [A-Z_]+)*) = ((?:\d+|KEYS\[\d+\])(?:, (?:\d+|KEYS\[\d+\]))*)\n`)
	definition = regexp.MustCompile(`(?m)^local (?:function )?(\w+(?:, \w+)*)`) // what is indented is of no concern outside
)

// words returns the words of a text, numbers among them.
func words(text string) map[string]bool {
	all := map[string]bool{}
	for w := range strings.FieldsFuncSeq(text, func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		all[w] = true
	}
	return all
}

// defined returns the names that a block defines.
func defined(block string) (names []string) {
	for _, m := range definition.FindAllStringSubmatch(block, -1) {
		names = append(names, strings.Split(m[1], ", ")...)
	}
	return names
}

// callTimeout bounds every call: a Redis that has stopped would hang one that has no deadline of its own.
const callTimeout = 5 * time.Second

var errSlow = errors.New("redis took too long")

// call runs a script on a partition: keys and args come after those that every script has.
func (s *Store) call(ctx context.Context, name script, p *partition, keys, args []string) (rueidis.RedisMessage, error) {
	if err := s.foreign.Load(); err != nil {
		return rueidis.RedisMessage{}, *err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	all := append(p.common[:len(p.common):len(p.common)], keys...)
	m, err := scripts()[name].Exec(ctx, s.client, all, append([]string{s.about()}, args...)).ToMessage()
	if err != nil {
		err = translate(ctx, s.diagnose(ctx, err, all))
	}
	return m, err
}

// about is the argument that every script has first; lane.lua tells of it.
func (s *Store) about() string {
	return strconv.Itoa(s.opts.Lane) + " " + s.keys.Channel()
}

// text runs a script that returns a text.
func (s *Store) text(ctx context.Context, name script, p *partition, keys, args []string) (string, error) {
	m, err := s.call(ctx, name, p, keys, args)
	if err != nil {
		return "", err
	}
	return m.ToString()
}

// texts runs a script that returns texts.
func (s *Store) texts(ctx context.Context, name script, p *partition, keys, args []string) ([]string, error) {
	m, err := s.call(ctx, name, p, keys, args)
	if err != nil {
		return nil, err
	}
	return m.AsStrSlice()
}

// number runs a script that returns a number.
func (s *Store) number(ctx context.Context, name script, p *partition, keys, args []string) (int64, error) {
	m, err := s.call(ctx, name, p, keys, args)
	if err != nil {
		return 0, err
	}
	return m.AsInt64()
}

// array runs a script that returns an array.
func (s *Store) array(ctx context.Context, name script, p *partition, keys, args []string) ([]rueidis.RedisMessage, error) {
	m, err := s.call(ctx, name, p, keys, args)
	if err != nil {
		return nil, err
	}
	return m.ToArray()
}

// do runs plain commands, all at the same time.
func (s *Store) do(ctx context.Context, commands ...rueidis.Completed) ([]rueidis.RedisMessage, error) {
	if len(commands) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	answers, keys := make([]rueidis.RedisMessage, len(commands)), make([]string, len(commands))
	for i, c := range commands {
		keys[i] = keyOf(c.Commands())
	}
	for i, r := range s.client.DoMulti(ctx, commands...) {
		m, err := r.ToMessage()
		if err != nil && !rueidis.IsRedisNil(err) {
			return nil, translate(ctx, s.diagnose(ctx, err, keys[i:i+1]))
		}
		answers[i] = m
	}
	return answers, nil
}

// keyOf returns the key of a plain command, "" if it has none.
func keyOf(command []string) string {
	if len(command) < 2 {
		return ""
	}
	return command[1]
}

// translate makes the errors of package queue of those that mean the same.
func translate(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rueidis.ErrClosing), errors.Is(err, context.Canceled) && ctx.Err() == nil: // a closed client's own context
		return queue.ErrClosed
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if re, ok := rueidis.IsRedisErr(err); ok && strings.HasPrefix(re.Error(), "OOM") {
		return fmt.Errorf("%w: %w", queue.ErrFull, err)
	}
	return err
}

package redisq

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

//go:embed *.lua
var sources embed.FS

// The kinds of script. What only takes out or moves things must still run when Redis has no room left, or a full store
// could never be emptied.
const (
	stores = "#!lua\n"
	frees  = "#!lua flags=allow-oom\n"
	looks  = "#!lua flags=no-writes\n"
)

var (
	enqueueScript = script(stores, "lane", "activity", "intake", "enqueue")
	claimScript   = script(stores, "lane", "claim")
	stageScript   = script(stores, "lane", "activity", "intake", "stage")
	commitScript  = script(frees, "lane", "commit")
	stagedScript  = script(looks, "lane", "staged")
	releaseScript = script(frees, "lane", "activity", "intake", "moved", "release")
	unstageScript = script(frees, "lane", "activity", "unstage")

	dueScript     = script(frees, "lane", "due")
	takeScript    = script(frees, "lane", "take")
	settleScript  = script(frees, "lane", "activity", "settle")
	sweepScript   = script(looks, "lane", "sweep")
	removeScript  = script(frees, "lane", "activity", "search", "remove")
	chooseScript  = script(looks, "lane", "choose")
	buryScript    = script(frees, "lane", "activity", "bury")
	discardScript = script(frees, "lane", "activity", "discard")
	forgetScript  = script(frees, "lane", "activity", "forget")

	actScript        = script(frees, "lane", "act")
	resetScript      = script(frees, "lane", "reset")
	reviveScript     = script(stores, "lane", "activity", "revive")
	makersScript     = script(looks, "lane", "makers")
	supersededScript = script(frees, "lane", "superseded")

	hostsScript = script(looks, "lane", "hosts")
	findScript  = script(looks, "lane", "activity", "search", "find")

	exportScript        = script(looks, "lane", "export")
	importScript        = script(stores, "lane", "activity", "intake", "moved", "import")
	importHostScript    = script(stores, "lane", "importhost")
	importReceiptScript = script(stores, "lane", "importreceipt")

	putKeyScript  = script(stores, "lane", "putkey")
	dropKeyScript = script(frees, "lane", "dropkey")
	resealScript  = script(stores, "lane", "resealkeys")
	unparkScript  = script(frees, "lane", "unpark")

	tellScript = script(frees, "lane", "tell")
)

// script joins files to one script. It may be sent again when a connection broke before its answer: each is written so
// that running twice does as running once.
func script(kind string, files ...string) *rueidis.Lua {
	var b strings.Builder
	b.WriteString(kind)
	for _, name := range files {
		text, err := sources.ReadFile(name + ".lua")
		if err != nil {
			panic(err) // it is embedded
		}
		b.WriteString(bare(string(text)))
	}
	return rueidis.NewLuaScriptRetryable(b.String())
}

// bare leaves out comments and indentation, which Redis would keep in memory. No text in a script has " -- " in it.
func bare(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(" "+strings.TrimSpace(line), " --")
		if line = strings.TrimSpace(line); line != "" {
			b.WriteString(line + "\n")
		}
	}
	return b.String()
}

// callTimeout bounds every call: a Redis that has stopped would hang one that has no deadline of its own.
const callTimeout = 5 * time.Second

var errSlow = errors.New("redis took too long")

// call runs a script on a partition: keys and args come after those that every script has.
func (s *Store) call(ctx context.Context, lua *rueidis.Lua, p *partition, keys, args []string) (rueidis.RedisMessage, error) {
	if err := s.foreign.Load(); err != nil {
		return rueidis.RedisMessage{}, *err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	all := append(p.common[:len(p.common):len(p.common)], keys...)
	m, err := lua.Exec(ctx, s.client, all, append([]string{s.about()}, args...)).ToMessage()
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
func (s *Store) text(ctx context.Context, lua *rueidis.Lua, p *partition, keys, args []string) (string, error) {
	m, err := s.call(ctx, lua, p, keys, args)
	if err != nil {
		return "", err
	}
	return m.ToString()
}

// texts runs a script that returns texts.
func (s *Store) texts(ctx context.Context, lua *rueidis.Lua, p *partition, keys, args []string) ([]string, error) {
	m, err := s.call(ctx, lua, p, keys, args)
	if err != nil {
		return nil, err
	}
	return m.AsStrSlice()
}

// number runs a script that returns a number.
func (s *Store) number(ctx context.Context, lua *rueidis.Lua, p *partition, keys, args []string) (int64, error) {
	m, err := s.call(ctx, lua, p, keys, args)
	if err != nil {
		return 0, err
	}
	return m.AsInt64()
}

// array runs a script that returns an array.
func (s *Store) array(ctx context.Context, lua *rueidis.Lua, p *partition, keys, args []string) ([]rueidis.RedisMessage, error) {
	m, err := s.call(ctx, lua, p, keys, args)
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
	case errors.Is(err, rueidis.ErrClosing):
		return queue.ErrClosed
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	if re, ok := rueidis.IsRedisErr(err); ok && strings.HasPrefix(re.Error(), "OOM") {
		return fmt.Errorf("%w: %w", queue.ErrFull, err)
	}
	return err
}

package redisq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// loadTimeout bounds what is done once, also on a machine that has much else to do.
const loadTimeout = 30 * time.Second

// loadScripts has a server compile all scripts, before they are needed.
func loadScripts(ctx context.Context, node rueidis.Client) error {
	ctx, cancel := context.WithTimeoutCause(ctx, loadTimeout, errSlow)
	defer cancel()
	var loads rueidis.Commands
	for _, lua := range script.All() {
		loads = append(loads, node.B().ScriptLoad().Script(lua.Text).Build())
	}
	for _, result := range node.DoMulti(ctx, loads...) {
		if err := result.Error(); err != nil {
			return fmt.Errorf("load a script: %w", err)
		}
	}
	return nil
}

// callTimeout bounds every call: a Redis that has stopped would hang one that has no deadline of its own.
const callTimeout = 5 * time.Second

var errSlow = errors.New("redis took too long")

// call runs a script on a partition: keys and args come after those that it has anyway.
func (p *partition) call(ctx context.Context, name script.Name, keys, args []string) (rueidis.RedisMessage, error) {
	one := &batchedCall{p: p, keys: keys, args: args}
	if g := p.joints[name]; g != nil {
		return g.call(ctx, one)
	}
	r := p.callEach(ctx, name, []bundle{{one}})[0]
	if r.err != nil {
		return rueidis.RedisMessage{}, r.err
	}
	return r.answers[0], nil
}

// callEach runs a script for some bundles of calls, and returns the one answer to each. Where one Redis has all partitions, one
// command does it for all.
func (s *conn) callEach(ctx context.Context, name script.Name, bundles []bundle) []result {
	results := make([]result, len(bundles))
	if err := s.foreign.Load(); err != nil {
		for i := range results {
			results[i].err = *err
		}
		return results
	}
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	lua := script.All()[name]
	allKeys := make([][]string, len(bundles))
	allArgs := make([][]string, len(bundles))
	for i, c := range bundles {
		p := c.partition()
		allKeys[i] = p.keysOf(lua, c.keys())
		allArgs[i] = append([]string{p.about()}, c.args()...)
		if lua.Places && name != script.Settle { // which says when a lane is due; a look meanwhile is made again when this node is woken
			p.agenda.put(p.N, 0)
		}
	}
	for i, r := range s.exec(ctx, lua, allKeys, allArgs) {
		m, err := r.message, r.err
		if err != nil {
			err = translate(ctx, s.diagnose(ctx, err, allKeys[i]))
		}
		results[i] = result{[]rueidis.RedisMessage{m}, err}
	}
	return results
}

// reply is what a script answered for one bundle.
type reply struct {
	message rueidis.RedisMessage
	err     error
}

// exec runs a script with the keys and arguments of each bundle.
func (s *conn) exec(ctx context.Context, lua script.Script, keys, args [][]string) []reply {
	replies := make([]reply, len(keys))
	if s.keys.Joint && len(keys) > 1 {
		return s.execJoint(ctx, lua, keys, args)
	}
	for i := range keys {
		replies[i].message, replies[i].err = lua.Exec(ctx, s.client, keys[i], args[i]).ToMessage()
	}
	return replies
}

// execJoint does so in one command.
func (s *conn) execJoint(ctx context.Context, lua script.Script, keys, args [][]string) []reply {
	var flat, sizes []string
	for i := range keys {
		flat = append(flat, keys[i]...)
		sizes = append(append(sizes, strconv.Itoa(len(keys[i])), strconv.Itoa(len(args[i]))), args[i]...)
	}
	replies := make([]reply, len(keys))
	answers, err := lua.Joint().Exec(ctx, s.client, flat, sizes).ToArray()
	for i := range replies {
		if replies[i].err = err; err == nil {
			replies[i] = unwrap(answers[i])
		}
	}
	return replies
}

// unwrap returns what joint.lua answered for one bundle.
func unwrap(m rueidis.RedisMessage) (r reply) {
	one, err := m.ToArray()
	if err == nil {
		r.message = one[0]
		err = r.message.Error()
	}
	return reply{r.message, err}
}

// about is the argument that every script has first; lane.lua tells of it.
func (p *partition) about() string {
	return strconv.Itoa(p.opts.Lane) + " " + flag(p.opts.Feed.Delivered) + " " + p.keys.Wakes(p.N)
}

// run runs a script, and reads its answer into variables; see scan.
func (p *partition) run(ctx context.Context, name script.Name, keys, args []string, into ...any) error {
	m, err := p.call(ctx, name, keys, args)
	if err != nil {
		return err
	}
	return scan(m, into...)
}

// number runs a script that returns a number.
func (p *partition) number(ctx context.Context, name script.Name, keys, args []string) (n int, err error) {
	err = p.run(ctx, name, keys, args, &n)
	return n, err
}

// read runs a plain command, and reads its answer into variables; see scan.
func (s *conn) read(ctx context.Context, command rueidis.Completed, into ...any) error {
	answers, err := s.do(ctx, command)
	if err != nil {
		return err
	}
	return scan(answers[0], into...)
}

// do runs plain commands, all at the same time.
func (s *conn) do(ctx context.Context, commands ...rueidis.Completed) ([]rueidis.RedisMessage, error) {
	if len(commands) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	answers := make([]rueidis.RedisMessage, len(commands))
	keys := make([]string, len(commands))
	for i, c := range commands {
		if words := c.Commands(); len(words) > 1 {
			keys[i] = words[1]
		}
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

// readAll runs plain commands, all at the same time, and reads each answer into a variable; see scan.
func readAll[T any](ctx context.Context, s *conn, commands []rueidis.Completed) ([]T, error) {
	answers, err := s.do(ctx, commands...)
	all := make([]T, len(answers))
	for i := 0; err == nil && i < len(answers); i++ {
		err = scan(answers[i], &all[i])
	}
	return all, err
}

// translate makes the errors of package queue of those that mean the same.
func translate(ctx context.Context, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, rueidis.ErrClosing), errors.Is(err, context.Canceled) && ctx.Err() == nil: // a closed client's own context
		return queue.ErrClosed
	case errors.Is(err, context.DeadlineExceeded):
		// The client reports a deadline that is near before the context does, which has no cause then.
		return fmt.Errorf("%w: %w", cmp.Or(context.Cause(ctx), errSlow), err)
	}
	if re, ok := rueidis.IsRedisErr(err); ok && strings.HasPrefix(re.Error(), "OOM") {
		return fmt.Errorf("%w: %w", queue.ErrFull, err)
	}
	return err
}

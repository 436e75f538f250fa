package redisq

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/redis/rueidis"
)

// A key that another program or a fault has changed stops nothing but what it holds. A delivery that cannot be sent because of
// it becomes a dead letter, queue.ReasonDamaged; if not even its activity is known, it leaves its lane. Either way a log line
// names the key and the field.

// damage is the error of a field of a key that is damaged.
type damage struct{ key, field, what string }

// Error names the key and field.
func (d *damage) Error() string {
	return fmt.Sprintf("the field %q of the key %q is damaged: %s", d.field, d.key, d.what)
}

func isBrokenKey(err error) bool {
	_, ok := errors.AsType[*brokenKey](err)
	return ok
}

// recordOf reads the record of a host. A record that cannot be read is dropped: the next turn writes one.
func (p *partition) recordOf(host, text string, epoch int64) queue.HostRecord {
	r, err := record(text, epoch)
	if err == nil {
		return r
	}
	p.logLimited("record "+host, &damage{p.Of(rediskeys.Lane, host), "r or e", err.Error()})
	return queue.HostRecord{Epoch: epoch}
}

// setAside settles taken deliveries that cannot be sent as damaged, and leaves out those that were cancelled meanwhile.
func (s *Store) setAside(ctx context.Context, p *partition, g *given) error {
	for _, t := range g.turns {
		var results []queue.Result
		t.Deliveries = slices.DeleteFunc(t.Deliveries, func(d queue.Delivery) bool {
			if d.Activity == nil {
				results = append(results, queue.Result{ID: d.ID, Verdict: queue.Dead, Reason: queue.ReasonDamaged})
			}
			return d.Activity == nil
		})
		if len(results) == 0 {
			continue
		}
		_, err := s.Settle(ctx, t.Lease, queue.Settlement{Results: results}, 0)
		if err == nil {
			err = s.logDamage(ctx, p, t.Lease.Host, results, g)
		}
		if err != nil && !errors.Is(err, queue.ErrNotHeld) {
			return err
		}
	}
	return nil
}

// logDamage writes what was set aside to the log.
func (s *Store) logDamage(ctx context.Context, p *partition, host string, results []queue.Result, g *given) error {
	names := make([]string, len(results))
	for i, r := range results {
		id, ordinal, _ := p.splitID(r.ID)
		names[i] = letterName(id, ordinal)
	}
	letters, err := p.letters(ctx, names)
	if err != nil {
		return err
	}
	for i, r := range results {
		id, _, _ := strings.Cut(r.ID, ".")
		known := cmp.Or(g.damaged[r.ID], g.damaged[id])
		if letters[i] == nil && known == nil {
			continue // it was cancelled
		}
		known = cmp.Or(known, error(&damage{p.Key(rediskeys.Bodies), g.bodies[id], "it is not the body of " + p.Of(rediskeys.Activity, id)}))
		s.log.Error("store.damaged", "error", known, "delivery", r.ID, "host", host)
	}
	return nil
}

// brokenKey is the error of a key that holds what we never put there. Nothing can be done about it here: what uses the
// key has to wait until somebody takes it away.
type brokenKey struct{ key, holds, want string }

// Error names the key and what to do.
func (b *brokenKey) Error() string {
	return fmt.Sprintf("the key %q holds a %s, which should be a %s: something else has written it; delete it", b.key, b.holds, b.want)
}

// diagnose adds to an error which key holds a value of the wrong type. It returns other errors as they are.
func (s *conn) diagnose(ctx context.Context, err error, keys []string) error {
	if re, ok := rueidis.IsRedisErr(err); !ok || !strings.HasPrefix(re.Error(), "WRONGTYPE") {
		return err
	}
	commands := make([]rueidis.Completed, len(keys))
	for i, key := range keys {
		commands[i] = s.client.B().Type().Key(key).Build()
	}
	for i, r := range s.client.DoMulti(ctx, commands...) {
		holds, failed := r.ToString()
		if want := rediskeys.TypeOf(keys[i]); failed == nil && holds != want && holds != "none" {
			return fmt.Errorf("%w: %w", &brokenKey{keys[i], holds, want}, err)
		}
	}
	return err
}

// brokenLane returns the position of the lane whose key an error is about, or -1.
func (p *partition) brokenLane(err error, hosts []string) int {
	broken, ok := errors.AsType[*brokenKey](err)
	if !ok {
		return -1
	}
	return slices.IndexFunc(hosts, func(host string) bool { return slices.Contains(p.lane(nil, host), broken.key) })
}

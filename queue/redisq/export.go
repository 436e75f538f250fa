package redisq

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unique"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// Export implements queue.Moving. It keeps some 200 bytes in memory of each pending delivery that was tried or has
// headers of its own, and 24 of each activity.
func (s *Store) Export(ctx context.Context, next func(queue.Record) error) (err error) {
	defer wrap(&err, "export")
	x := &export{s: s, next: next, details: map[deliveryKey]*detail{}}
	for _, step := range []func(context.Context) error{x.decideAll, x.keys, x.orders, x.hosts, x.activities, x.receipts} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// export is a store on its way out.
type export struct {
	s       *Store
	next    func(queue.Record) error
	details map[deliveryKey]*detail
}

// deliveryKey is a delivery: its activity, and the number in its ID.
type deliveryKey struct {
	activity uuid.UUID
	number   int64
}

// detail is what a lane holds of a delivery beyond where it goes.
type detail struct {
	due             int64 // in ms, 0: at once
	flags, attempts int
	headers         unique.Handle[string] // each text is kept once
	last            string
}

// decideAll waits until nothing is staged any more: what is accepted is in the lanes then.
func (x *export) decideAll(ctx context.Context) error {
	for {
		staged := 0
		for _, p := range x.s.parts {
			n, err := x.s.releaseStaged(ctx, p)
			if err != nil {
				return err
			}
			staged += n
		}
		if staged == 0 {
			return nil
		}
		if err := pause(ctx, claimPause); err != nil {
			return err
		}
	}
}

func (x *export) keys(ctx context.Context) error {
	for p := (queue.Page{Limit: chunk}); ; {
		list, err := x.s.Keys(ctx, queue.KeyFilter{Pinned: true}, p)
		if err != nil {
			return err
		}
		for i := range list.Items {
			if err := x.next(queue.Record{Key: &list.Items[i]}); err != nil {
				return err
			}
		}
		if p.Cursor = list.Next; p.Cursor == "" {
			return nil
		}
	}
}

// hosts exports the hosts, and keeps the details of deliveries in their lanes.
func (x *export) hosts(ctx context.Context) error {
	for after, more := "", true; more; {
		var some []string
		var err error
		if some, after, more, err = x.s.hostNames(ctx, queue.HostFilter{}, after, chunk/5); err != nil {
			return err
		}
		if err := x.someHosts(ctx, some); err != nil {
			return err
		}
	}
	return nil
}

func (x *export) someHosts(ctx context.Context, some []string) error {
	found := map[string]*queue.MovedHost{}
	for p, hosts := range x.s.byPartition(some) {
		if err := x.lanes(ctx, p, hosts, found); err != nil {
			return err
		}
	}
	for _, host := range some {
		if err := x.next(queue.Record{Host: found[host]}); err != nil {
			return err
		}
	}
	return nil
}

func (x *export) lanes(ctx context.Context, p *partition, hosts []string, found map[string]*queue.MovedHost) error {
	answer, err := x.page(ctx, p, "window", 0, hosts)
	if err != nil {
		return err
	}
	for i, m := range answer {
		h := &queue.MovedHost{Host: hosts[i]}
		var record string
		var epoch, wait, waited, changed, deep int64
		var told, orders []rueidis.RedisMessage
		if err := scan(m, &told, &record, &epoch, &orders, &wait, &waited, &h.Hastened, &changed, &deep); err != nil {
			return err
		}
		if h.Orders, err = p.movedOrders(h.Host, orders); err != nil {
			return err
		}
		h.Wait = time.Duration(wait) * time.Millisecond
		h.ChangedAt = p.lag.shown(changed)
		h.Waited = time.Duration(waited) * time.Millisecond
		h.Record = p.lag.shownRecord(p.recordOf(h.Host, record, epoch))
		found[h.Host] = h
		if err := errors.Join(x.keepDetails(p, told), x.deep(ctx, p, h.Host, deep)); err != nil {
			return err
		}
	}
	return nil
}

// page reads a page of lanes.
func (x *export) page(ctx context.Context, p *partition, which string, from int64, hosts []string) (all []rueidis.RedisMessage, err error) {
	args := []string{which, strconv.FormatInt(from, 10), strconv.Itoa(chunk)}
	err = p.run(ctx, script.Export, p.lanes(nil, hosts), append(args, hosts...), &all)
	return all, err
}

// deep reads what is in no window of a lane, which are so many deliveries in all.
func (x *export) deep(ctx context.Context, p *partition, host string, pending int64) error {
	for _, which := range []string{"behind", "0", "1", "2"} {
		for from := int64(0); from < pending; from += chunk {
			answer, err := x.page(ctx, p, which, from, []string{host})
			if err != nil {
				return err
			}
			var told []rueidis.RedisMessage
			var record string
			if err := scan(answer[0], &told, &record); err != nil {
				return err
			}
			if err := x.keepDetails(p, told); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepDetails keeps what a page of a lane says of deliveries.
func (x *export) keepDetails(p *partition, told []rueidis.RedisMessage) error {
	for _, m := range told {
		var activity, headers string
		var ordinal int64
		d := &detail{}
		if err := scan(m, &activity, &ordinal, &d.due, &d.flags, &d.attempts, &headers, &d.last); err != nil {
			return err
		}
		id, err := uuid.FromBytes([]byte(activity))
		if err != nil {
			return err
		}
		d.headers = unique.Make(headers)
		x.details[deliveryKey{id, p.numberOf(ordinal)}] = d
	}
	return nil
}

// accepted is an activity that was found, by when it was accepted, or the tombstone that it left.
type accepted struct {
	at     int64
	id     uuid.UUID
	object string // the hash of that, of a tombstone
}

func (a accepted) compare(b accepted) int { return cmp.Or(cmp.Compare(a.at, b.at), a.compareID(b)) }

func (a accepted) compareID(b accepted) int {
	return cmp.Or(slices.Compare(a.id[:], b.id[:]), strings.Compare(a.object, b.object))
}

func (x *export) activities(ctx context.Context) error {
	all, err := x.accepted(ctx)
	if err != nil {
		return err
	}
	for _, a := range all {
		r, err := x.record(ctx, a)
		if errors.Is(err, queue.ErrNotFound) {
			continue // left over of one that was dropped
		}
		if err == nil {
			err = x.next(r)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (x *export) record(ctx context.Context, a accepted) (r queue.Record, err error) {
	if a.object != "" {
		r.Tombstone, err = x.movedTombstone(ctx, a)
		return r, err
	}
	r.Activity, err = x.activity(ctx, a.id)
	return r, err
}

// accepted returns all activities and tombstones, in the order accepted.
func (x *export) accepted(ctx context.Context) (all []accepted, err error) {
	if all, err = x.tombstones(ctx); err != nil {
		return nil, err
	}
	for _, p := range x.s.parts {
		for _, kind := range []rediskeys.Kind{rediskeys.Pending, rediskeys.Done, rediskeys.Dead} {
			first := len(all)
			err := p.members(ctx, kind, func(z rueidis.ZScore) {
				all = append(all, accepted{at: int64(z.Score), id: uuid.UUID([]byte(z.Member[:16]))})
			})
			if err == nil && kind != rediskeys.Pending { // others have another time there
				err = x.whenAccepted(ctx, p, all[first:])
			}
			if err != nil {
				return nil, err
			}
		}
	}
	slices.SortFunc(all, func(a, b accepted) int { return cmp.Or(a.compareID(b), cmp.Compare(a.at, b.at)) })
	all = slices.CompactFunc(all, func(a, b accepted) bool { return a.compareID(b) == 0 })
	slices.SortFunc(all, accepted.compare)
	return all, nil
}

// whenAccepted looks when activities of a partition were accepted.
func (x *export) whenAccepted(ctx context.Context, p *partition, all []accepted) error {
	for some := range slices.Chunk(all, chunk) {
		commands := make([]rueidis.Completed, len(some))
		for i, a := range some {
			commands[i] = x.s.client.B().Hget().Key(p.Of(rediskeys.Activity, a.id.String())).Field("t").Build()
		}
		times, err := readAll[int64](ctx, x.s.conn, commands)
		if err != nil {
			return err
		}
		for i, at := range times {
			some[i].at = at // 0 if it was dropped meanwhile
		}
	}
	return nil
}

// receipts exports the claims of idempotency keys.
func (x *export) receipts(ctx context.Context) error {
	return x.s.scanKeys(ctx, rediskeys.Claim, func(keys []string) error {
		commands := make([]rueidis.Completed, 0, 2*len(keys))
		for _, key := range keys {
			commands = append(commands, x.s.client.B().Hmget().Key(key).Field("f", "h", "n", "d", "x", "s").Build(),
				x.s.client.B().Pttl().Key(key).Build())
		}
		answers, err := x.s.do(ctx, commands...)
		if err != nil {
			return err
		}
		for i, key := range keys {
			m, err := movedReceipt(key[strings.LastIndex(key, ":")+1:], answers[2*i], answers[2*i+1])
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			if m == nil {
				continue
			}
			if err := x.next(queue.Record{Receipt: m}); err != nil {
				return err
			}
		}
		return nil
	})
}

// movedReceipt reads a claim, or returns nil if it is over or not committed.
func movedReceipt(name string, claim, left rueidis.RedisMessage) (*queue.MovedReceipt, error) {
	var fingerprint, about, refused, undecided string
	var ms int64
	m := &queue.MovedReceipt{}
	err := scan(claim, &fingerprint, &about, &m.Accepted, &m.Duplicates, &refused, &undecided)
	if err == nil {
		err = scan(left, &ms)
	}
	if err != nil || about == "" || !isKey(name) || undecided != "" || ms <= 0 {
		return nil, err
	}
	m.TTL = time.Duration(ms) * time.Millisecond
	copy(m.Fingerprint[:], fingerprint)
	_, err = hex.Decode(m.Key[:], []byte(name))
	return m, errors.Join(err, completeReceipt(&m.Receipt, about, refused))
}

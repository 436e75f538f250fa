package redisq

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/lockmgr"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// Take implements queue.Lanes: a settlement of nothing begins each turn. It reads the activities that this node has not used
// lately.
func (s *Store) Take(ctx context.Context, leases []lockmgr.Lease, n int) (taken []queue.Turn, err error) {
	defer wrap(&err, "take")
	byPartition := map[*partition][]lockmgr.Lease{}
	for _, l := range leases {
		p := s.partitionOf(l.Host)
		byPartition[p] = append(byPartition[p], l)
	}
	var mu sync.Mutex
	worked := len(leases) == 0
	byHost := map[string]*queue.Turn{}
	err = s.forEach(func(p *partition) error {
		if byPartition[p] == nil {
			return nil
		}
		turns, err := s.takeFrom(ctx, p, byPartition[p], n)
		mu.Lock()
		defer mu.Unlock()
		for _, t := range turns {
			byHost[t.Lease.Host] = t
		}
		worked = worked || err == nil
		return err
	})
	if !worked { // else what can be worked with is worked with
		return nil, err
	}
	taken = make([]queue.Turn, 0, len(leases))
	for _, l := range leases {
		if t := byHost[l.Host]; t != nil {
			taken = append(taken, *t)
		}
	}
	return taken, nil
}

// given is what settle.lua gave in one partition.
type given struct {
	turns      []*queue.Turn
	bodies     map[string]string // by an activity's ID the name of its body
	superseded []string          // names of deliveries that are to be counted
	damaged    map[string]error  // by an activity's ID why nothing of it can be sent
}

func newGiven() *given { return &given{bodies: map[string]string{}, damaged: map[string]error{}} }

// takeFrom takes from lanes of one partition, but for those that are broken. After an error none of it is taken.
func (s *Store) takeFrom(ctx context.Context, p *partition, leases []lockmgr.Lease, n int) (_ []*queue.Turn, failed error) {
	calls := make([]*batchedCall, len(leases))
	for i, l := range leases {
		calls[i] = p.settlement(l, queue.Settlement{}, n, true)
	}
	p.settles.begin(calls...)
	g := newGiven()
	for i, l := range leases {
		m, err := p.settles.wait(ctx, calls[i])
		if err == nil {
			_, err = s.addTurn(p, l, m, g)
		}
		if p.brokenLane(err, []string{l.Host}) == 0 || scriptFailed(err) && !isBrokenKey(err) {
			s.logLimited(l.Host, fmt.Errorf("the lane of %s is damaged: %w", l.Host, err))
		} else if err != nil {
			failed = err
		}
	}
	if err := s.complete(ctx, p, g); failed == nil {
		failed = err
	}
	if failed != nil {
		s.endTurns(ctx, g.turns)
		return nil, failed
	}
	return g.turns, nil
}

// complete counts what is superseded, and gives the deliveries of turns all that belongs to them.
func (s *Store) complete(ctx context.Context, p *partition, g *given) error {
	s.countSuperseded(ctx, p, g.superseded)
	if err := s.fill(ctx, p, g); err != nil {
		return err
	}
	return s.setAside(ctx, p, g)
}

// addTurn reads what settle.lua answered, unless a later token has the lane. The activities have only their IDs. It returns
// the hashes of the keys that deliveries were just made to wait for.
func (s *Store) addTurn(p *partition, lease lockmgr.Lease, m rueidis.RedisMessage, g *given) (parked []string, err error) {
	if m.IsNil() {
		return nil, nil
	}
	var fed int
	var due []rueidis.RedisMessage
	var record string
	var excess bool
	var deliveries []rueidis.RedisMessage
	var superseded []string
	var epoch, now int64
	wake := int64(-1)
	t := &queue.Turn{Lease: lease}
	if err := scan(m, &fed, &excess, &deliveries, &superseded, &record, &epoch, &t.More, &now, &parked, &due, &wake); err != nil {
		return nil, err
	}
	if wake >= 0 {
		p.agenda.put(p.N, time.Since(p.start)+time.Duration(wake)*time.Millisecond)
	}
	if err := s.noteFeed(p, fed, due); err != nil {
		return nil, err
	}
	if excess {
		s.sweepIn(0)
	}
	t.Now = timeOf(now)
	if now != 0 {
		t.Host = p.recordOf(lease.Host, record, epoch)
	}
	g.turns = append(g.turns, t)
	g.superseded = append(g.superseded, superseded...)
	for _, m := range deliveries {
		d, err := p.delivery(lease.Host, m, g)
		if err != nil {
			return nil, err
		}
		t.Deliveries = append(t.Deliveries, d)
	}
	return parked, nil
}

// delivery returns one delivery that give.lua gave.
func (p *partition) delivery(host string, m rueidis.RedisMessage, g *given) (d queue.Delivery, err error) {
	var activity, rest, headers, body string
	var ordinal int64
	if err := scan(m, &activity, &ordinal, &rest, &headers, &d.Attempts, &d.Early, &body); err != nil {
		return d, err
	}
	id := uuid.UUID([]byte(activity)) // lane.lua sees to its length
	d.ID = p.deliveryID(id.String(), ordinal)
	d.Activity = &queue.Activity{ID: id.String()}
	d.Inbox = inboxOf(host, rest)
	if id == (uuid.UUID{}) { // lane.lua, damaged
		g.damaged[d.ID] = &damage{p.Of(rediskeys.Lane, host), rest, "it is no delivery"}
	} else if err := decode(headers, &d.Headers); err != nil {
		g.damaged[d.ID] = &damage{p.Of(rediskeys.Lane, host), d.ID, "its headers: " + err.Error()}
	} else {
		g.bodies[d.Activity.ID] = body
	}
	return d, nil
}

// fill gives the deliveries of turns their activities, but for those that are damaged.
func (s *Store) fill(ctx context.Context, p *partition, g *given) error {
	all := map[string]*cachedActivity{}
	var missing []string
	for id := range g.bodies {
		if all[id], _ = s.activities.get(id); all[id] == nil {
			missing = append(missing, id)
		}
	}
	if err := s.fetch(ctx, p, missing, g, all); err != nil {
		return err
	}
	var named []*queue.Delivery
	for _, t := range g.turns {
		for i := range t.Deliveries {
			d := &t.Deliveries[i]
			a := all[d.Activity.ID]
			d.Activity = nil
			if a == nil || g.damaged[d.ID] != nil {
				continue
			}
			d.Activity = &a.Activity
			if a.hasIDs {
				named = append(named, d)
			}
		}
	}
	return p.readIDs(ctx, named)
}

// readIDs gives deliveries their IDs. Those that were cancelled just now have none.
func (p *partition) readIDs(ctx context.Context, deliveries []*queue.Delivery) error {
	commands := make([]rueidis.Completed, len(deliveries))
	for i, d := range deliveries {
		_, ordinal, _ := p.splitID(d.ID) // it is one of this partition
		commands[i] = p.readListing(d.Activity.ID, ordinal)
	}
	texts, err := readAll[string](ctx, p.conn, commands)
	for i, text := range texts {
		l := readListed(0, text)
		deliveries[i].IDs = unpackIDs(l.host, l.ids)
	}
	return err
}

// readListing reads what an activity's list has of a delivery.
func (p *partition) readListing(id string, ordinal int64) rueidis.Completed {
	return p.client.B().Lindex().Key(p.Of(rediskeys.Recipients, id)).Index(ordinal).Build()
}

// cachedActivity is an activity as nodes keep it.
type cachedActivity struct {
	queue.Activity
	hasIDs bool // whether recipients have any
}

// fetch reads activities with their bodies.
func (s *Store) fetch(ctx context.Context, p *partition, ids []string, g *given, all map[string]*cachedActivity) error {
	commands := make([]rueidis.Completed, 0, 2*len(ids))
	for _, id := range ids {
		commands = append(commands, s.client.B().Hmget().Key(p.Of(rediskeys.Activity, id)).Field("m", "q", "t").Build(), p.readBody(g.bodies[id]))
	}
	answers, err := s.do(ctx, commands...)
	if err != nil {
		return err
	}
	for i, id := range ids {
		a, err := p.described(id, answers[2*i], answers[2*i+1])
		if err != nil {
			g.damaged[id] = &damage{p.Of(rediskeys.Activity, id), "m, q or t", err.Error()}
			continue
		}
		if a == nil {
			continue // it was cancelled just now, or is damaged: setAside finds out
		}
		if name := g.bodies[id]; !strings.Contains(contentHash(&a.Activity), name) {
			continue // it was cancelled just now, and another body got the name; or it is damaged
		}
		s.activities.put(id, len(a.Body), a)
		all[id] = a
	}
	return nil
}

// readBody reads the body with a name.
func (p *partition) readBody(name string) rueidis.Completed {
	return p.client.B().Hget().Key(p.Key(rediskeys.Bodies)).Field(name).Build()
}

// described returns an activity of what is stored of it, nil if its body is not there.
func (p *partition) described(id string, stored, body rueidis.RedisMessage) (*cachedActivity, error) {
	var about, text string
	var created int64
	var priority queue.Priority
	err := errors.Join(scan(stored, &about, &priority, &created), scan(body, &text))
	if err == nil && about == "" {
		err = errors.New("it is gone")
	}
	if err != nil || body.IsNil() {
		return nil, err
	}
	d, err := readDescription(about)
	if err != nil {
		return nil, err
	}
	a := cachedActivity{d.asActivity(id), d.HasIDs}
	a.Priority = priority
	a.CreatedAt = p.lag.shown(created)
	a.Body = []byte(text)
	a.Digest = sha256.Sum256(a.Body)
	return &a, nil
}

// countSuperseded has activities count deliveries that Take found superseded. If that fails, Sweep does it.
func (s *Store) countSuperseded(ctx context.Context, p *partition, names []string) {
	if _, err := s.supersede(context.WithoutCancel(ctx), p, names); err != nil {
		s.logLimited("supersede", fmt.Errorf("count what is superseded: %w", err))
		s.sweepIn(stageTTL)
	}
}

// supersede does so.
func (s *releaser) supersede(ctx context.Context, p *partition, names []string) (did int, err error) {
	for some := range slices.Chunk(names, laneChunk) {
		byActivity := map[string][]string{}
		for _, name := range some {
			byActivity[name[:16]] = append(byActivity[name[:16]], name, ordinalOf(name))
		}
		var keys, args []string
		for id, deliveries := range byActivity {
			keys = p.activity(keys, uuid.UUID([]byte(id)).String())
			args = append(append(args, strconv.Itoa(len(deliveries)/2)), deliveries...)
		}
		var n, fed int
		var due []rueidis.RedisMessage
		err = p.run(ctx, script.Supersede, keys, args, &n, &fed, &due)
		if err == nil {
			err = s.noteFeed(p, fed, due)
		}
		if did += n; err != nil {
			return did, err
		}
	}
	return did, nil
}

// endTurns ends turns that began in a call that failed. If that fails, the deliveries are taken again under a later lease.
func (s *Store) endTurns(ctx context.Context, turns []*queue.Turn) {
	for _, t := range turns {
		if _, err := s.Settle(context.WithoutCancel(ctx), t.Lease, queue.Settlement{Release: true}, 0); err != nil {
			return
		}
	}
}

package redisq

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

// Export implements queue.Moving. It keeps some 200 bytes in memory of each pending delivery that was tried or has
// headers of its own, and 24 of each activity.
func (s *Store) Export(ctx context.Context, next func(queue.Record) error) error {
	x := &export{s: s, next: next, details: map[place]*detail{}, texts: map[string]string{}}
	for _, step := range []func(context.Context) error{x.decideAll, x.keys, x.hosts, x.activities, x.receipts} {
		if err := step(ctx); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	return nil
}

// export is a store on its way out.
type export struct {
	s       *Store
	next    func(queue.Record) error
	details map[place]*detail
	texts   map[string]string // headers seen, so that each text is kept once
}

// place is a delivery: its activity, and the number in its ID.
type place struct {
	activity uuid.UUID
	number   int64
}

// detail is what a lane tells of a delivery beyond where it goes.
type detail struct {
	due             int64 // in ms, 0: at once
	flags, attempts int
	headers, last   string
}

const waitsKey = 2 // of a delivery's flags, as in lane.lua; the others that are exported are hostFailed

const hostFailed = 1

// decideAll waits until nothing is staged any more: what is accepted is in the lanes then.
func (x *export) decideAll(ctx context.Context) error {
	for {
		staged := 0
		for _, p := range x.s.parts {
			names, err := x.members(ctx, p, "staged")
			if err == nil {
				_, err = x.s.decide(ctx, p, names)
			}
			if err != nil {
				return err
			}
			staged += len(names)
		}
		if staged == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(claimPause):
		}
	}
}

// members returns the members of a set of a partition.
func (x *export) members(ctx context.Context, p *partition, kind string) (all []string, err error) {
	err = x.scores(ctx, p, kind, func(z rueidis.ZScore) { all = append(all, z.Member) })
	return all, err
}

// scores reads a set of a partition, a page at a time.
func (x *export) scores(ctx context.Context, p *partition, kind string, each func(rueidis.ZScore)) error {
	for from := int64(0); ; from += chunk {
		answers, err := x.s.do(ctx, x.s.client.B().Zrange().Key(p.Key(kind)).Min(strconv.FormatInt(from, 10)).
			Max(strconv.FormatInt(from+chunk-1, 10)).Withscores().Build())
		if err != nil {
			return err
		}
		page, err := answers[0].AsZScores()
		if err != nil {
			return err
		}
		for _, z := range page {
			each(z)
		}
		if len(page) < chunk {
			return nil
		}
	}
}

func (x *export) keys(ctx context.Context) error {
	for p := (queue.Page{Limit: chunk}); ; {
		list, err := x.s.Keys(ctx, p)
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

// hosts hands over the hosts, and keeps what their lanes tell of deliveries.
func (x *export) hosts(ctx context.Context) error {
	names, err := x.s.hostNames(ctx, "", "")
	if err != nil {
		return err
	}
	for some := range slices.Chunk(names, chunk/5) {
		byPartition := map[*partition][]string{}
		for _, host := range some {
			p := x.s.partitionOf(host)
			byPartition[p] = append(byPartition[p], host)
		}
		found := map[string]*queue.MovedHost{}
		for p, hosts := range byPartition {
			if err := x.lanes(ctx, p, hosts, found); err != nil {
				return err
			}
		}
		for _, host := range some {
			if err := x.next(queue.Record{Host: found[host]}); err != nil {
				return err
			}
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
		f, err := fields(m, 7)
		if err != nil {
			return err
		}
		h := &queue.MovedHost{
			Host: hosts[i], Paused: f[2].number != 0, Blocked: f[3].number != 0, Wait: time.Duration(f[4].number) * time.Millisecond,
		}
		if h.Record, err = record(f[0].text, f[1].number); err != nil {
			return err
		}
		found[h.Host] = h
		if err := x.learn(p, f[6].list); err != nil {
			return err
		}
		if f[5].number > 0 {
			if err := x.deep(ctx, p, h.Host, f[5].number); err != nil {
				return err
			}
		}
	}
	return nil
}

// page reads a page of lanes.
func (x *export) page(ctx context.Context, p *partition, which string, from int64, hosts []string) ([]rueidis.RedisMessage, error) {
	args := []string{which, strconv.FormatInt(from, 10), strconv.Itoa(chunk)}
	return x.s.array(ctx, exportScript, p, p.lanes(nil, hosts), append(args, hosts...))
}

// deep reads what is in no window of a lane, which are so many deliveries in all.
func (x *export) deep(ctx context.Context, p *partition, host string, pending int64) error {
	for _, which := range []string{"behind", "0", "1", "2"} {
		for from := int64(0); from < pending; from += chunk {
			answer, err := x.page(ctx, p, which, from, []string{host})
			if err != nil {
				return err
			}
			f, err := fields(answer[0], 7)
			if err != nil {
				return err
			}
			if err := x.learn(p, f[6].list); err != nil {
				return err
			}
		}
	}
	return nil
}

// learn keeps what a page of a lane tells.
func (x *export) learn(p *partition, told []rueidis.RedisMessage) error {
	for _, m := range told {
		f, err := fields(m, 7)
		if err != nil {
			return err
		}
		id, err := uuid.FromBytes([]byte(f[0].text))
		if err != nil {
			return err
		}
		headers, seen := x.texts[f[5].text]
		if !seen {
			headers = f[5].text
			x.texts[headers] = headers
		}
		x.details[place{id, x.s.place(p, f[1].number)}] = &detail{
			due: f[2].number, flags: int(f[3].number), attempts: int(f[4].number), headers: headers, last: f[6].text,
		}
	}
	return nil
}

// found activities are sorted by when they were accepted, as far as they pend.
type accepted struct {
	at int64
	id uuid.UUID
}

func (a accepted) compare(b accepted) int { return cmp.Or(cmp.Compare(a.at, b.at), a.compareID(b)) }

func (a accepted) compareID(b accepted) int { return slices.Compare(a.id[:], b.id[:]) }

func (x *export) activities(ctx context.Context) error {
	var all []accepted
	for _, p := range x.s.parts {
		for kind, pends := range map[string]bool{"pending": true, "done": false, "dead": false} {
			err := x.scores(ctx, p, kind, func(z rueidis.ZScore) {
				a := accepted{at: 1 << 62, id: uuid.UUID([]byte(z.Member[:16]))}
				if pends {
					a.at = int64(z.Score)
				}
				all = append(all, a)
			})
			if err != nil {
				return err
			}
		}
	}
	slices.SortFunc(all, func(a, b accepted) int { return cmp.Or(a.compareID(b), cmp.Compare(a.at, b.at)) })
	all = slices.CompactFunc(all, func(a, b accepted) bool { return a.id == b.id })
	slices.SortFunc(all, accepted.compare)
	for _, a := range all {
		m, err := x.activity(ctx, a.id)
		if errors.Is(err, queue.ErrNotFound) {
			continue // left over of one that was dropped
		}
		if err == nil {
			err = x.next(queue.Record{Activity: m})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// numbered is a delivery and its place in the activity.
type numbered struct {
	number int64
	queue.MovedDelivery
}

func (x *export) activity(ctx context.Context, id uuid.UUID) (*queue.MovedActivity, error) {
	text := id.String()
	parts, err := x.s.readParts(ctx, text)
	if err != nil {
		return nil, err
	}
	home, finished, pending := parts[0], int64(0), 0
	m := &queue.MovedActivity{Activity: queue.Activity{
		ID: text, URI: home.URI, Type: home.Type, KeyID: home.KeyID, OrderingKey: home.OrderingKey, CreatedAt: timeOf(home.created),
	}}
	var now int64
	var all []numbered
	for _, part := range parts {
		m.Delivered += part.counts.Delivered
		m.Dead += part.counts.Dead - part.letters
		m.Cancelled += part.counts.Cancelled
		pending += part.counts.Pending
		finished = max(finished, part.finished)
		var some []numbered
		if some, now, err = x.part(ctx, part.partition, id, m); err != nil {
			return nil, err
		}
		all = append(all, some...)
	}
	if pending == 0 {
		m.Finished = max(0, time.Duration(now-finished)*time.Millisecond)
	}
	slices.SortFunc(all, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	for _, d := range all {
		m.Deliveries = append(m.Deliveries, d.MovedDelivery)
	}
	return m, nil
}

// part reads the deliveries that a partition has of an activity, and what else there is to be known. now is Redis's
// time.
func (x *export) part(ctx context.Context, p *partition, id uuid.UUID, m *queue.MovedActivity) (all []numbered, now int64, err error) {
	b := x.s.client.B
	answers, err := x.s.do(ctx, b().Hmget().Key(p.Of("a", m.ID)).Field("q", "e").Build(), b().Get().Key(p.Of("b", m.ID)).Build())
	if err != nil {
		return nil, 0, err
	}
	about, err := fields(answers[0], 2)
	if err != nil {
		return nil, 0, err
	}
	priority, err := strconv.ParseUint(about[0].text, 10, 8)
	if err != nil {
		return nil, 0, err
	}
	expires, err := strconv.ParseInt(about[1].text, 10, 64)
	if err != nil {
		return nil, 0, err
	}
	m.Priority = queue.Priority(priority)
	if !answers[1].IsNil() && m.Body == nil {
		if m.Body, err = answers[1].AsBytes(); err != nil {
			return nil, 0, err
		}
	}
	if now, err = x.s.now(ctx); err != nil {
		return nil, 0, err
	}
	err = x.s.pages(ctx, p, m.ID, 0, func(page []listed) (bool, error) {
		some, err := x.deliveries(ctx, p, id, page, expires-now, now)
		all = append(all, some...)
		return true, err
	})
	return all, now, err
}

// deliveries completes a page of an activity's list. left is what is left of their TTL, in ms.
func (x *export) deliveries(ctx context.Context, p *partition, id uuid.UUID, page []listed, left, now int64) (all []numbered, err error) {
	for _, l := range page {
		d := numbered{x.s.place(p, l.ordinal), queue.MovedDelivery{Recipient: queue.Recipient{Host: l.host, Inbox: l.inbox}}}
		switch {
		case l.host == "":
			continue
		case l.dead:
			err = x.letter(ctx, p, letterName(id, l.ordinal), &d.MovedDelivery)
		default:
			d.TTL = time.Duration(left) * time.Millisecond
			err = x.pending(place{id, d.number}, &d.MovedDelivery, now)
		}
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

func (x *export) pending(at place, d *queue.MovedDelivery, now int64) error {
	known := x.details[at]
	if known == nil {
		return nil
	}
	delete(x.details, at)
	d.Attempts, d.HostFailed, d.WaitKey = known.attempts, known.flags&hostFailed != 0, known.flags&waitsKey != 0
	if !d.WaitKey {
		d.After = time.Duration(max(0, known.due-now)) * time.Millisecond
	}
	return errors.Join(decode(known.headers, &d.Headers), decode(known.last, &d.LastAttempt))
}

func (x *export) letter(ctx context.Context, p *partition, name string, d *queue.MovedDelivery) error {
	answers, err := x.s.do(ctx, x.s.client.B().Hget().Key(p.Key("letters")).Field(name).Build())
	if err != nil {
		return err
	}
	text, err := answers[0].ToString()
	if err != nil {
		return err
	}
	l, err := x.s.letter(p, name, text)
	if err != nil {
		return err
	}
	var parts []any
	if err := json.Unmarshal([]byte(text), &parts); err != nil {
		return err
	}
	d.Reason, d.Attempts, d.LastAttempt, d.DiedAt = l.Reason, l.Attempts, l.LastAttempt, l.DiedAt
	headers, _ := parts[2].(string) // letter checked it
	return decode(headers, &d.Headers)
}

// receipts hands over the claims of idempotency keys.
func (x *export) receipts(ctx context.Context) error {
	return x.s.scan(ctx, "claim", func(keys []string) error {
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
	f, err := fields(claim, 6)
	if err != nil {
		return nil, err
	}
	ms, err := left.AsInt64()
	if err != nil || f[1].text == "" || f[1].text == movedHead || f[5].text != "" || ms <= 0 {
		return nil, err
	}
	m := &queue.MovedReceipt{TTL: time.Duration(ms) * time.Millisecond}
	if _, err := hex.Decode(m.Key[:], []byte(name)); err != nil {
		return nil, err
	}
	copy(m.Fingerprint[:], f[0].text)
	var h head
	if err := decode(f[1].text, &h); err != nil {
		return nil, err
	}
	m.Receipt = queue.Receipt{ID: h.ID, URI: h.URI, Note: h.Note}
	if m.Accepted, err = strconv.Atoi(f[2].text); err != nil {
		return nil, err
	}
	if m.Duplicates, err = strconv.Atoi(f[3].text); err != nil {
		return nil, err
	}
	m.Refused, err = refusals(f[4].text)
	return m, err
}

// scan calls next with all keys of a kind that there is one of for each name, some at a time, from every master.
func (s *Store) scan(ctx context.Context, kind string, next func(keys []string) error) error {
	for _, node := range s.client.Nodes() {
		about, err := info(ctx, node)
		if err != nil {
			return err
		}
		if about["role"] == "slave" {
			continue
		}
		for cursor, first := uint64(0), true; first || cursor != 0; first = false {
			page, err := s.scanPage(ctx, node, kind, cursor)
			if err != nil {
				return err
			}
			if cursor = page.Cursor; len(page.Elements) == 0 {
				continue
			}
			if err := next(page.Elements); err != nil {
				return err
			}
		}
	}
	return nil
}

func (s *Store) scanPage(ctx context.Context, node rueidis.Client, kind string, cursor uint64) (rueidis.ScanEntry, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, callTimeout, errSlow)
	defer cancel()
	page, err := node.Do(ctx, node.B().Scan().Cursor(cursor).Match(s.keys.Pattern(kind)).Count(2*chunk).Build()).AsScanEntry()
	return page, translate(ctx, err)
}

const markField = "mark"

// Mark implements queue.Moving. It is a field of the key that tells the number of partitions.
func (s *Store) Mark(ctx context.Context) (queue.Mark, error) {
	key := s.parts[0].Key("meta")
	answers, err := s.do(ctx, s.client.B().Hget().Key(key).Field(markField).Build())
	if err != nil {
		return queue.Mark{}, fmt.Errorf("mark: %w", err)
	}
	if answers[0].IsNil() {
		return queue.Mark{}, nil
	}
	text, err := answers[0].ToString()
	return queue.Mark{Text: text, Remove: "redis-cli HDEL '" + key + "' " + markField}, err
}

// SetMark implements queue.Moving.
func (s *Store) SetMark(ctx context.Context, text string) error {
	key := s.parts[0].Key("meta")
	command := s.client.B().Hset().Key(key).FieldValue().FieldValue(markField, text).Build()
	if text == "" {
		command = s.client.B().Hdel().Key(key).Field(markField).Build()
	}
	if _, err := s.do(ctx, command); err != nil {
		return fmt.Errorf("set mark: %w", err)
	}
	return nil
}

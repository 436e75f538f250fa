package redisq

import (
	"context"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

// Import implements queue.Moving. Each record is a call or several: they are stored one after another.
func (s *Store) Import(ctx context.Context, records []queue.Record) (stored int, err error) {
	defer wrap(&err, "import")
	now, err := s.wallTime(ctx) // what is left of a wait is left from here on
	if err != nil {
		return 0, err
	}
	for _, r := range records {
		var isNew bool
		switch {
		case r.Key != nil:
			isNew, err = s.importKey(ctx, r.Key)
		case r.Order != nil:
			isNew, err = s.importOrder(ctx, r.Order)
		case r.Host != nil:
			isNew, err = s.importHost(ctx, r.Host)
		case r.Activity != nil:
			isNew, err = s.importActivity(ctx, r.Activity, now)
			s.sweepIn(0) // something of it may be over already
		case r.Tombstone != nil:
			isNew, err = s.importTombstone(ctx, r.Tombstone)
		case r.Receipt != nil:
			isNew, err = s.importReceipt(ctx, r.Receipt)
		}
		if err != nil {
			return stored, err
		}
		if isNew {
			stored++
		}
	}
	return stored, nil
}

func (s *keyring) importKey(ctx context.Context, k *queue.Key) (isNew bool, err error) {
	p, hash := s.keyAt(k.Name())
	created := p.lag.stored(k.CreatedAt)
	mark := stays
	commands := []rueidis.Completed{s.client.B().Zadd().Key(p.Key(rediskeys.KeyIDs)).ScoreMember().ScoreMember(0, k.Name()).Build()}
	if k.WhenIdle {
		mark = goesWhenIdle
		commands = append(commands, s.client.B().Zadd().Key(p.Key(rediskeys.Retiring)).ScoreMember().ScoreMember(float64(created), k.Name()).Build())
	}
	text := strconv.FormatInt(created, 10) + mark + toJSON(k)
	answers, err := s.do(ctx, append(commands, s.client.B().Hsetnx().Key(p.Key(rediskeys.Keys)).Field(hash).Value(text).Build())...)
	if err != nil {
		return false, err
	}
	if isNew, err = answers[len(commands)].AsBool(); err != nil || !isNew {
		return false, err
	}
	return true, s.forEach(func(p *partition) error { return p.keyCame(ctx, hash) })
}

func (s *conn) importHost(ctx context.Context, m *queue.MovedHost) (isNew bool, err error) {
	p := s.partitionOf(m.Host)
	record := p.lag.storedRecord(m.Record)
	args := []string{
		m.Host, shrinkRecord(&record), strconv.FormatInt(m.Record.Epoch, 10), strconv.Itoa(recordFlags(&m.Record)), upMillis(m.Wait),
		millis(m.Waited), strconv.Itoa(m.Hastened), strconv.FormatInt(p.lag.stored(m.ChangedAt), 10),
	}
	for _, o := range m.Orders {
		args = append(args, letters[o.Action], strconv.FormatInt(p.lag.stored(o.Since), 10))
		args = append(args, orderArgs(o.Subdomains, o.Order)...)
	}
	n, err := p.number(ctx, script.ImportHost, p.lane(nil, m.Host), args)
	return n == 1, err
}

func (s *conn) importReceipt(ctx context.Context, m *queue.MovedReceipt) (isNew bool, err error) {
	if m.TTL <= 0 {
		return false, nil
	}
	pairs := make([][2]string, len(m.Refused))
	for i, refusal := range m.Refused {
		pairs[i] = [2]string{"\n" + refusal.Inbox, string(refusal.Reason)}
	}
	name := hex.EncodeToString(m.Key[:])
	p := s.partitionOf(name)
	n, err := p.number(ctx, script.ImportReceipt, []string{p.Of(rediskeys.Claim, name)}, []string{
		string(m.Fingerprint[:]), toJSON(head{m.ID, m.URI, m.Note}), strconv.Itoa(m.Accepted), strconv.Itoa(m.Duplicates),
		encode(pairs), upMillis(m.TTL),
	})
	return n == 1, err
}

// moved stands in what is staged of an activity of another store in place of when that was claimed: its tombstone comes as a
// record of its own. In its claim it is the nonce, so that a move goes on where an earlier one was cut short.
const moved = "moved"

// past is what another store tells of an activity and its deliveries.
type past struct {
	*queue.MovedActivity
	now, expires, revivedExpire time.Time // by Redis's wall clock; the last is zero if there is none
}

// importActivity stores an activity as Enqueue stores a submission.
func (s *Store) importActivity(ctx context.Context, m *queue.MovedActivity, now time.Time) (isNew bool, err error) {
	in, err := s.newArrival(ctx, m, now)
	if err != nil {
		return false, err
	}
	r, err := in.store(ctx)
	return err == nil && !r.Replayed, err
}

// newArrival makes a submission of an activity of another store.
func (s *Store) newArrival(ctx context.Context, m *queue.MovedActivity, now time.Time) (*intake, error) {
	expires, revivedExpire := expiry(m, now)
	sub := &queue.Submission{Activity: m.Activity, TTL: expires.Sub(m.CreatedAt)}
	for _, d := range m.Deliveries {
		sub.Recipients = append(sub.Recipients, d.Recipient)
	}
	in, err := s.newIntake(ctx, sub)
	if err != nil {
		return nil, err
	}
	in.nonce = moved
	in.claimed = moved
	in.past = &past{m, now, expires, revivedExpire}
	return in, nil
}

// expiry returns when most of what pends expires, and when that does which lasts longer: it was retried, or the others were with
// a shorter TTL. The latter is zero if there is none.
func expiry(m *queue.MovedActivity, now time.Time) (most, revived time.Time) {
	var ttls []time.Duration
	for _, d := range m.Deliveries {
		if d.Reason == "" {
			ttls = append(ttls, d.TTL)
		}
	}
	if len(ttls) == 0 {
		return now, revived
	}
	first := slices.Min(ttls)
	if last := slices.Max(ttls); last > first {
		revived = now.Add(last)
	}
	return now.Add(first), revived
}

// activity returns what is told of the activity, as moved.lua has it, in MessagePack.
func (x *past) activity(l *lag) (b []byte) {
	b = packSize(nil, packArray, 6)
	for _, n := range []int64{
		l.stored(x.CreatedAt), int64(x.Delivered), int64(x.Dead), int64(x.Cancelled), l.stored(x.now.Add(-x.Finished)), l.stored(x.revivedExpire),
	} {
		b = packNumber(b, n)
	}
	return b
}

// delivery returns what is told of a delivery, likewise, but for its attempts before the last one, which are listed.
func (x *past) delivery(n int, l *lag) (_, attempts string) {
	d := &x.Deliveries[n]
	last := shrinkAttempt(d.History.Last())
	flags := int64(0)
	due := int64(0)
	for flag, is := range map[int64]bool{
		queue.FlagHostFailed: d.HostFailed, queue.FlagWaitsKey: d.WaitKey,
		queue.FlagRevived: d.Reason == "" && x.now.Add(d.TTL).After(x.expires),
	} {
		if is {
			flags |= flag
		}
	}
	isFresh := last == "" && d.Attempts == 0
	if d.After > 0 || d.After < 0 && !isFresh { // else it is due since it was accepted, as all that has no time of its own
		due = l.stored(x.now.Add(d.After + time.Millisecond - 1))
	}
	b := packNumber(packNumber(packSize(nil, packArray, 6), due), flags)
	b = packText(packText(packNumber(b, int64(d.Attempts)), last), string(d.Reason))
	return string(packNumber(b, l.stored(d.DiedAt))), pastOf(d.History)
}

// finishEarlier finishes what an earlier move that was cut short has staged of the activity: what was committed goes into its
// lanes, all else is taken back. It reports whether the activity is there.
func (in *intake) finishEarlier(ctx context.Context, all batches) (known bool, err error) {
	for p := range all {
		_, staged, err := p.claimOf(ctx, in.id)
		if err == nil && staged != "" {
			err = in.s.abandon(ctx, p, in.id)
		}
		if err == nil && staged != "" {
			_, err = in.s.decide(ctx, p, []string{string(in.id[:])})
		}
		if err != nil {
			return false, err
		}
	}
	_, known, err = in.home.readPart(ctx, in.text)
	if known && err == nil {
		err = in.s.endClaim(ctx, in.claim)
	}
	return known, err
}

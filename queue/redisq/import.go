package redisq

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// Import implements queue.Moving. Each record is a call or several: they are stored one after another.
func (s *Store) Import(ctx context.Context, records []queue.Record) (stored int, err error) {
	for _, r := range records {
		var isNew bool
		switch {
		case r.Key != nil:
			isNew, err = s.importKey(ctx, r.Key)
		case r.Host != nil:
			isNew, err = s.importHost(ctx, r.Host)
		case r.Activity != nil:
			isNew, err = s.importActivity(ctx, r.Activity)
			s.sweepIn(0) // something of it may be over already
		case r.Receipt != nil:
			isNew, err = s.importReceipt(ctx, r.Receipt)
		}
		if err != nil {
			return stored, fmt.Errorf("import: %w", err)
		}
		if isNew {
			stored++
		}
	}
	return stored, nil
}

func (s *Store) importKey(ctx context.Context, k *queue.Key) (isNew bool, err error) {
	text, err := encode(storedKey{k.ID, k.Algorithm, k.PublicPEM, k.Fingerprint, k.Sealed}, false)
	if err != nil {
		return false, err
	}
	hash := nameHash(k.ID)
	p := s.partitionOf(hash)
	text = strconv.FormatInt(k.CreatedAt.UnixMilli(), 10) + "|" + text
	answers, err := s.do(ctx, s.client.B().Zadd().Key(p.Key("keyids")).ScoreMember().ScoreMember(0, k.ID).Build(),
		s.client.B().Hsetnx().Key(p.Key("keys")).Field(hash).Value(text).Build())
	if err != nil {
		return false, err
	}
	if isNew, err = answers[1].AsBool(); err != nil || !isNew {
		return false, err
	}
	return true, s.each(func(p *partition) error { return s.keyCame(ctx, p, hash) })
}

func (s *Store) importHost(ctx context.Context, m *queue.MovedHost) (isNew bool, err error) {
	text, err := shrinkRecord(&m.Record)
	if err != nil {
		return false, err
	}
	p := s.partitionOf(m.Host)
	n, err := s.number(ctx, importHostScript, p, p.lane(nil, m.Host), []string{
		m.Host, text, strconv.FormatInt(m.Record.Epoch, 10), strconv.Itoa(recordFlags(&m.Record)), upMillis(m.Wait),
		millis(m.Waited), strconv.Itoa(m.Hastened), flag(m.Paused), flag(m.Blocked),
	})
	return n == 1, err
}

func (s *Store) importReceipt(ctx context.Context, m *queue.MovedReceipt) (isNew bool, err error) {
	if m.TTL <= 0 {
		return false, nil
	}
	about, err := encode(head{m.ID, m.URI, m.Note}, false)
	if err != nil {
		return false, err
	}
	pairs := make([][2]string, len(m.Refused))
	for i, refusal := range m.Refused {
		pairs[i] = [2]string{"\n" + refusal.Inbox, string(refusal.Reason)}
	}
	refused, err := encode(pairs, len(pairs) == 0)
	if err != nil {
		return false, err
	}
	name := hex.EncodeToString(m.Key[:])
	p := s.partitionOf(name)
	n, err := s.number(ctx, importReceiptScript, p, []string{p.Of("claim", name)}, []string{
		string(m.Fingerprint[:]), about, strconv.Itoa(m.Accepted), strconv.Itoa(m.Duplicates), refused,
		strconv.Itoa(m.Superseded), upMillis(m.TTL),
	})
	return n == 1, err
}

// movedHead is what the claim of an activity that is moved in steps has in place of a receipt's head.
const movedHead = "moved"

// arrival is an activity of another store on its way in.
type arrival struct {
	s      *Store
	m      *queue.MovedActivity
	id     uuid.UUID
	text   string // the ID as keys have it
	home   *partition
	parts  string
	claims *partition
	claim  string
	to     map[*partition][]queue.MovedDelivery

	ttl, revivedTTL time.Duration // what is left to most that pends, and to what has more; 0 if there is none
}

func (s *Store) importActivity(ctx context.Context, m *queue.MovedActivity) (isNew bool, err error) {
	in, err := s.newArrival(m)
	if err != nil {
		return false, err
	}
	if len(in.to) == 1 && len(m.Deliveries) <= laneChunk {
		n, err := in.store(ctx, in.home, m.Deliveries, "", 0)
		return n == 1, err
	}
	return in.inSteps(ctx)
}

func (s *Store) newArrival(m *queue.MovedActivity) (*arrival, error) {
	id, text, err := canonical(m.ID)
	if err != nil {
		return nil, fmt.Errorf("activity %q: %w", m.ID, err)
	}
	in := &arrival{s: s, m: m, id: id, text: text, home: s.partitionOf(text), claim: movedHead + ":" + text}
	in.claims, in.to = s.partitionOf(in.claim), map[*partition][]queue.MovedDelivery{s.partitionOf(text): nil}
	for _, d := range m.Deliveries {
		p := s.partitionOf(d.Host)
		in.to[p] = append(in.to[p], d)
	}
	var all []*partition
	for p := range in.to {
		all = append(all, p)
	}
	in.parts = joinParts(all)
	for _, d := range m.Deliveries {
		if d.Reason == "" && (in.ttl == 0 || d.TTL < in.ttl) {
			in.ttl = d.TTL
		}
	}
	for _, d := range m.Deliveries {
		if in.lastsLonger(&d) {
			in.revivedTTL = max(in.revivedTTL, d.TTL)
		}
	}
	return in, nil
}

// lastsLonger tells a delivery that outlives others of its activity: it was retried, or they were with a shorter TTL.
// Those that do expire together.
func (in *arrival) lastsLonger(d *queue.MovedDelivery) bool { return d.Reason == "" && d.TTL > in.ttl }

// inSteps stores an activity that is for several partitions, or too large for one script. See stage.lua.
func (in *arrival) inSteps(ctx context.Context) (isNew bool, err error) {
	known, err := in.finishEarlier(ctx)
	if known || err != nil {
		return false, err
	}
	if err := in.stageAndCommit(ctx); err != nil {
		return false, errors.Join(err, in.unstageAll(context.WithoutCancel(ctx)))
	}
	return true, in.releaseAll(ctx)
}

// finishEarlier looks what an earlier move left of the activity: it goes on with what was committed, and takes back what
// was not. It tells whether the activity is there.
func (in *arrival) finishEarlier(ctx context.Context) (known bool, err error) {
	_, found, err := in.s.readPart(ctx, in.home, in.text)
	if err != nil || !found {
		return false, err
	}
	answers, err := in.s.do(ctx, in.s.client.B().Hexists().Key(in.claimKeys()[0]).Field("i").Build())
	if err != nil {
		return false, err
	}
	if committed, err := answers[0].AsBool(); err != nil || committed {
		return true, errors.Join(err, in.releaseAll(ctx))
	}
	answers, err = in.s.do(ctx, in.s.client.B().Hexists().Key(in.home.Of("a", in.text)).Field("s").Build())
	if err != nil {
		return false, err
	}
	staged, err := answers[0].AsBool()
	if err != nil || !staged {
		return true, err
	}
	return false, in.unstageAll(ctx)
}

func (in *arrival) stageAndCommit(ctx context.Context) error {
	if err := in.takeClaim(ctx); err != nil {
		return err
	}
	if err := in.stage(ctx, in.home); err != nil { // first: without it nothing is staged elsewhere
		return err
	}
	if err := in.others(func(p *partition) error { return in.stage(ctx, p) }); err != nil {
		return err
	}
	return in.commit(ctx)
}

// takeClaim takes a claim as Enqueue does, so that Sweep knows what to do with what is staged.
func (in *arrival) takeClaim(ctx context.Context) error {
	a, err := in.s.array(ctx, claimScript, in.claims, in.claimKeys(), []string{movedHead, movedHead, string(in.id[:]), millis(claimTTL)})
	if err != nil {
		return err
	}
	if kind, err := a[0].ToString(); err != nil || kind != "go" {
		return errors.Join(err, fmt.Errorf("the claim %s says %q", in.claim, kind))
	}
	return nil
}

func (in *arrival) claimKeys() []string { return []string{in.claims.Of("claim", in.claim)} }

func (in *arrival) commit(ctx context.Context) error {
	ok, err := in.s.number(ctx, commitScript, in.claims, in.claimKeys(),
		[]string{string(in.id[:]), movedHead, "0", "0", "", millis(queue.IdempotencyTTL)})
	if err == nil && ok == 0 {
		err = errLapsed
	}
	return err
}

// others calls a function for each partition but the home, all at the same time.
func (in *arrival) others(call func(p *partition) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for p := range in.to {
		if p == in.home {
			continue
		}
		wg.Go(func() {
			err := call(p)
			mu.Lock()
			defer mu.Unlock()
			errs = append(errs, err)
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (in *arrival) stage(ctx context.Context, p *partition) error {
	all := in.to[p]
	for n := 0; n == 0 || n*laneChunk < len(all); n++ {
		if _, err := in.store(ctx, p, all[n*laneChunk:min(len(all), (n+1)*laneChunk)], in.claim, n); err != nil {
			return err
		}
	}
	return nil
}

// releaseAll moves what is committed into the lanes.
func (in *arrival) releaseAll(ctx context.Context) error {
	release := func(p *partition) error { return in.s.release(ctx, p, in.id) }
	if err := errors.Join(release(in.home), in.others(release)); err != nil {
		return err
	}
	return in.dropClaim(ctx)
}

// dropClaim drops the claim, which nobody asks for again once nothing is staged.
func (in *arrival) dropClaim(ctx context.Context) error {
	_, err := in.s.do(ctx, in.s.client.B().Del().Key(in.claimKeys()...).Build())
	return err
}

// unstageAll takes back what is staged, the home last.
func (in *arrival) unstageAll(ctx context.Context) error {
	if err := in.dropClaim(ctx); err != nil {
		return err
	}
	unstage := func(p *partition) error { return in.s.unstage(ctx, p, in.id) }
	if err := in.others(unstage); err != nil {
		return err
	}
	return unstage(in.home)
}

// store stores or, under a claim, stages some deliveries of the activity in a partition. n counts the calls.
func (in *arrival) store(ctx context.Context, p *partition, some []queue.MovedDelivery, claim string, n int) (int64, error) {
	args, err := in.about(p, claim, n)
	if err != nil {
		return 0, err
	}
	keys, seen := p.staging(in.text), map[string]bool{}
	for _, d := range some {
		if claim == "" && !seen[d.Host] {
			seen[d.Host], keys = true, p.lane(keys, d.Host)
		}
		if args, err = in.appendMoved(args, &d); err != nil {
			return 0, err
		}
	}
	return in.s.number(ctx, importScript, p, keys, args)
}

// about is what the script has to know of the activity.
func (in *arrival) about(p *partition, claim string, n int) ([]string, error) {
	m, parts, finished, body := in.m, "", "", ""
	d, err := encode(description{m.URI, m.Type, m.KeyID, m.OrderingKey, m.Role}, false)
	if err != nil {
		return nil, err
	}
	if p == in.home {
		parts = in.parts
	}
	if n == 0 {
		body = string(m.Body)
	}
	if !slices.ContainsFunc(m.Deliveries, func(d queue.MovedDelivery) bool { return d.Reason == "" }) {
		finished = millis(m.Finished)
	}
	return []string{
		string(in.id[:]), d, nameHash(m.URI), orderingHash(m.OrderingKey), nameHash(m.KeyID), strconv.Itoa(int(m.Priority)), upMillis(max(0, in.ttl)),
		flag(m.Role == queue.Makes), body, claim, parts, strconv.Itoa(n), strconv.FormatInt(m.CreatedAt.UnixMilli(), 10),
		strconv.Itoa(m.Delivered), strconv.Itoa(m.Dead), strconv.Itoa(m.Cancelled), finished, upMillis(in.revivedTTL),
	}, nil
}

// appendMoved appends a delivery as the script wants it.
func (in *arrival) appendMoved(args []string, d *queue.MovedDelivery) ([]string, error) {
	headers, err := encode(d.Headers, len(d.Headers) == 0)
	if err != nil {
		return nil, err
	}
	last, err := shrinkAttempt(d.LastAttempt)
	if err != nil {
		return nil, err
	}
	flags, died := 0, "0"
	if d.HostFailed {
		flags |= hostFailed
	}
	if d.WaitKey {
		flags |= waitsKey
	}
	if in.lastsLonger(d) {
		flags |= revived
	}
	if d.Reason != "" {
		died = strconv.FormatInt(d.DiedAt.UnixMilli(), 10)
	}
	return append(args, d.Host, target(d.Recipient), headers, upMillis(max(0, d.After)), strconv.Itoa(flags), strconv.Itoa(d.Attempts),
		last, string(d.Reason), died), nil
}

package redisq

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
	"github.com/postrider/postrider/queue/redisq/script"
)

const (
	chunk     = 500 // how much one call reads
	laneChunk = 100 // how many lanes, or deliveries to as many, one script changes: it holds up Redis for some milliseconds
)

// head is what a receipt has besides numbers and refusals.
type head struct {
	ID   string `json:"id"`
	URI  string `json:"uri"`
	Note []byte `json:"note,omitempty"`
}

// Enqueue implements queue.Intake.
func (s *Store) Enqueue(ctx context.Context, sub *queue.Submission) (r queue.Receipt, err error) {
	defer wrap(&err, "enqueue")
	in, err := s.newIntake(ctx, sub)
	if err != nil {
		return r, err
	}
	if r, err = in.store(ctx); err != nil {
		return queue.Receipt{}, err
	}
	s.sweepIn(sub.TTL)
	s.sweepLanes(sub)
	if r.Accepted == 0 && r.Duplicates > 0 { // it is done
		s.fed(1)
	}
	return r, nil
}

// sweepLanes has lanes looked at that a submission has come into.
func (s *Store) sweepLanes(sub *queue.Submission) {
	if s.opts.Lane > 0 || sub.Priority == queue.High { // one may hold too much now, or an unavailable one more than one
		s.sweepIn(0)
	}
}

// intake is one submission on its way in: of a client or, with a past, of another store.
type intake struct {
	s        *Store
	sub      *queue.Submission
	id       uuid.UUID
	text     string   // the ID as keys have it
	shared   []string // the arguments that describe the activity, but for its body
	ordering string   // its ordering key
	marks    string   // by what it is found
	home     *partition
	claims   *partition // where the claim is
	claim    string     // its name: the idempotency key's or, where there is none, the activity's
	print    string     // the fingerprint, "" if there is no idempotency key
	nonce    string
	claimed  string // when it was claimed, in ms
	head     string
	past     *past
}

// store stores a submission, in one script if it can.
func (in *intake) store(ctx context.Context) (queue.Receipt, error) {
	fits := in.past != nil || len(in.s.parts) == 1 // else its claim or its tombstone may be elsewhere
	if fits && len(in.sub.Recipients) <= laneChunk && !slices.ContainsFunc(in.sub.Recipients, in.isElsewhere) {
		return in.atOnce(ctx)
	}
	return in.inSteps(ctx)
}

// isElsewhere reports whether a recipient is not in the home partition.
func (in *intake) isElsewhere(r queue.Recipient) bool { return in.s.partitionOf(r.Host) != in.home }

func (s *Store) newIntake(ctx context.Context, sub *queue.Submission) (*intake, error) {
	id, err := uuid.Parse(sub.ID)
	if err != nil {
		return nil, fmt.Errorf("activity ID: %w", err)
	}
	in := &intake{s: s, sub: sub, id: id, text: id.String(), claim: id.String(), nonce: rand.Text()}
	if sub.Idempotency.Key != [32]byte{} {
		in.claim = hex.EncodeToString(sub.Idempotency.Key[:])
		in.print = string(sub.Idempotency.Fingerprint[:])
	}
	in.home = s.partitionOf(in.text)
	in.claims = s.partitionOf(in.claim)
	in.head = toJSON(head{sub.ID, sub.URI, sub.Note})
	a := sub.Activity
	if a.Refers != "" && a.OrderingKey == a.Refers {
		if a.OrderingKey, err = s.orderingKeyOf(ctx, a.Refers); err != nil {
			return nil, err
		}
	}
	in.ordering = a.OrderingKey
	in.marks = marksOf(&a)
	d := descriptionOf(&a, slices.ContainsFunc(sub.Recipients, hasIDs))
	in.shared, err = about(&a, &d, sub.TTL, contentHash(&a))
	return in, err
}

// orderingKeyOf returns the ordering key of the newest activity with a URI of which something is pending, or the URI if there is
// none. An activity that comes or ends meanwhile does so at the same time as the one that refers to it.
func (s *Store) orderingKeyOf(ctx context.Context, uri string) (key string, err error) {
	key = uri
	err = s.walk(ctx, searchFor(queue.ActivityFilter{URI: uri, State: queue.ActivityPending}), func(m match) (more bool, err error) {
		key = m.parts[0].OrderingKey
		return false, nil
	})
	return key, err
}

// isKey reports whether a claim is that of an idempotency key, which is remembered when all is done.
func isKey(claim string) bool { return len(claim) == hex.EncodedLen(len(queue.Idempotency{}.Key)) }

// Some of the arguments that describe an activity.
const (
	aboutID, aboutText           = 0, 1
	aboutOrdering, aboutKey      = 3, 4
	aboutPriority, aboutTTL      = 5, 6
	aboutObject, aboutBodyDigest = 8, 10
)

// about is the arguments that describe an activity, but for its body; see described in intake.lua.
func about(a *queue.Activity, d *description, ttl time.Duration, digest string) ([]string, error) {
	id, err := uuid.Parse(a.ID)
	if err != nil {
		return nil, err
	}
	text, err := d.text()
	return []string{
		string(id[:]), text, nameHash(a.URI), sixBytes(a.OrderingKey), nameHash(a.KeyName()), strconv.Itoa(int(a.Priority)), upMillis(ttl),
		strconv.Itoa(int(a.Role)), optionalHash(a.Object), optionalHash(a.Refers), digest, epitaph(a), marksOf(a),
	}, err
}

// lane is the recipients on one host.
type lane struct {
	host string
	to   []recipient
}

// recipient is one of them.
type recipient struct {
	path, headers string // the path as listing has it
	inbox         string // six bytes of it
	past          string // packed, "" if it has none
}

// lanes sorts the recipients by host, each host where it comes first.
func (in *intake) lanes() []lane {
	recipients := in.sub.Recipients
	all := make([]lane, 0, len(recipients))
	positions := make(map[string]int, len(recipients))
	for n, r := range recipients {
		i, known := positions[r.Host]
		if !known {
			i = len(all)
			positions[r.Host] = i
			all = append(all, lane{host: r.Host})
		}
		to := recipient{headers: encode(r.Headers), inbox: sixBytes(r.Inbox)}
		attempts := ""
		if in.past != nil {
			to.past, attempts = in.past.delivery(n, &in.s.partitionOf(r.Host).lag)
		}
		to.path = listing(target(r), attempts, packIDs(r.Host, r.IDs))
		all[i].to = append(all[i].to, to)
	}
	return all
}

// packed is lanes of a partition as scripts want them, with the chains that the recipients are in: [[host, [path, headers, chain, …]], …] in
// MessagePack. The past of each recipient, if they have one, is in a third part of its lane, and that of the activity behind all.
func (in *intake) packed(p *partition, all []lane) string {
	ordering := sixBytes(in.ordering)
	parts := 2
	if in.past != nil {
		parts = 3
	}
	b := packSize(nil, packArray, len(all))
	for _, l := range all {
		b = packSize(packText(packSize(b, packArray, parts), l.host), packArray, 3*len(l.to))
		for _, r := range l.to {
			b = packText(packText(packText(b, r.path), r.headers), chainOf(ordering, r.inbox))
		}
		if in.past == nil {
			continue
		}
		b = packSize(b, packArray, len(l.to))
		for _, r := range l.to {
			b = append(b, r.past...)
		}
	}
	if in.past != nil {
		b = append(b, in.past.activity(&p.lag)...)
	}
	return string(b)
}

func hostsOf(all []lane) []string {
	hosts := make([]string, len(all))
	for i, l := range all {
		hosts[i] = l.host
	}
	return hosts
}

// atOnce stores a submission in one script, with what others store at the time unless it has a past.
func (in *intake) atOnce(ctx context.Context) (queue.Receipt, error) {
	to := in.lanes()
	if in.isPlain() {
		if posted, err := in.post(ctx, &to[0]); posted || err != nil {
			return queue.Receipt{ID: in.sub.ID, URI: in.sub.URI, Note: in.sub.Note, Accepted: 1}, err
		}
	}
	return in.knowingOthers(ctx, in.home, func(passed string) (rueidis.RedisMessage, error) {
		if in.past != nil {
			c := in.batchedCall(to, passed)
			return in.home.call(ctx, script.ImportActivity, c.keys, c.args)
		}
		return in.home.enqueues.call(ctx, in.batchedCall(to, passed))
	})
}

// isPlain reports whether post.lua may store a submission, as far as that does not depend on what is stored.
func (in *intake) isPlain() bool {
	a := &in.sub.Activity
	return in.past == nil && in.print == "" && a.Role != queue.Deletes && a.Role != queue.Restores &&
		len(in.sub.Recipients) == 1 && len(in.sub.Recipients[0].Headers) == 0
}

// post stores a plain submission, and reports whether it did: else it meets something unusual.
func (in *intake) post(ctx context.Context, l *lane) (posted bool, err error) {
	m, err := in.home.posts.call(ctx, in.plainCall(l))
	if err == nil {
		err = scan(m, &posted)
	}
	return posted, err
}

// plainCall is a plain submission as post.lua wants it.
func (in *intake) plainCall(l *lane) *batchedCall {
	d := in.shared
	digest, to := d[aboutBodyDigest], l.to[0]
	body := digest[:nameBytes]
	chain := chainOf(d[aboutOrdering], to.inbox)
	keys := in.home.marked(in.home.activity(nil, in.text), in.marks)
	return &batchedCall{p: in.home, keys: in.home.lane(keys, l.host), args: []string{
		d[aboutID], d[aboutText], d[aboutOrdering], d[aboutKey], d[aboutPriority], d[aboutTTL], in.marks, body,
		digest + "\x00\x00\x00\x01" + string([]byte{byte(in.sub.Activity.Role)}) + d[aboutObject], string(in.sub.Body), l.host, l.host + to.path, chain,
		packNew(in.sub.Priority, d[aboutID]+chain+body, to.path),
	}}
}

// batchedCall is the submission as enqueue.lua wants it.
func (in *intake) batchedCall(to []lane, passed string) *batchedCall {
	keys := in.home.activity(nil, in.text)
	if in.print != "" {
		keys = append(keys, in.home.Of(rediskeys.Claim, in.claim))
	}
	keys = in.home.marked(keys, in.marks)
	args := append(slices.Clone(in.shared), string(in.sub.Body), in.nonce, in.print, in.head, millis(queue.IdempotencyTTL), passed, in.packed(in.home, to))
	return &batchedCall{p: in.home, apart: in.claim, keys: in.home.lanes(keys, hostsOf(to)), args: args}
}

// knowingOthers calls a script that has to know of other activities under way in a partition: passed are the IDs, joined, of
// those with the same ordering key that are not decided about yet, which may come behind this one. It does so until the script
// knows of no others, and returns the receipt. Nearly always there is none.
func (in *intake) knowingOthers(
	ctx context.Context, p *partition, call func(passed string) (rueidis.RedisMessage, error),
) (r queue.Receipt, err error) {
	for passed, start := "", time.Now(); ; {
		m, err := call(passed)
		var kind, others string
		if err == nil {
			err = scan(m, &kind, &others)
		}
		switch {
		case err != nil:
		case kind == "behind":
			passed, err = in.letPass(ctx, p, others)
		case kind == "staged":
			err = in.resolve(ctx, p, others)
		default:
			return receipt(m)
		}
		if err == nil && time.Since(start) > callTimeout {
			err = queue.ErrUnderWay
		}
		if err != nil {
			return r, err
		}
	}
}

// resolve finds out whether an activity that is staged is committed: it may still be aborted, and a submission that took
// itself for its duplicate would be lost. If two meet, the older goes on and the younger is aborted: so they don't wait for
// each other.
func (in *intake) resolve(ctx context.Context, p *partition, name string) error {
	if did, err := in.s.decide(ctx, p, []string{name}); did > 0 || err != nil {
		return err
	}
	if string(in.id[:]) < name {
		return in.s.abandon(ctx, p, uuid.UUID([]byte(name)))
	}
	return pause(ctx, claimPause)
}

// letPass moves into the lanes what is committed of activities that are staged, and returns the others.
func (in *intake) letPass(ctx context.Context, p *partition, joined string) (undecided string, err error) {
	for id := range slices.Chunk([]byte(joined), len(uuid.UUID{})) {
		did, err := in.s.decide(ctx, p, []string{string(id)})
		if err != nil {
			return "", err
		}
		if did == 0 {
			undecided += string(id)
		}
	}
	return undecided, nil
}

// receipt reads what a script tells of a submission: what became of it, head, accepted, duplicates, refused.
func receipt(m rueidis.RedisMessage) (r queue.Receipt, err error) {
	var kind, about, refused string
	if err := scan(m, &kind, &about, &r.Accepted, &r.Duplicates, &refused); err != nil {
		return r, err
	}
	if kind == "mismatch" {
		return r, queue.ErrIdempotencyMismatch
	}
	r.Replayed = kind == "known"
	err = completeReceipt(&r, about, refused)
	return r, err
}

// completeReceipt adds to a receipt its head and refusals, as they are stored.
func completeReceipt(r *queue.Receipt, about, refused string) error {
	var h head
	var pairs [][2]string
	err := errors.Join(decode(about, &h), decode(refused, &pairs))
	r.ID = h.ID
	r.URI = h.URI
	r.Note = h.Note
	for _, pair := range pairs {
		_, inbox := splitInbox(pair[0])
		r.Refused = append(r.Refused, queue.Refusal{Inbox: inbox, Reason: queue.Reason(pair[1])})
	}
	return err
}

// joinParts names partitions in one text.
func joinParts(parts []*partition) string {
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = strconv.Itoa(p.N)
	}
	return strings.Join(names, ",")
}

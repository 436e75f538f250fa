package redisq

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/queue"
)

const (
	chunk     = 500 // how much one call reads
	laneChunk = 100 // how many lanes, or deliveries to as many, one script changes: it holds up Redis for some milliseconds
)

// description is what is stored of an activity besides its body and what has a field of its own.
type description struct {
	URI         string     `json:"uri"`
	Type        string     `json:"type"`
	KeyID       string     `json:"key_id"`
	OrderingKey string     `json:"ordering_key"`
	Role        queue.Role `json:"role,omitempty"`
}

// head is what a receipt has besides numbers and refusals.
type head struct {
	ID   string `json:"id"`
	URI  string `json:"uri"`
	Note []byte `json:"note,omitempty"`
}

// Enqueue implements queue.Intake.
func (s *Store) Enqueue(ctx context.Context, sub *queue.Submission) (queue.Receipt, error) {
	in, err := s.newIntake(sub)
	if err != nil {
		return queue.Receipt{}, fmt.Errorf("enqueue: %w", err)
	}
	store := in.inSteps
	if len(s.parts) == 1 && len(sub.Recipients) <= laneChunk {
		store = in.atOnce
	}
	r, err := store(ctx)
	if err != nil {
		return queue.Receipt{}, fmt.Errorf("enqueue: %w", err)
	}
	s.sweepIn(sub.TTL)
	s.sweepLanes(sub)
	if sub.Role == queue.Deletes && r.Accepted > 0 && !r.Replayed {
		r.Superseded = in.supersede(context.WithoutCancel(ctx), r.Refused)
	}
	return r, nil
}

// sweepLanes has lanes looked at that a submission has come into.
func (s *Store) sweepLanes(sub *queue.Submission) {
	if s.opts.Lane > 0 || sub.Priority == queue.High { // one may hold too much now, or an unavailable one more than one
		s.sweepIn(0)
	}
}

// intake is one submission on its way in.
type intake struct {
	s       *Store
	sub     *queue.Submission
	id      uuid.UUID
	text    string // the ID as keys have it
	home    *partition
	claims  *partition // where the claim of the idempotency key is
	claim   string     // its name
	nonce   string
	claimed string // when it was claimed, in ms
	head    string
	shared  []string // arguments that describe the activity
}

func (s *Store) newIntake(sub *queue.Submission) (*intake, error) {
	id, err := uuid.Parse(sub.ID)
	if err != nil {
		return nil, fmt.Errorf("activity ID: %w", err)
	}
	in := &intake{s: s, sub: sub, id: id, text: id.String(), claim: hex.EncodeToString(sub.Idempotency.Key[:]), nonce: rand.Text()}
	in.home, in.claims = s.partitionOf(in.text), s.partitionOf(in.claim)
	if in.head, err = encode(head{sub.ID, sub.URI, sub.Note}, false); err != nil {
		return nil, err
	}
	d, err := encode(description{sub.URI, sub.Type, sub.KeyID, sub.OrderingKey, sub.Role}, false)
	if err != nil {
		return nil, err
	}
	in.shared = []string{
		string(id[:]), d, nameHash(sub.URI), orderingHash(sub.OrderingKey), nameHash(sub.KeyID),
		strconv.Itoa(int(sub.Priority)), upMillis(sub.TTL), flag(sub.Role == queue.Makes), string(sub.Body),
	}
	return in, nil
}

// lane is the recipients on one host.
type lane struct {
	host string
	args []string // of each "PATH" and headers
}

// lanes sorts recipients by host, each host where it comes first.
func lanes(recipients []queue.Recipient) ([]lane, error) {
	all, places := make([]lane, 0, len(recipients)), make(map[string]int, len(recipients))
	for _, r := range recipients {
		headers, err := encode(r.Headers, len(r.Headers) == 0)
		if err != nil {
			return nil, err
		}
		i, known := places[r.Host]
		if !known {
			i = len(all)
			places[r.Host] = i
			all = append(all, lane{host: r.Host})
		}
		all[i].args = append(all[i].args, target(r), headers)
	}
	return all, nil
}

// packed is the recipients as scripts want them: [[host, [path, headers, …]], …] in MessagePack.
func packed(all []lane) string {
	text := func(b []byte, s string) []byte { return append(packSize(b, packString, len(s)), s...) }
	b := packSize(nil, packArray, len(all))
	for _, l := range all {
		b = packSize(text(packSize(b, packArray, 2), l.host), packArray, len(l.args))
		for _, arg := range l.args {
			b = text(b, arg)
		}
	}
	return string(b)
}

// What stands before the size of a text and of an array, in four bytes: str 32 and array 32 of the MessagePack specification.
const packString, packArray = 0xdb, 0xdd

func packSize(b []byte, kind byte, n int) []byte {
	return binary.BigEndian.AppendUint32(append(b, kind), uint32(n)) //nolint:gosec // it is in memory
}

func hostsOf(all []lane) []string {
	hosts := make([]string, len(all))
	for i, l := range all {
		hosts[i] = l.host
	}
	return hosts
}

// atOnce stores a submission in one script, with what others store at the time.
func (in *intake) atOnce(ctx context.Context) (queue.Receipt, error) {
	to, err := lanes(in.sub.Recipients)
	if err != nil {
		return queue.Receipt{}, err
	}
	a, err := in.knowingOthers(ctx, in.home, func(o others) ([]rueidis.RedisMessage, error) {
		return in.s.intake.call(ctx, in.gathered(to, o))
	})
	if err != nil {
		return queue.Receipt{}, err
	}
	return receipt(a)
}

// gathered is the submission as enqueue.lua wants it.
func (in *intake) gathered(to []lane, o others) *gathered {
	keys := append(append(in.home.activity(nil, in.text), in.home.Of("claim", in.claim)), o.keys(in.home)...)
	args := append(slices.Clone(in.shared), in.nonce, string(in.sub.Idempotency.Fingerprint[:]), in.head,
		millis(queue.IdempotencyTTL), o.same, o.passed, packed(to))
	return &gathered{apart: in.claim, keys: in.home.lanes(keys, hostsOf(to)), args: args}
}

// others are other activities in a partition, by their IDs, joined.
type others struct {
	same   string // those of the same URI that pend
	passed string // those under way with the same ordering key that nobody was told of yet: they may come behind this one
}

// knowingOthers calls a script that has to know of other activities in a partition: as long as it says that they are
// others than it was told, or that it is not decided about one of them. Nearly always there is none.
func (in *intake) knowingOthers(
	ctx context.Context, p *partition, call func(others) ([]rueidis.RedisMessage, error),
) ([]rueidis.RedisMessage, error) {
	for o, start := (others{}), time.Now(); ; {
		a, err := call(o)
		if err != nil {
			return nil, err
		}
		switch kind, err := a[0].ToString(); {
		case err == nil && kind == "again":
			if o.same, err = a[1].ToString(); err != nil {
				return nil, err
			}
		case err == nil && kind == "behind":
			if o.passed, err = in.letPass(ctx, p, a[1]); err != nil {
				return nil, err
			}
		case err == nil && kind == "staged":
			if err := in.resolve(ctx, p, a[1]); err != nil {
				return nil, err
			}
		default:
			return a, err
		}
		if time.Since(start) > callTimeout {
			return nil, fmt.Errorf("%w: the same activity is under way", queue.ErrBusy)
		}
	}
}

// resolve looks what becomes of an activity that is staged: it may still be given up, and who had counted on it would
// have lost its deliveries. Of two that meet, the older goes on and the younger is given up, or they would wait for each
// other.
func (in *intake) resolve(ctx context.Context, p *partition, m rueidis.RedisMessage) error {
	name, err := m.ToString()
	if err != nil {
		return err
	}
	if did, err := in.s.decide(ctx, p, []string{name}); did > 0 || err != nil {
		return err
	}
	if string(in.id[:]) < name {
		return in.s.abandon(ctx, p, uuid.UUID([]byte(name)))
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(claimPause):
		return nil
	}
}

// letPass moves into the lanes what is committed of activities that are staged, and returns the others.
func (in *intake) letPass(ctx context.Context, p *partition, m rueidis.RedisMessage) (undecided string, err error) {
	joined, err := m.ToString()
	if err != nil {
		return "", err
	}
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

// keys are those of the lists of others of the same URI.
func (o others) keys(p *partition) (keys []string) {
	for id := range slices.Chunk([]byte(o.same), len(uuid.UUID{})) {
		keys = append(keys, p.Of("r", uuid.UUID(id).String()))
	}
	return keys
}

// receipt reads what a script tells of a submission: what became of it, head, accepted, duplicates, refused, cancelled.
func receipt(a []rueidis.RedisMessage) (r queue.Receipt, err error) {
	var text [6]string
	for i := range a {
		if text[i], err = asText(a[i]); err != nil {
			return r, err
		}
	}
	if text[0] == "mismatch" {
		return r, queue.ErrIdempotencyMismatch
	}
	var h head
	if err := decode(text[1], &h); err != nil {
		return r, err
	}
	r = queue.Receipt{ID: h.ID, URI: h.URI, Note: h.Note, Replayed: text[0] == "known"}
	for i, n := range map[int]*int{2: &r.Accepted, 3: &r.Duplicates, 5: &r.Superseded} {
		if *n, err = strconv.Atoi(text[i]); err != nil {
			return r, err
		}
	}
	r.Refused, err = refusals(text[4])
	return r, err
}

func refusals(text string) ([]queue.Refusal, error) {
	var pairs [][2]string
	if err := decode(text, &pairs); err != nil {
		return nil, err
	}
	var all []queue.Refusal
	for _, pair := range pairs {
		_, inbox := splitInbox(pair[0])
		all = append(all, queue.Refusal{Inbox: inbox, Reason: queue.Reason(pair[1])})
	}
	return all, nil
}

// asText returns a string or a number as text.
func asText(m rueidis.RedisMessage) (string, error) {
	if m.IsInt64() {
		n, err := m.ToInt64()
		return strconv.FormatInt(n, 10), err
	}
	return m.ToString()
}

// joinParts names partitions in one text.
func joinParts(parts []*partition) string {
	names := make([]string, len(parts))
	for i, p := range parts {
		names[i] = strconv.Itoa(p.N)
	}
	return strings.Join(names, ",")
}

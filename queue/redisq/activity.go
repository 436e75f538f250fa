package redisq

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/google/uuid"
	"github.com/redis/rueidis"

	"github.com/postrider/postrider/internal/rediskeys"
	"github.com/postrider/postrider/queue"
)

// reader shows activities, hosts and dead letters.
type reader struct {
	*conn
	*releaser
}

// part is what one partition has of an activity.
type part struct {
	*partition
	description
	counts   queue.Counts
	letters  int
	created  int64
	finished int64 // when nothing was pending here any more, 0 while something is
	parts    string
	priority queue.Priority
	staged   string // while something may not be in the lanes yet: its claim, attemptMark, and when that was taken
}

// readPart reads an activity's description and counts in a partition.
func (p *partition) readPart(ctx context.Context, id string) (a part, found bool, err error) {
	answers, err := p.do(ctx, p.partCommand(id))
	if err != nil {
		return a, false, err
	}
	return p.partOf(id, answers[0])
}

// partCommand is what partOf reads the answer of.
func (p *partition) partCommand(id string) rueidis.Completed {
	return p.client.B().Hmget().Key(p.Of(rediskeys.Activity, id)).Field("m", "t", "n", "d", "x", "c", "l", "f", "p", "s", "q").Build()
}

func (p *partition) partOf(id string, m rueidis.RedisMessage) (a part, found bool, err error) {
	about := ""
	a.partition = p
	c := &a.counts
	err = scan(m, &about, &a.created, &c.Total, &c.Delivered, &c.Dead, &c.Cancelled, &a.letters, &a.finished, &a.parts, &a.staged, &a.priority)
	if err != nil || about == "" {
		return a, false, err
	}
	c.Pending = c.Total - c.Delivered - c.Dead - c.Cancelled
	if a.description, err = readDescription(about); err != nil {
		err = &damage{p.Of(rediskeys.Activity, id), "m", err.Error()}
	}
	return a, true, err
}

// elsewhere returns the partitions, but for its home, that may have something of the activity whose home part this is.
func (a *part) elsewhere() (all []*partition, err error) {
	for name := range strings.SplitSeq(a.parts, ",") {
		n, err := strconv.Atoi(name)
		if err != nil || n >= len(a.conn.parts) {
			return nil, fmt.Errorf("partition %q: %w", name, err)
		}
		if n != a.N {
			all = append(all, a.conn.parts[n])
		}
	}
	return all, nil
}

// readParts reads an activity wherever it is, its home partition first. Deliveries are counted in each partition by
// itself and never move between them, so the sums are right at every moment.
func (s *conn) readParts(ctx context.Context, id string) ([]part, error) {
	home, found, err := s.partitionOf(id).readPart(ctx, id)
	if err != nil {
		return nil, err
	}
	if !found || home.parts == "" {
		return nil, queue.ErrNotFound
	}
	all := []part{home}
	others, err := home.elsewhere()
	if err != nil {
		return nil, err
	}
	for _, p := range others {
		a, found, err := p.readPart(ctx, id)
		if err != nil {
			return nil, err
		}
		if found {
			all = append(all, a)
		}
	}
	return all, nil
}

// readReleased reads an activity wherever it is and, if it is committed, first moves into the lanes what is not there yet.
func (s *reader) readReleased(ctx context.Context, id uuid.UUID) ([]part, error) {
	parts, err := s.readParts(ctx, id.String())
	for _, p := range parts {
		if err == nil && p.staged != "" {
			_, err = s.decide(ctx, p.partition, []string{string(id[:])})
		}
	}
	return parts, err
}

// canonical returns an activity's ID as keys have it.
func canonical(id string) (uuid.UUID, string, error) {
	u, err := uuid.Parse(id)
	if err != nil {
		return u, "", queue.ErrNotFound
	}
	return u, u.String(), nil
}

// Activity implements queue.Watching.
func (s *reader) Activity(ctx context.Context, id string) (status queue.ActivityStatus, err error) {
	defer wrap(&err, "activity "+id)
	_, text, err := canonical(id)
	if err != nil {
		return status, err
	}
	parts, err := s.readParts(ctx, text)
	if err != nil {
		return status, err
	}
	return statusOf(text, parts), nil
}

// statusOf describes an activity, whose home part is the first.
func statusOf(id string, parts []part) queue.ActivityStatus {
	home := parts[0]
	a := home.asActivity(id)
	status := queue.ActivityStatus{
		ID: id, URI: a.URI, Type: a.Type, KeyID: a.KeyID, Actor: a.Actor, Metadata: a.Metadata, CreatedAt: home.lag.shown(home.created),
	}
	for _, p := range parts {
		status.Counts.Total += p.counts.Total
		status.Counts.Pending += p.counts.Pending
		status.Counts.Delivered += p.counts.Delivered
		status.Counts.Dead += p.counts.Dead
		status.Counts.Cancelled += p.counts.Cancelled
	}
	status.State = status.Counts.State()
	return status
}

// description is what is stored of an activity besides its body and what has a field of its own. Of the activity it has URI,
// Metadata and what is in its JSON.
type description struct {
	queue.Activity        // its Actor is ownerOfKey for the ID before the # of KeyID
	Undoes         string `json:"undoes,omitempty"` // the URI of a deletion: needed until it is released
	HasIDs         bool   `json:"ids,omitempty"`    // whether recipients have any
}

const ownerOfKey = "#"

// descriptionOf returns what is stored of an activity.
func descriptionOf(a *queue.Activity, hasIDs bool) description {
	d := description{Activity: *a, HasIDs: hasIDs}
	if owner, _, ok := strings.Cut(a.KeyID, "#"); ok && owner == a.Actor {
		d.Actor = ownerOfKey
	}
	if a.Role == queue.Restores {
		d.Undoes = a.Refers
	}
	return d
}

const labelsHead = 3 + 2 // bytes with the lengths of the URI and of the metadata

var (
	errLabels      = errors.New("URI or metadata are too long")
	errDescription = errors.New("a description is not what it was written as")
)

// text returns a description as it is stored: the lengths of URI and metadata, these, and all else. Scripts copy the part
// before that, the labels, into the feed.
func (d *description) text() (string, error) {
	if len(d.URI) >= 1<<24 || len(d.Metadata) >= 1<<16 {
		return "", errLabels
	}
	lengths := binary.BigEndian.AppendUint64(nil, uint64(len(d.URI))<<16|uint64(len(d.Metadata)))
	return string(lengths[8-labelsHead:]) + d.URI + string(d.Metadata) + toJSON(d), nil
}

// readDescription undoes text.
func readDescription(text string) (d description, err error) {
	uri, metadata, rest, err := splitLabels(text)
	if err == nil {
		err = decode(rest, &d)
	}
	d.URI = uri
	d.Metadata = metadata
	return d, err
}

// splitLabels returns the URI and the metadata that a text begins with, and what is behind them.
func splitLabels(text string) (uri string, metadata []byte, rest string, err error) {
	if len(text) < labelsHead {
		return "", nil, "", errDescription
	}
	lengths := binary.BigEndian.Uint64(append(make([]byte, 8-labelsHead), text[:labelsHead]...))
	first := labelsHead + int(lengths>>16) // it has 24 bits
	second := first + int(lengths&0xffff)  // it has 16
	if len(text) < second {
		return "", nil, "", errDescription
	}
	if second > first {
		metadata = []byte(text[first:second])
	}
	return text[labelsHead:first], metadata, text[second:], nil
}

// asActivity undoes descriptionOf.
func (d *description) asActivity(id string) queue.Activity {
	a := d.Activity
	a.ID = id
	if d.Actor == ownerOfKey {
		a.Actor, _, _ = strings.Cut(d.KeyID, "#")
	}
	return a
}

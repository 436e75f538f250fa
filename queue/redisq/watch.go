package redisq

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

// part is what one partition has of an activity.
type part struct {
	*partition
	description
	counts   queue.Counts
	letters  int
	created  int64
	finished int64 // when nothing was pending here any more, 0 while something is
	parts    string
	staged   bool // something may not be in the lanes yet
}

// readPart reads an activity's description and counts in a partition.
func (s *Store) readPart(ctx context.Context, p *partition, id string) (a part, found bool, err error) {
	answers, err := s.do(ctx, s.client.B().Hmget().Key(p.Of("a", id)).Field("m", "t", "n", "d", "x", "c", "l", "f", "p", "s").Build())
	if err != nil {
		return a, false, err
	}
	f, err := fields(answers[0], 10)
	if err != nil || f[0].text == "" {
		return a, false, err
	}
	var n [7]int64
	for i := range n {
		if f[i+1].text == "" {
			continue
		}
		if n[i], err = strconv.ParseInt(f[i+1].text, 10, 64); err != nil {
			return a, false, err
		}
	}
	c := queue.Counts{Total: int(n[1]), Delivered: int(n[2]), Dead: int(n[3]), Cancelled: int(n[4])}
	c.Pending = c.Total - c.Delivered - c.Dead - c.Cancelled
	a = part{partition: p, counts: c, letters: int(n[5]), created: n[0], finished: n[6], parts: f[8].text, staged: f[9].text != ""}
	return a, true, decode(f[0].text, &a.description)
}

// readParts reads an activity wherever it is, its home partition first. Deliveries are counted in each partition by
// itself and never move between them, so the sums are right at every moment.
func (s *Store) readParts(ctx context.Context, id string) ([]part, error) {
	home, found, err := s.readPart(ctx, s.partitionOf(id), id)
	if err != nil {
		return nil, err
	}
	if !found || home.parts == "" {
		return nil, queue.ErrNotFound
	}
	all := []part{home}
	for name := range strings.SplitSeq(home.parts, ",") {
		n, err := strconv.Atoi(name)
		if err != nil || n >= len(s.parts) {
			return nil, fmt.Errorf("partition %q: %w", name, err)
		}
		if n == home.N {
			continue
		}
		a, found, err := s.readPart(ctx, s.parts[n], id)
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
func (s *Store) readReleased(ctx context.Context, id uuid.UUID) ([]part, error) {
	parts, err := s.readParts(ctx, id.String())
	for _, p := range parts {
		if err == nil && p.staged {
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
func (s *Store) Activity(ctx context.Context, id string) (queue.ActivityStatus, error) {
	_, text, err := canonical(id)
	if err != nil {
		return queue.ActivityStatus{}, fmt.Errorf("activity %s: %w", id, err)
	}
	parts, err := s.readParts(ctx, text)
	if err != nil {
		return queue.ActivityStatus{}, fmt.Errorf("activity %s: %w", id, err)
	}
	home := parts[0]
	status := queue.ActivityStatus{ID: text, URI: home.URI, Type: home.Type, KeyID: home.KeyID, CreatedAt: timeOf(home.created)}
	for _, p := range parts {
		status.Counts.Total += p.counts.Total
		status.Counts.Pending += p.counts.Pending
		status.Counts.Delivered += p.counts.Delivered
		status.Counts.Dead += p.counts.Dead
		status.Counts.Cancelled += p.counts.Cancelled
	}
	status.State = status.Counts.State()
	return status, nil
}

// Cancel implements queue.Operating.
func (s *Store) Cancel(ctx context.Context, id string) (queue.ActivityStatus, error) {
	u, text, err := canonical(id)
	if err != nil {
		return queue.ActivityStatus{}, fmt.Errorf("cancel %s: %w", id, err)
	}
	parts, err := s.readReleased(ctx, u)
	for _, p := range parts {
		if err == nil && p.counts.Pending > 0 {
			_, err = s.removeAll(ctx, p.partition, u, cancel)
		}
	}
	if err != nil {
		return queue.ActivityStatus{}, fmt.Errorf("cancel %s: %w", id, err)
	}
	s.tellStop(ctx)
	return s.Activity(ctx, text)
}

// removal says what is taken out, and what becomes of it; see remove.lua.
type removal string

const (
	cancel    removal = "cancel"
	supersede removal = "supersede"
	expire    removal = "expire"
)

// removeAll takes out what pends of an activity in a partition.
func (s *Store) removeAll(ctx context.Context, p *partition, id uuid.UUID, how removal) (removed int, err error) {
	err = s.pages(ctx, p, id.String(), 0, func(page []listed) (more bool, err error) {
		for some := range slices.Chunk(page, laneChunk) {
			hosts, args := wantPending(some)
			if len(hosts) == 0 {
				continue
			}
			n, err := s.remove(ctx, p, id, how, hosts, args)
			if removed += n; err != nil {
				return false, err
			}
		}
		return true, nil
	})
	return removed, err
}

// remove takes deliveries of an activity out of lanes; args say which, as search.lua wants it.
func (s *Store) remove(ctx context.Context, p *partition, id uuid.UUID, how removal, hosts, args []string) (removed int, err error) {
	args = append([]string{string(id[:]), string(how)}, args...)
	ordinals, err := s.array(ctx, removeScript, p, p.lanes(p.activity(nil, id.String()), hosts), args)
	if err != nil || how != expire {
		return len(ordinals), err
	}
	names := make([]string, len(ordinals))
	for i, m := range ordinals {
		ordinal, err := m.AsInt64()
		if err != nil {
			return len(ordinals), err
		}
		names[i] = letterName(id, ordinal)
	}
	s.tellDead(ctx, p, names)
	return len(ordinals), nil
}

// listed is one delivery in an activity's list.
type listed struct {
	ordinal     int64
	host, inbox string // "" once it is done
	dead        bool
}

// pages reads an activity's list from an ordinal on, and calls next for each page while that wants more.
func (s *Store) pages(ctx context.Context, p *partition, id string, from int64, next func([]listed) (more bool, err error)) error {
	for {
		answers, err := s.do(ctx, s.client.B().Lrange().Key(p.Of("r", id)).Start(from).Stop(from+chunk-1).Build())
		if err != nil {
			return err
		}
		texts, err := answers[0].AsStrSlice()
		if err != nil {
			return err
		}
		page := make([]listed, len(texts))
		for i, text := range texts {
			text, dead := strings.CutPrefix(text, "!")
			page[i] = listed{ordinal: from + int64(i), dead: dead}
			page[i].host, page[i].inbox = splitInbox(text)
		}
		if more, err := next(page); err != nil || !more || len(texts) < chunk {
			return err
		}
		from += chunk
	}
}

// wantPending returns the hosts of the deliveries in a page that pend, and what search.lua wants to know of them.
func wantPending(page []listed) (hosts, args []string) {
	ordinals := map[string][]string{}
	for _, d := range page {
		if d.host == "" || d.dead {
			continue
		}
		if ordinals[d.host] == nil {
			hosts = append(hosts, d.host)
		}
		ordinals[d.host] = append(ordinals[d.host], strconv.FormatInt(d.ordinal, 10))
	}
	for _, host := range hosts {
		args = append(append(args, host, strconv.Itoa(len(ordinals[host]))), ordinals[host]...)
	}
	return hosts, args
}

package redisq

import (
	"bytes"
	"context"
	"slices"
	"strconv"

	"github.com/google/uuid"

	"github.com/postrider/postrider/queue"
)

const backlogChunk = 2000 // deliveries of a backlog that one script looks at

// supersede cancels what the activity, just stored, makes needless, and notes in the receipt how many deliveries that
// was. What it can't is delivered, as it would have been without it.
func (in *intake) supersede(ctx context.Context, refused []queue.Refusal) int {
	n := 0
	for p, all := range in.takers(refused) {
		for hosts := range slices.Chunk(all, laneChunk) {
			some, err := in.supersedeIn(ctx, p, hosts)
			if n += some; err != nil {
				in.s.log.Warn("store.supersede_failed", "activity", in.text, "error", err)
			}
		}
	}
	if n > 0 {
		_, err := in.s.number(ctx, supersededScript, in.claims, []string{in.claims.Of("claim", in.claim)}, []string{strconv.Itoa(n)})
		if err != nil {
			in.s.log.Warn("store.supersede_failed", "activity", in.text, "error", err)
		}
	}
	return n
}

// takers returns the hosts that the activity was accepted for, by partition.
func (in *intake) takers(refused []queue.Refusal) map[*partition][]string {
	seen := map[string]bool{} // inboxes that are refused, and hosts
	for _, r := range refused {
		seen[r.Inbox] = true
	}
	hosts := map[*partition][]string{}
	for _, r := range in.sub.Recipients {
		if !seen[r.Inbox] && !seen[r.Host] {
			seen[r.Host] = true
			p := in.s.partitionOf(r.Host)
			hosts[p] = append(hosts[p], r.Host)
		}
	}
	return hosts
}

// supersedeIn does so in some lanes of a partition.
func (in *intake) supersedeIn(ctx context.Context, p *partition, hosts []string) (n int, err error) {
	for first, more := 0, true; more; first += backlogChunk {
		var found map[uuid.UUID][]listed
		if found, more, err = in.needless(ctx, p, hosts, first); err != nil {
			return n, err
		}
		for id, deliveries := range found {
			hosts, args := wantPending(deliveries)
			some, err := in.s.remove(ctx, p, id, supersede, hosts, args)
			if n += some; err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// needless returns deliveries of older activities that the activity makes needless, and whether there may be more in the
// backlogs after the part looked at.
func (in *intake) needless(ctx context.Context, p *partition, hosts []string, first int) (found map[uuid.UUID][]listed, more bool, err error) {
	const parts = 3 // of each delivery: activity, ordinal, host
	args := append([]string{orderingHash(in.sub.OrderingKey), strconv.Itoa(first), strconv.Itoa(backlogChunk)}, hosts...)
	a, err := in.s.array(ctx, makersScript, p, p.lanes(nil, hosts), args)
	if err != nil {
		return nil, false, err
	}
	found = map[uuid.UUID][]listed{}
	var text [parts]string
	for d := range slices.Chunk(a[1:], parts) {
		for i := range text {
			if text[i], err = asText(d[i]); err != nil {
				return nil, false, err
			}
		}
		id := uuid.UUID([]byte(text[0]))
		if bytes.Compare(id[:], in.id[:]) >= 0 { // IDs are in order of time
			continue
		}
		ordinal, err := strconv.ParseInt(text[1], 10, 64)
		if err != nil {
			return nil, false, err
		}
		found[id] = append(found[id], listed{ordinal: ordinal, host: text[2]})
	}
	left, err := a[0].AsInt64()
	return found, left == 1, err
}
